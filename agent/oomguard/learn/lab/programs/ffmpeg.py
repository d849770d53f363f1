"""ffmpeg: a live source, and a filter that keeps every frame: `reverse`, `areverse`, or `loop` with an endless buffer.

It can only grow: what a filter has taken it keeps until the end. A wish for less is passed over; when the wish stands
still no frame comes, and it waits.
"""

from __future__ import annotations

import contextlib
import os
import random
import select
import subprocess
import time
from typing import TYPE_CHECKING

from oomguard.learn.lab.program import Program, ProgramGoneError, Spec

if TYPE_CHECKING:
    from collections.abc import Callable

FEED_S = 2.0                    # at most, a call; beside 80 programs it may take its time
STEP_BYTES = 16 << 20           # a call; there are two a second
SIZES = ((160, 120), (320, 240), (352, 288), (480, 272), (640, 360))
AUDIO_BYTES = 1 << 16


class Driver(Program):
    """Drives it by feeding raw frames on its stdin."""

    needs = ("ffmpeg",)
    # Measured, ffmpeg 5.1 in a v1 cgroup: 9.9 MiB, 1.01 to 1.04 (areverse: up to 1.26). It cannot shrink.
    base_bytes = 9.9 * (1 << 20)
    charge_ratio = 1.04

    def __init__(self, spec: Spec, enter: Callable[[], None]) -> None:
        """See Program."""
        super().__init__(spec, enter)
        random_ = random.Random(spec.seed)
        self._random = random_
        self._filter = random_.choice(("reverse", "areverse", "loop=loop=-1:size=32767"))
        width, height = random_.choice(SIZES)
        self._size = f"{width}x{height}"
        self._frame_bytes = AUDIO_BYTES if self._filter == "areverse" else width * height * 3 // 2
        # Half noise, half an even picture; each frame is a piece of it.
        self._film = b"".join(random_.randbytes(512) + bytes([random_.randrange(256)]) * 512 for _ in range(2048))
        self._fed_bytes, self._rest = 0, b""

    def start(self) -> None:
        """Start it; it waits for its source."""
        if self._filter == "areverse":
            source = ["-f", "s16le", "-ar", "48000", "-ac", "2", "-i", "pipe:0", "-af", self._filter]
        else:
            source = ["-f", "rawvideo", "-pix_fmt", "yuv420p", "-s", self._size, "-r", "25", "-i", "pipe:0",
                      "-vf", self._filter]
        options = ["-nostdin", "-hide_banner", "-loglevel", "error", "-threads", "1", "-filter_threads", "1",
                   "-probesize", "32", "-analyzeduration", "0"]
        environment = {"PATH": os.environ.get("PATH", os.defpath), "HOME": self.spec.folder}
        child = self.spawn(["ffmpeg", *options, *source, "-threads", "1", "-f", "null", "-"], stdin=subprocess.PIPE,
                           bufsize=0, env=environment)
        assert child.stdin is not None
        os.set_blocking(child.stdin.fileno(), False)
        self.check()

    def hold(self, size_bytes: float) -> None:
        """Feed what is missing, at most STEP_BYTES and FEED_S."""
        self.check()
        child = self.children[0]
        assert child.stdin is not None
        wanted_bytes = min(int(size_bytes), self._fed_bytes + STEP_BYTES)
        until_s = time.monotonic() + FEED_S
        while self._rest or self._fed_bytes + self._frame_bytes <= wanted_bytes:
            if not self._rest:
                self._rest = self._frame()
                self._fed_bytes += self._frame_bytes
            if not select.select([], [child.stdin], [], max(until_s - time.monotonic(), 0.0))[1]:
                break
            try:
                self._rest = self._rest[os.write(child.stdin.fileno(), self._rest):]
            except BlockingIOError:
                continue
            except BrokenPipeError:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    child.wait(FEED_S)
                raise ProgramGoneError(f"{self.spec.program}: ended with {child.returncode}") from None

    def _frame(self) -> bytes:
        at = self._random.randrange(len(self._film) - self._frame_bytes)
        return self._film[at:at + self._frame_bytes]

    def stop(self) -> None:
        """End it: what it kept is not to be played."""
        for child in self.children:
            with contextlib.suppress(ProcessLookupError):
                child.kill()
        super().stop()
