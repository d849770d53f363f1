"""Real servers, real workers, a real limit: each caches more than it may; killed without the guard, alive with it."""

from __future__ import annotations

import http.client
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from inside import AGENT, until
from oomguard.enclosure import Enclosure
from oomguard.errors import NotPermittedError

LIMIT_BYTES = 160 << 20
REQUESTS = 400              # of a megabyte each: two and a half times the limit
PAUSE_S = 0.02              # some 40 MB/s; the guard looks ten times a second
HERE = str(Path(__file__).parent)


def command(server: str, way: str, port: int) -> list[str]:
    """Return how the server is started, with one worker."""
    if server == "uvicorn":
        return [sys.executable, "-m", "uvicorn", "web_app:asgi", "--port", str(port), "--log-level", "warning"]
    preload = ["--preload"] if way == "restart" else []
    return [sys.executable, "-m", "gunicorn", "-b", f"127.0.0.1:{port}", "-w", "1", "-k", "gthread", "--threads", "4",
            "-c", f"{HERE}/gunicorn_conf.py", "--no-control-socket", *preload, "web_app:app"]


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def ask(port: int, path: str) -> tuple[int, int]:
    """Return the length of a page and who served it."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        connection.request("GET", path)
        length, pid = connection.getresponse().read().split()
        return int(length), int(pid)
    finally:
        connection.close()


def answers(port: int) -> bool:
    with suppress(OSError, ValueError, http.client.HTTPException):
        return ask(port, "/first")[0] > 0
    return False


@pytest.fixture
def enclosure() -> Iterator[Enclosure]:
    """A memory cgroup for one server."""
    try:
        made = Enclosure.make("web", LIMIT_BYTES)
    except NotPermittedError as error:
        pytest.skip(str(error))
    yield made
    made.remove(kill=True)


@pytest.mark.parametrize(("server", "way"), [
    ("gunicorn", "alone"), ("gunicorn", "worker"), ("gunicorn", "restart"), ("uvicorn", "alone"), ("uvicorn", "worker"),
])
def test_a_worker_is_killed_alone_and_lives_with_the_guard(server: str, way: str, enclosure: Enclosure) -> None:
    """Alone the kernel kills it. Guarded, by itself or from before the fork: every request of the one worker's."""
    pytest.importorskip(server)
    port = free_port()
    environ = {**os.environ, "PYTHONPATH": f"{AGENT}:{HERE}", "GUARD": way}
    join = ["sh", "-c", 'echo 0 > "$0/cgroup.procs" && exec "$@"', enclosure.directory]
    running = subprocess.Popen([*join, *command(server, way, port)], env=environ,
                               stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    served: list[tuple[int, int]] = []
    try:
        until(lambda: answers(port) or running.poll() is not None)
        with suppress(OSError, ValueError, http.client.HTTPException):
            for number in range(REQUESTS):
                served.append(ask(port, f"/{number}"))
                time.sleep(PAUSE_S)             # the pace of the load, not a wait for anything
    finally:
        running.terminate()
        said = running.communicate(timeout=30)[1]
    if way == "alone":
        assert enclosure.kills() >= 1, said
        assert len(served) < REQUESTS
    else:
        assert enclosure.kills() == 0, said
        assert len(served) == REQUESTS, said
        assert len(set(served)) == 1, said      # one length, one worker
