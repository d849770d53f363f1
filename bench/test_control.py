"""The control socket under a crowd: what it costs the ticks, and how soon a request for memory reaches an app."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

HERE = Path(__file__).parent
WATCHED_S, LONG_WATCHED_S = 10, 60
RELEASES = 200
RATE = 10_000


@contextmanager
def daemon():
    with tempfile.TemporaryDirectory(prefix="og-") as folder:
        path = f"{folder}/s"
        process = subprocess.Popen([sys.executable, str(HERE / "timed_daemon.py"), path], stdout=subprocess.PIPE)
        told = {}
        try:
            while not Path(path).exists():
                assert process.poll() is None
                time.sleep(0.05)
            yield path, told
        finally:
            process.terminate()
            out, _ = process.communicate()
        told.update(json.loads(out))


@contextmanager
def crowd(path, seconds, rate=RATE, batch_s=0.005):
    process = subprocess.Popen([sys.executable, str(HERE / "crowd.py"), path, str(seconds), str(rate), str(batch_s)],
                               stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "ready\n"
    sent = []
    yield sent
    sent.append(int(process.communicate()[0]))


def quantile(values, q):
    return sorted(values)[min(int(q * len(values)), len(values) - 1)]


@pytest.fixture(scope="module")
def quiet(request):
    """Ticks of a daemon that nobody speaks to, at the same cadence, in the same minute."""
    with daemon() as (_path, told):
        time.sleep(LONG_WATCHED_S if request.config.getoption("--long") else WATCHED_S)
    return told


@pytest.mark.parametrize(("name", "batch_s"), [("in a stream", 0.005), ("in bursts of 1,000", 0.1)])
def test_a_crowd_does_not_delay_ticks(name, batch_s, quiet, benchmark, figure, is_long):
    seconds = LONG_WATCHED_S if is_long else WATCHED_S

    def run():
        with daemon() as (path, told), crowd(path, seconds, batch_s=batch_s) as sent:
            time.sleep(0)
        return told, sent[0]
    told, sent = benchmark.pedantic(run, rounds=1)
    crowded = int(len(told["late_us"]) * seconds / (seconds + 2))       # the last ones: the crowd had gathered by then
    late_us, took_us = told["late_us"][-crowded:], told["took_us"][-crowded:]
    how = f"1,000 hooks, 100 subscribers, {sent} messages/s sent; a system target at 20 Hz"
    figure(f"a tick held up by {RATE} messages/s {name}, p99", quantile(told["held_us"][-crowded:], 0.99), "us",
           at_most=1000, how=how + "; the daemon's own CPU time")
    figure(f"a tick held up by {RATE} messages/s {name}, most", max(told["held_us"][-crowded:]), "us")
    for q in (0.5, 0.99):
        delay_us = quantile(late_us, q) - quantile(quiet["late_us"], q)
        figure(f"ticks begin later by, {RATE} messages/s {name}, p{100 * q:.0f}", delay_us, "us",
               how=how + "; on the clock, so the neighbours and the crowd's own CPU time count")
        longer_us = quantile(took_us, q) - quantile(quiet["took_us"], q)
        figure(f"ticks take longer by, {RATE} messages/s {name}, p{100 * q:.0f}", longer_us, "us", how=how)
    figure("lateness of a quiet daemon's ticks, p99", quantile(quiet["late_us"], 0.99), "us")


class App:
    """A client that reads line by line."""

    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.connect(path)
        self.file = self.socket.makefile("rb")

    def say(self, **message):
        self.socket.sendall(json.dumps(message).encode() + b"\n")

    def hear(self):
        return json.loads(self.file.readline())

    def close(self):
        self.file.close()
        self.socket.close()


def reach_us(path):
    """From the moment that an operator asks to the moment that the app holds the request, again and again."""
    app, operator = App(path), App(path)
    app.say(op="register", name="probe", cost=0)
    assert app.hear()["ok"]
    time.sleep(0.2)             # a first reading
    took = []
    while len(took) < RELEASES:
        time.sleep(0.011)       # not in step with the ticks
        begin_ns = time.perf_counter_ns()
        operator.say(op="release", hook="probe", bytes=1 << 40)
        request = app.hear()
        took.append((time.perf_counter_ns() - begin_ns) / 1000)
        assert operator.hear()["ok"]
        app.say(op="released", ticket=request["ticket"], freed_bytes=0)
        assert app.hear()["ok"]
    app.close()
    operator.close()
    return took


@pytest.mark.parametrize("is_crowded", [False, True])
def test_a_request_reaches_an_app(is_crowded, benchmark, figure):
    def run():
        with daemon() as (path, _told):
            if not is_crowded:
                return reach_us(path)
            with crowd(path, 5):
                return reach_us(path)
    took = benchmark.pedantic(run, rounds=1)
    how = "from an operator's `release` to the request in the app's hands; " + \
        ("with 1,000 hooks, 100 subscribers, 10,000 messages/s" if is_crowded else "quiet")
    for q in (0.5, 0.99):
        name = f"request to a registered app{', in a crowd' if is_crowded else ''}, p{100 * q:.0f}"
        figure(name, quantile(took, q), "us", at_most=2000 if q == 0.5 else None, how=how)
