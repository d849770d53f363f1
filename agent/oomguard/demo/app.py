"""An image browser with a cache and a leak: the app that the demo runs twice.

`python -m oomguard.demo.app --report FILE` shows images as people ask for them, keeps the decoded ones, and loses
a little memory with every step. When it is told of pressure (MEMORY_PRESSURE_WATCH) it gives up the colder two
thirds of its cache, which grows again after a minute without a word. It knows nothing of oomguard.
"""

from __future__ import annotations

import argparse
import itertools
import json
import mmap
import os
import random
from collections import OrderedDict
from contextlib import suppress

from oomguard.clock import now_s
from oomguard.demo.shape import LIMIT_BYTES, PLANNED_S, Shape
from oomguard.demo.watch import PressureWatch

STEP_S = 0.1
REPORT_EVERY_S = 0.5
QUIET_S = 60.0              # twice the cooldown of oomguard's own rule: who is told again meanwhile stays small
_NO_HUGE_PAGES = getattr(mmap, "MADV_NOHUGEPAGE", None)     # they would give and take 2 MiB at a time


class ImageCache:
    """Decoded images, the one that was wanted longest ago first to go."""

    def __init__(self, image_bytes: int, most_bytes: int, pixels: bytes) -> None:
        self._image_bytes, self._most_bytes, self._pixels = image_bytes, most_bytes, pixels
        self._images: OrderedDict[int, mmap.mmap] = OrderedDict()
        self.hits = self.misses = 0

    @property
    def size_bytes(self) -> int:
        """What it holds."""
        return len(self._images) * self._image_bytes

    def show(self, number: int) -> None:
        """Show an image: from the cache, else decoded into it."""
        if number in self._images:
            self.hits += 1
            self._images.move_to_end(number)
            return
        self.misses += 1
        self.shrink_to(self._most_bytes - self._image_bytes)
        self._images[number] = self._decode()

    def _decode(self) -> mmap.mmap:
        """Return an image in memory of its own, every page of it written, which goes back whole when closed."""
        image = mmap.mmap(-1, self._image_bytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        if _NO_HUGE_PAGES is not None:
            with suppress(OSError):         # a kernel that has none
                image.madvise(_NO_HUGE_PAGES)
        image.write(self._pixels)
        return image

    def give_up(self, smallest_bytes: int) -> int:
        """Drop the colder two thirds, but keep `smallest_bytes`; hold no more than is left until `grow_to`.

        Zipf's law is kind: what stays still answers 0.71 of the requests where all of it had answered 0.80 (seen).

        Returns:
            The bytes that went back to the kernel.
        """
        self._most_bytes = max(smallest_bytes, self.size_bytes // 3)
        return self.shrink_to(self._most_bytes)

    def grow_to(self, most_bytes: int) -> None:
        """Hold up to `most_bytes` from now on."""
        self._most_bytes = most_bytes

    def shrink_to(self, most_bytes: int) -> int:
        """Drop the coldest images until no more than `most_bytes` are held; return the bytes that went."""
        before_bytes = self.size_bytes
        while self._images and self.size_bytes > most_bytes:
            self._images.popitem(last=False)[1].close()
        return before_bytes - self.size_bytes


class Browser:
    """The cache, those who browse, and the leak, moved on by the clock: the same at every run with the same seed."""

    def __init__(self, shape: Shape, limit_bytes: int, seed: int) -> None:
        self._shape, self._limit_bytes = shape, limit_bytes
        self._random = random.Random(seed)  # noqa: S311  a workload, no secret
        self._weights = list(itertools.accumulate(1 / (n + 1) ** shape.zipf for n in range(shape.images)))
        pixels = self._random.randbytes(shape.image_bytes)
        self.cache = ImageCache(shape.image_bytes, limit_bytes, pixels)
        self._lost: list[bytes] = []
        self._scrap = pixels[:4096]
        self._shown = 0
        self._told_s = -QUIET_S
        self.evictions = self.evicted_bytes = 0

    @property
    def leak_bytes(self) -> int:
        """What was lost so far."""
        return len(self._lost) * len(self._scrap)

    def advance_to(self, t_s: float) -> None:
        """Do what is due by `t_s`, seconds since the start."""
        if t_s - self._told_s >= QUIET_S:
            self.cache.grow_to(self._limit_bytes)
        share = min(1.0, t_s / self._shape.planned_s)
        due = int(share * self._shape.requests) - self._shown
        if due > 0:
            for number in self._random.choices(range(self._shape.images), cum_weights=self._weights, k=due):
                self.cache.show(number)
            self._shown += due
        while self.leak_bytes < share * self._shape.leak_bytes:
            self._lost.append(bytes(bytearray(self._scrap)))        # a copy: as when a list is never emptied

    def relieve(self, t_s: float) -> int:
        """Answer pressure that was told of at `t_s`; return the bytes given back."""
        self._told_s = t_s
        freed_bytes = self.cache.give_up(self._shape.smallest_cache_bytes)
        self.evictions += freed_bytes > 0
        self.evicted_bytes += freed_bytes
        return freed_bytes

    def figures(self) -> dict[str, int]:
        """Return what a report line tells."""
        return {"hits": self.cache.hits, "misses": self.cache.misses, "cache_bytes": self.cache.size_bytes,
                "leak_bytes": self.leak_bytes, "evictions": self.evictions, "evicted_bytes": self.evicted_bytes}


def browse(browser: Browser, watch: PressureWatch, planned_s: float, report_fd: int) -> None:
    """Run for the planned time and report as it goes, one JSON object a line."""
    start_s = now_s()

    def tell(event: str, **more: float) -> None:
        line = {"event": event, "t_s": round(now_s() - start_s, 3), **browser.figures(), **more}
        os.write(report_fd, json.dumps(line).encode() + b"\n")

    tell("start", pid=os.getpid(), start_s=start_s)
    step, told_s = 0, 0.0
    while (t_s := now_s() - start_s) < planned_s:
        browser.advance_to(t_s)
        if t_s - told_s >= REPORT_EVERY_S:
            tell("running")
            told_s = t_s
        step = int(t_s / STEP_S) + 1
        if watch.wait(start_s + step * STEP_S - now_s()):
            tell("evicted", freed_bytes=browser.relieve(now_s() - start_s))
    tell("end")


def main() -> None:
    """Run the app from its command line."""
    parser = argparse.ArgumentParser(prog="python -m oomguard.demo.app", description=__doc__.partition("\n")[0])
    parser.add_argument("--report", required=True, metavar="FILE", help="where to report to, one JSON object a line")
    parser.add_argument("--seconds", type=float, default=PLANNED_S, help="how long to run (default: %(default)s)")
    parser.add_argument("--limit", type=int, default=LIMIT_BYTES, metavar="BYTES",
                        help="what cache and leak are sized for (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    browser = Browser(Shape.of(args.limit, args.seconds), args.limit, args.seed)
    report_fd = os.open(args.report, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
    browse(browser, PressureWatch(os.environ), args.seconds, report_fd)


if __name__ == "__main__":
    main()
