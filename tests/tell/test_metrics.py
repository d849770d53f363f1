"""Metrics: the text, what it says of odd things, the file and the scraper, and what they leave alone."""

from __future__ import annotations

import _socket
import os
import re
import resource
import select
import subprocess
import sys
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oomguard.act.hooks import Hook
from oomguard.errors import NotPermittedError, UsageError
from oomguard.forecast import Forecast
from oomguard.guard import Reading
from oomguard.sense.sample import NAN, Sample
from oomguard.tell import scrape
from oomguard.tell.metrics import Facts, Metrics, escaped_label
from oomguard.tell.scrape import Exporter, ScrapeServer, TextFile, loopback_address

SAMPLE = Sample(1.0, "cgroup:/app", 64.0, 16.0, 48.0, psi_some_us=1.5e6)
LINE = re.compile(r'[a-z_]+(\{([a-z]+="(\\[\\"n]|[^"\\\n])*",?)*\})? -?[0-9.e+-]+')


READING = Reading(SAMPLE, Forecast(0.1, 0.2, 0.3, 0.6, 0.9), 3)


def guard(name="player", *, reading=READING, is_blind=False, kills=2):
    return SimpleNamespace(name=name, reading=reading, notes=SimpleNamespace(is_blind=is_blind, kills=kills),
                           window=SimpleNamespace(samples_total=7),
                           releases=SimpleNamespace(count=4, bytes_total=1.5e6, last_freed_bytes=NAN))


def metrics(*guards, hooks=(), missing=()):
    facts = Facts(guards, missing, hooks, ("m", "d"), ('a "rule" file', "e"), False, 5, 6, 7, 1)
    return Metrics(lambda: facts)


def text(made):
    return b"".join(made.slices()).decode()


def value(page, series):
    found = [line.rpartition(" ")[2] for line in page.splitlines() if line.rpartition(" ")[0] == series]
    assert len(found) <= 1, found
    return float(found[0]) if found else None


def test_what_is_told_of_a_target():
    """Its figures, level, forecast, releases and kills, by the names of the page docs/metrics.md."""
    page = text(metrics(guard()))
    of = {"used_bytes": 48, "limit_bytes": 64, "headroom_bytes": 16, "level": 3, "up": 1, "blind": 0, "kills_total": 2,
          "releases_total": 4, "freed_bytes_total": 1.5e6, "samples_total": 7, "has_forecast": 1,
          "pressure_waiting_seconds_total": 1.5}
    assert of == {name: value(page, f'oomguard_target_{name}{{target="player"}}') for name in of}
    assert value(page, 'oomguard_target_kill_probability{target="player",within="240"}') == 0.6
    assert value(page, 'oomguard_target_time_to_limit_seconds{target="player"}') == pytest.approx(220)
    assert value(page, 'oomguard_target_constraint_info{target="player",constraint="cgroup:/app"}') == 1


def test_what_is_unknown_is_left_out():
    """No forecast, unknown figures, kills that cannot be counted: no line, never a zero or NaN."""
    page = text(metrics(guard(reading=Reading(SAMPLE, None, 0), kills=-1)))
    for name in ("kill_probability", "time_to_limit_seconds", "kills_total", "last_freed_bytes", "swap_used_bytes",
                 "pressure_stalled_seconds_total"):
        assert f"oomguard_target_{name}" not in page
    assert value(page, 'oomguard_target_has_forecast{target="player"}') == 0
    assert "nan" not in page.lower()


@pytest.mark.parametrize("made", [guard(is_blind=True), guard(reading=None)])
def test_a_target_that_is_not_seen_has_no_figures(made):
    """Old figures are not told as new ones; that it is there, and blind, is."""
    page = text(metrics(made, missing=["gone"]))
    assert value(page, 'oomguard_target_up{target="player"}') == 1
    assert value(page, 'oomguard_target_up{target="gone"}') == 0
    assert "oomguard_target_used_bytes" not in page and "oomguard_target_level" not in page


def test_hooks():
    """Calls, failures, cost, and what they gave; two hooks that would have the same labels make one line."""
    one, two = Hook.from_call("cache", print, cost=0.5, targets=("a", "b")), Hook.from_call("gc", print)
    one.calls, one.yield_bytes, one.on_hold_until_s = 3, 9.0, 1e12
    page = text(metrics(hooks=(one, two, Hook.from_call("gc", print))))
    labels = '{target="a,b",hook="cache"}'
    assert value(page, f"oomguard_hook_calls_total{labels}") == 3
    assert value(page, f"oomguard_hook_cost{labels}") == 0.5
    assert value(page, f"oomguard_hook_yield_bytes{labels}") == 9
    assert value(page, f"oomguard_hook_on_hold{labels}") == 1
    assert value(page, 'oomguard_hook_on_hold{target="",hook="gc"}') == 0
    assert page.count('hook="gc"') == page.count('hook="cache"') - 1       # gc's yield is unknown


def test_lateness_is_a_histogram():
    """Cumulative buckets, sum and count; events are counted by name and severity."""
    made = metrics()
    for late_s in (0.0004, 0.001, 0.3, 9.0):
        made.tick(late_s)
    made.count("kill", "error")
    page = text(made)
    counts = {edge: value(page, f'oomguard_tick_lateness_seconds_bucket{{le="{edge}"}}')
              for edge in ("0.001", "0.1", "0.5", "5", "+Inf")}
    assert counts == {"0.001": 2, "0.1": 2, "0.5": 3, "5": 3, "+Inf": 4}
    assert value(page, "oomguard_tick_lateness_seconds_count") == 4
    assert value(page, "oomguard_tick_lateness_seconds_sum") == pytest.approx(9.3014)
    assert value(page, 'oomguard_events_total{event="kill",severity="error"}') == 1


@given(st.text(max_size=300))
def test_no_name_can_forge_a_line(name):
    """Whatever a target is called, each line is of the format and the name can be read back."""
    page = text(metrics(guard(name), hooks=[Hook.from_call(name, print)], missing=[name + "2"]))
    for line in page.split("\n")[:-1]:
        assert line.startswith("# ") or LINE.fullmatch(line), line
    plain = re.sub(r"\\(.)", lambda found: {"n": "\n"}.get(found[1], found[1]), escaped_label(name))
    assert [a for a, b in zip(plain, name[:256], strict=True) if a != b and a != "?"] == []


def test_each_family_is_one_piece_with_one_head():
    """As the format wants it: HELP and TYPE once, then all of its lines."""
    page = text(metrics(guard("a"), guard("b"), hooks=[Hook.from_call("h", print)]))
    families = re.findall(r"^# TYPE (\S+)", page, re.MULTILINE)
    assert len(families) == len(set(families)) == page.count("# HELP")
    order = [re.sub(r"_(bucket|sum|count)$", "", line.split("{")[0].split(" ")[0]) for line in page.splitlines()
             if not line.startswith("#")]
    assert [name for at, name in enumerate(order) if at == 0 or order[at - 1] != name] == families


def test_it_is_bounded():
    """More targets and hooks than are shown are counted; the work comes in slices of about 16 KiB."""
    many = [guard(f"app{number}") for number in range(1030)]
    made = metrics(*many, hooks=[Hook.from_call(f"h{number}", print) for number in range(1025)])
    pieces = list(made.slices())
    page = b"".join(pieces).decode()
    assert value(page, "oomguard_metrics_omitted") == 7
    assert page.count("oomguard_target_up{") == 1024 and page.count("oomguard_hook_cost{") == 1024
    assert max(len(piece) for piece in pieces) < 17 * 1024


# -- the file ----------------------------------------------------------------------------------------------------


class World:
    """An epoll, and what was told."""

    def __init__(self):
        self.epoll, self.told = select.epoll(), []

    def tell(self, event, severity, /, **fields):
        """Take what would be logged."""
        self.told.append((event, fields["because"]))

    def serve(self, handle):
        """Serve until nothing is left to do."""
        while ready := self.epoll.poll(0):
            for fd, events in ready:
                assert handle(fd, events)


@pytest.fixture
def world():
    made = World()
    yield made
    made.epoll.close()


def test_the_file_is_whole_and_everybodys_to_read(world, tmp_path):
    """It appears by rename, mode 0644, the same text; a tick alone writes nothing; it goes with the guard."""
    path = tmp_path / "oomguard.prom"
    made = TextFile(str(path), metrics(guard()), world.epoll, world.tell)
    made.tick(0.0)
    assert not path.exists()
    world.serve(lambda fd, _events: made.handle(fd))
    assert 'oomguard_target_level{target="player"} 3' in path.read_text()
    assert path.stat().st_mode & 0o777 == 0o644 and os.listdir(tmp_path) == ["oomguard.prom"]
    before = path.stat().st_ino
    made.tick(scrape.FILE_EVERY_S - 0.1)
    assert world.epoll.poll(0) == []
    made.tick(scrape.FILE_EVERY_S)
    world.serve(lambda fd, _events: made.handle(fd))
    assert path.stat().st_ino != before
    made.close()
    assert os.listdir(tmp_path) == []


def test_a_folder_that_is_not_there_is_said_once(world, tmp_path):
    """The guard goes on and says why; again only when it is another reason; it writes when it can."""
    folder = tmp_path / "later"
    made = TextFile(str(folder / "x.prom"), metrics(), world.epoll, world.tell)
    made.tick(0.0)
    made.tick(10.0)
    assert world.told == [("no-metrics", f"cannot write {folder}/x.prom: No such file or directory")]
    folder.mkdir()
    made.tick(20.0)
    world.serve(lambda fd, _events: made.handle(fd))
    assert os.listdir(folder) == ["x.prom"]
    made.close()


def test_a_full_disk_leaves_the_old_file(world, tmp_path):
    """What cannot be written whole does not replace what there is, and nothing is left behind."""
    path = tmp_path / "x.prom"
    path.write_text("old\n")
    made = TextFile(str(path), metrics(*[guard(f"a{n}") for n in range(50)]), world.epoll, world.tell)
    made.tick(0.0)
    os.dup2(os.open("/dev/full", os.O_WRONLY), made._fd)
    world.serve(lambda fd, _events: made.handle(fd))
    assert path.read_text() == "old\n" and os.listdir(tmp_path) == ["x.prom"]
    assert world.told == [("no-metrics", f"cannot write {path}: No space left on device")]
    made.close()


def test_no_link_is_followed(world, tmp_path):
    """Where the file is to be made stands a link of somebody's: it is replaced, what it names stays as it was."""
    victim = tmp_path / "victim"
    victim.write_text("mine")
    (tmp_path / f".x.prom.{os.getpid()}").symlink_to(victim)
    made = TextFile(str(tmp_path / "x.prom"), metrics(), world.epoll, world.tell)
    made.tick(0.0)
    world.serve(lambda fd, _events: made.handle(fd))
    assert victim.read_text() == "mine" and not (tmp_path / "x.prom").is_symlink()
    made.close()


# -- the scraper -------------------------------------------------------------------------------------------------


def open_server(world, made):
    server = ScrapeServer("127.0.0.1:0", made, world.epoll)
    return server, int(server.address.rpartition(":")[2])


def connect(port):
    connection = _socket.socket(_socket.AF_INET, _socket.SOCK_STREAM)
    connection.connect(("127.0.0.1", port))
    connection.setblocking(False)
    return connection


def receive(world, server, connection):
    """Serve until the answer has ended; return it."""
    got = b""
    while True:
        for fd, events in world.epoll.poll(0.01):
            assert server.handle(fd, events)
        try:
            chunk = connection.recv(1 << 20)
        except BlockingIOError:
            continue
        except ConnectionResetError:
            return got
        if not chunk:
            return got
        got += chunk


@pytest.mark.parametrize(("request_", "status"), [
    (b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n", b"200 OK"), (b"GET /metrics?x=1 HTTP/1.0\r\n\r\n", b"200 OK"),
    (b"GET / HTTP/1.1\r\n\r\n", b"404 Not Found"), (b"POST /metrics HTTP/1.1\r\n\r\n", b"405 Method Not Allowed"),
    (b"\x00\xff\r\n\r\n", b"405 Method Not Allowed"), (b"\r\n\r\n", b"405 Method Not Allowed"),
    (b"GET /metrics " + b"x" * 9000, b"431 Request Header Fields Too Large")])
def test_requests(world, request_, status):
    """One answer a connection: the metrics, or a refusal; nonsense and long heads are refused too."""
    made = metrics(guard())
    server, port = open_server(world, made)
    connection = connect(port)
    connection.send(request_)
    answer = receive(world, server, connection)
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 " + status) and b"Content-Type: text/plain; version=0.0.4" in head
    assert (b"oomguard_target_level" in body) == (status == b"200 OK")
    connection.close()
    server.close()
    assert world.epoll.poll(0) == []


def test_a_large_answer_comes_in_slices(world):
    """A scraper that reads slowly gets it all, and no more than a slice is worked out at once."""
    made = metrics(*[guard(f"app{number}") for number in range(300)])
    server, port = open_server(world, made)
    connection = connect(port)
    connection.setsockopt(_socket.SOL_SOCKET, _socket.SO_RCVBUF, 4096)
    connection.send(b"GET /metrics HTTP/1.1\r\n\r\n")
    answer = receive(world, server, connection)
    assert answer.count(b"oomguard_target_level{") == 300
    connection.close()
    server.close()


def test_scrapers_are_bounded(world):
    """The ninth takes the place of the first, who said nothing; who takes too long is dropped; no descriptor leaks."""
    before = len(os.listdir("/proc/self/fd"))
    made = metrics()
    server, port = open_server(world, made)
    silent = []
    for _each in range(scrape.SCRAPERS_MAX + 4):
        silent.append(connect(port))
        world.serve(server.handle)
    assert len(server._scrapers) == scrape.SCRAPERS_MAX
    last = connect(port)
    last.send(b"GET /metrics HTTP/1.1\r\n\r\n")
    assert receive(world, server, last).startswith(b"HTTP/1.1 200")
    server.tick(max(scraper.since_s for scraper in server._scrapers.values()) + scrape.PATIENCE_S - 1)
    assert server._scrapers
    server.tick(max(scraper.since_s for scraper in server._scrapers.values()) + scrape.PATIENCE_S + 1)
    assert server._scrapers == {}
    for connection in (*silent, last):
        connection.close()
    server.close()
    assert len(os.listdir("/proc/self/fd")) == before


def test_without_a_free_descriptor_it_rests_until_the_next_tick(world):
    """The listener is not reported again and again; who waits is served once there is room."""
    server, port = open_server(world, metrics())
    connection = connect(port)
    connection.send(b"GET /metrics HTTP/1.1\r\n\r\n")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
    try:
        world.serve(server.handle)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert world.epoll.poll(0) == [] and server._scrapers == {}
    server.tick(0.0)
    assert receive(world, server, connection).startswith(b"HTTP/1.1 200")
    connection.close()
    server.close()


def test_a_scraper_that_leaves_early(world):
    """One that hangs up in the middle, or resets, is forgotten."""
    made = metrics(*[guard(f"app{number}") for number in range(300)])
    server, port = open_server(world, made)
    for request_ in (b"", b"GET /met", b"GET /metrics HTTP/1.1\r\n\r\n"):
        connection = connect(port)
        connection.send(request_)
        for fd, events in world.epoll.poll(1):
            server.handle(fd, events)
        connection.setsockopt(_socket.SOL_SOCKET, 13, b"\1\0\0\0\0\0\0\0")      # SO_LINGER 0: a reset
        connection.close()
        for _turn in range(400):
            for fd, events in world.epoll.poll(0):
                server.handle(fd, events)
        assert server._scrapers == {}
    server.close()


@pytest.mark.parametrize("address", ["127.0.0.1:9836", "127.9.9.9:1", "[::1]:0"])
def test_loopback_addresses(address):
    """IPv4 and IPv6, any port."""
    assert loopback_address(address)[2] == int(address.rpartition(":")[2])


@pytest.mark.parametrize("address", ["", "9836", ":9836", "0.0.0.0:1", "192.168.1.1:1", "[::]:1", "::1:1",
                                     "localhost:1", "127.0.0.1", "127.0.0.1:", "127.0.0.1:65536", "127.0.0.1:-1",
                                     "127.0.0.1:x", "[127.0.0.1]:1", "127.0.0.1:٣"])
def test_other_addresses_are_refused(address):
    """Metrics are for nobody beyond this machine, and a name could lead anywhere."""
    with pytest.raises(UsageError, match="no loopback address"):
        loopback_address(address)


def test_a_port_that_is_taken_is_no_reason_to_stop(world, tmp_path):
    """The server says what is wrong; the exporter tells it and goes on with the file."""
    server, port = open_server(world, metrics())
    with pytest.raises(NotPermittedError, match="Address already in use"):
        ScrapeServer(f"127.0.0.1:{port}", metrics(), world.epoll)
    made = Exporter(metrics(), world.epoll, world.tell, file=str(tmp_path / "x.prom"), address=f"127.0.0.1:{port}")
    assert world.told == [("no-metrics", f"cannot listen at 127.0.0.1:{port} for metrics: Address already in use")]
    made.tick(0.0)
    world.serve(lambda fd, events: made.handle(fd, events) or server.handle(fd, events))
    assert (tmp_path / "x.prom").exists()
    made.close()
    server.close()


def test_who_asks_for_no_metrics_pays_nothing():
    """The daemon's modules hold neither the text nor the scraper until somebody asked."""
    code = "import oomguard.daemon, sys; print(*[name for name in sys.modules if name.startswith('oomguard.tell')])"
    root = os.path.dirname(os.path.dirname(os.path.dirname(scrape.__file__)))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True,
                          env=os.environ | {"PYTHONPATH": root})
    assert "oomguard.tell.control" in done.stdout
    assert "oomguard.tell.metrics" not in done.stdout and "oomguard.tell.scrape" not in done.stdout
