"""Real servers, and a helper that asks them, as the tests of server hooks need both."""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from oomguard.act.hooks import Hook, Outcome, Request
from oomguard.act.runner import Runner
from oomguard.clock import now_s
from oomguard.decide.plan import HookPlan
from oomguard.enclosure import Enclosure

PATIENCE_S = 30.0       # how long a test waits for what must come; no assertion depends on the time it took
MIB = 1 << 20
MMAPPED = {"MALLOC_MMAP_THRESHOLD_": "131072"}     # docs/rules.md: how a memcached that gives back is started


def until(is_true: Callable[[], Any], what: str) -> Any:
    """Wait for something to become true and return it."""
    give_up_s = time.monotonic() + PATIENCE_S
    while not (found := is_true()):
        assert time.monotonic() < give_up_s, f"waited in vain for {what}"
        time.sleep(0.01)
    return found


def free_port() -> int:
    """Return a port nobody listens at."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def is_open(port: int) -> bool:
    """Return whether somebody listens at a port."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def tool(name: str) -> str:
    """Return where a program is; skip where it is not installed."""
    found = shutil.which(name, path="/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin")
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found


class Guarding:
    """A runner and its helper, and a loop that waits for outcomes."""

    def __init__(self, runner: Runner) -> None:
        self.runner = runner
        self.outcomes: dict[int, Outcome] = {}
        self._poll = select.poll()
        self._poll.register(runner.fds()[0], select.POLLIN)

    def start(self, plan: HookPlan, **request: Any) -> int:
        """Ask a hook; return its ticket."""
        hook = Hook.from_plan(plan)
        self.runner.register(hook)
        needed_bytes = request.pop("needed_bytes", MIB)
        return self.runner.start(hook, Request(request.pop("level", 4), needed_bytes, reason="a test", target="app",
                                               deadline_s=plan.deadline_s, **request))

    def turn(self) -> None:
        """Run the loop for a moment."""
        self._poll.poll(20)
        for outcome in self.runner.poll(now_s()):
            self.outcomes[outcome.ticket] = outcome

    def ask(self, plan: HookPlan, **request: Any) -> Outcome:
        """Ask a hook and wait for the outcome."""
        return self.wait(self.start(plan, **request))

    def wait(self, ticket: int) -> Outcome:
        """Wait for an outcome."""
        give_up_s = time.monotonic() + PATIENCE_S
        while ticket not in self.outcomes:
            assert time.monotonic() < give_up_s, "no outcome"
            self.turn()
        return self.outcomes[ticket]


def cgroup_bytes(enclosure: Enclosure) -> int:
    """Return what a group's processes use, by the kernel's count: anonymous and shared memory."""
    lines = dict(line.split() for line in Path(enclosure.directory, "memory.stat").read_text().splitlines())
    if enclosure.kind == "v1":
        return int(lines["total_rss"]) + int(lines.get("total_shmem", 0))
    return int(lines["anon"]) + int(lines["shmem"])


def rss_bytes(pid: int) -> int:
    """Return a process' resident memory, mapped files included, as servers count it."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4096


def joined(enclosure: Enclosure | None, *argv: str) -> tuple[str, ...]:
    """Return a command that runs in a cgroup; by a shell, for tests have threads and preexec_fn does not like them."""
    if enclosure is None:
        return argv
    return ("sh", "-c", f'echo 0 >"{enclosure.directory}/cgroup.procs" && exec "$@"', "sh", *argv)


class Program:
    """A server that ends with the test."""

    def __init__(self, *argv: str, enclosure: Enclosure | None = None, **more: Any) -> None:
        more = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL} | more
        self.process = subprocess.Popen(joined(enclosure, *argv), **more)
        self.pid = self.process.pid

    def end(self) -> None:
        """Kill and reap it."""
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(signal.SIGCONT)
        self.process.kill()
        self.process.wait()
        for stream in (self.process.stdin, self.process.stdout):
            if stream is not None:
                with contextlib.suppress(BrokenPipeError):
                    stream.close()


class Redis(Program):
    """A redis-server of its own, and a client that is not ours to test."""

    def __init__(self, folder: Path, *options: str, enclosure: Enclosure | None = None) -> None:
        self.port, self.path = free_port(), f"{folder}/redis.sock"
        self.cli = tool("redis-cli")
        super().__init__(tool("redis-server"), "--port", str(self.port), "--bind", "127.0.0.1", "--unixsocket",
                         self.path, "--save", "", "--dir", str(folder), *options, enclosure=enclosure)
        self.password = options[options.index("--requirepass") + 1] if "--requirepass" in options else ""
        until(lambda: "PONG" in self.do("PING"), "redis")

    @property
    def address(self) -> str:
        """Where it listens."""
        return f"127.0.0.1:{self.port}"

    def do(self, *words: str) -> str:
        """Return what redis-cli prints."""
        auth = ["-a", self.password, "--no-auth-warning"] if self.password else []
        return subprocess.run([self.cli, "-p", str(self.port), *auth, *words], capture_output=True, text=True,
                              timeout=PATIENCE_S).stdout.strip()

    def setting(self, name: str) -> str:
        """Return one of its settings."""
        return self.do("CONFIG", "GET", name).splitlines()[1]

    def info(self, name: str) -> int:
        """Return a figure of INFO."""
        return int(next(line for line in self.do("INFO").splitlines() if line.startswith(f"{name}:")).partition(":")[2])

    def fill(self, count: int, size: int, ttl_s: int = 0, prefix: str = "k") -> None:
        """Set keys of so many bytes."""
        value, words = b"x" * size, 5 if ttl_s else 3
        more = b"$2\r\nEX\r\n$%d\r\n%d\r\n" % (len(str(ttl_s)), ttl_s) if ttl_s else b""
        with socket.create_connection(("127.0.0.1", self.port)) as client, client.makefile("rb") as answers:
            if self.password:
                client.sendall(b"AUTH %s\r\n" % self.password.encode())
                answers.readline()
            for begin in range(0, count, 500):
                keys = [f"{prefix}{i}".encode() for i in range(begin, min(begin + 500, count))]
                client.sendall(b"".join(b"*%d\r\n$3\r\nSET\r\n$%d\r\n%s\r\n$%d\r\n%s\r\n%s" % (
                    words, len(key), key, size, value, more) for key in keys))
                for _ in keys:
                    assert answers.readline() == b"+OK\r\n"


class Memcached(Program):
    """A memcached of its own."""

    def __init__(self, *options: str, enclosure: Enclosure | None = None, is_mmapped: bool = True) -> None:
        self.port = free_port()
        super().__init__(tool("memcached"), "-u", "root", "-U", "0", "-l", "127.0.0.1", "-p", str(self.port), *options,
                         enclosure=enclosure, env=os.environ | (MMAPPED if is_mmapped else {}))
        until(lambda: is_open(self.port), "memcached")

    @property
    def address(self) -> str:
        """Where it listens."""
        return f"127.0.0.1:{self.port}"

    def stats(self, what: str = "") -> dict[str, str]:
        """Return what it tells of itself."""
        with socket.create_connection(("127.0.0.1", self.port)) as client, client.makefile("rb") as answers:
            client.sendall(f"stats {what}".strip().encode() + b"\r\n")
            lines = iter(lambda: answers.readline().decode().strip(), "END")
            return {line.split(" ", 2)[1]: line.split(" ", 2)[2] for line in lines}

    def fill(self, count: int, size: int, prefix: str = "k") -> None:
        """Set items of so many bytes."""
        with socket.create_connection(("127.0.0.1", self.port)) as client, client.makefile("rb") as answers:
            for i in range(count):
                client.sendall(f"set {prefix}{i} 0 0 {size} noreply\r\n".encode() + b"x" * size + b"\r\n")
            client.sendall(b"version\r\n")
            assert answers.readline().startswith(b"VERSION")

    def flush(self) -> None:
        """Invalidate everything, and let the crawler find it."""
        with socket.create_connection(("127.0.0.1", self.port)) as client, client.makefile("rb") as answers:
            client.sendall(b"flush_all\r\nlru_crawler crawl all\r\n")
            assert (answers.readline(), answers.readline()) == (b"OK\r\n", b"OK\r\n")


class Fake:
    """A server that says what a test tells it to: `talk(connection)` runs for each connection, on a thread."""

    def __init__(self, talk: Callable[[socket.socket], None]) -> None:
        self._talk = talk
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._socket.getsockname()[1])
        self.address = f"127.0.0.1:{self.port}"
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            threading.Thread(target=self._serve_one, args=(connection,), daemon=True).start()

    def _serve_one(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            self._talk(connection)

    def close(self) -> None:
        """Stop to listen."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._thread.join(PATIENCE_S)


@contextlib.contextmanager
def faking(talk: Callable[[socket.socket], None]) -> Iterator[Fake]:
    """Run a fake server."""
    fake = Fake(talk)
    try:
        yield fake
    finally:
        fake.close()


def short_folder() -> Path:
    """Make a folder with a short path: a socket's may have 107 bytes."""
    return Path(tempfile.mkdtemp(prefix="ogs-"))
