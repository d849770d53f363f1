"""nginx as a caching proxy with its cache in a tmpfs: shared memory, charged to it; its own bound is max_size.

Its manager evicts what is above max_size, but looks only every 10 s, however fast the cache grows.
"""

from __future__ import annotations

import hashlib
import os
from contextlib import suppress
from typing import ClassVar

from oomguard.learn.lab.objects import Line, Objects
from oomguard.learn.lab.program import Program, ProgramGoneError
from oomguard.learn.lab.programs.tmpfs import FAR_ABOVE, Room

TICK_S = 0.5
FILES = 48              # what the origin serves: each object of the cache is a copy of one of them
HEAD_END = b"\r\n\r\n"
# The origin is a second server in the same nginx. HEAD fills the cache like GET, and sends no body to the driver.
CONFIGURATION = """
daemon off; user root; worker_processes 1; pid nginx.pid; error_log /dev/null crit;
events {{ worker_connections 64; }}
http {{
    access_log off; keepalive_requests 1000000000; keepalive_timeout 1d; server_tokens off; sendfile on;
    client_body_temp_path body; proxy_temp_path room/temp; fastcgi_temp_path fcgi; uwsgi_temp_path uwsgi;
    scgi_temp_path scgi;
    proxy_cache_path room/cache levels=1:2 keys_zone=lab:8m inactive=1d use_temp_path=off {max_size}
                     manager_files=1000 manager_sleep=50ms manager_threshold=500ms;
    server {{
        listen unix:{folder}/nginx.sock;
        location / {{ proxy_pass http://unix:{folder}/origin.sock; proxy_cache lab; proxy_cache_key $uri;
                      proxy_cache_valid any 1d; proxy_buffers 8 32k; }}
    }}
    server {{
        listen unix:{folder}/origin.sock;
        location ~ ^/[0-9]+/([0-9]+)$ {{ alias files/$1; }}
    }}
}}
"""


class Driver(Program):
    """An nginx with one worker, and its cache manager."""

    needs: ClassVar = ("nginx",)
    base_bytes: ClassVar[float] = 2.7e6       # four processes
    charge_ratio: ClassVar[float] = 1.01
    bound_kind: ClassVar[str] = "evicts"

    line: Line

    def start(self) -> None:
        """Mount the cache's tmpfs, write what the origin serves, start it and connect."""
        folder, bound_bytes = self.spec.folder, self.spec.bound_bytes
        self.held = Objects(self.spec.seed, smallest_bytes=2048, largest_bytes=512 << 10)
        self.room = Room(folder, FAR_ABOVE)
        os.mkdir(f"{folder}/files")
        for number in range(FILES):
            with open(f"{folder}/files/{number}", "wb") as file:
                file.write(self.held.content(number))
        max_size = f"max_size={int(bound_bytes) >> 10}k" if bound_bytes == bound_bytes else ""
        with open(f"{folder}/nginx.conf", "w", encoding="utf-8") as file:
            file.write(CONFIGURATION.format(folder=folder, max_size=max_size))
        self.spawn(["nginx", "-p", folder, "-c", "nginx.conf"])
        self.line = Line.connect(folder, "nginx.sock", HEAD_END, self.check)
        self.workers = self._workers()

    def _workers(self) -> list[str]:
        pid = self.children[0].pid
        with suppress(OSError), open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as file:
            return [child for child in file.read().split() if not _is_loader(child)]
        return []

    def check(self) -> None:
        """Raise ProgramGoneError if it, its worker or its manager has ended: it would start another one."""
        super().check()
        gone = [worker for worker in getattr(self, "workers", ()) if not os.path.exists(f"/proc/{worker}")]
        if gone:
            raise ProgramGoneError(f"nginx: process {gone[0]} has ended")

    def hold(self, size_bytes: float) -> None:
        """Ask for what it has not got yet, or remove the oldest files of its cache."""
        self.check()
        if not self.line.ask():
            return
        added, dropped = self.held.change(size_bytes, self.spec.churn_bytes_per_s * TICK_S)
        heads = [b"HEAD %s HTTP/1.1\r\nHost: lab\r\n\r\n" % self._uri(number).encode() for number in added]
        self.line.ask(b"".join(heads), len(heads))
        for number in dropped:
            key = hashlib.md5(self._uri(number).encode(), usedforsecurity=False).hexdigest()
            with suppress(OSError):
                os.unlink(f"{self.room.path}/cache/{key[-1]}/{key[-3:-1]}/{key}")

    def _uri(self, number: int) -> str:
        return f"/{number}/{number % FILES}"

    def stop(self) -> None:
        """Hang up, end it and take its cache away."""
        if hasattr(self, "line"):
            self.line.close()
        super().stop()
        if hasattr(self, "room"):
            self.room.close()


def _is_loader(pid: str) -> bool:
    """Return whether it is nginx's cache loader, which ends after a minute when all is well."""
    with suppress(OSError), open(f"/proc/{pid}/cmdline", "rb") as file:
        return b"cache loader" in file.read()
    return False
