"""An app with a cache, as a service: people ask for pictures, decoded ones are kept, memory leaks, jobs come in bursts.

It speaks systemd's memory-pressure protocol and nothing else: whoever is named in MEMORY_PRESSURE_WATCH may tell it,
the kernel by its unit's memory.pressure or a guard by a socket. Told, it drops the colder two thirds of its cache, and
holds no more than is left for half a minute.
"""

import argparse
import base64
import itertools
import json
import mmap
import os
import random
import select
import socket
import stat
import time
from collections import OrderedDict

STEP_S = 0.2
REPORT_EVERY_S = 1.0
QUIET_S = 30.0
PICTURES = 4096
ZIPF = 1.2
RAMP_S = 4.0        # a burst's rise
BURST_S = 8.0


class Watch:
    """The consumer's side of the protocol: a pressure file with its trigger, a FIFO, or a socket."""

    def __init__(self):
        path = os.environ.get("MEMORY_PRESSURE_WATCH", "")
        write = base64.b64decode(os.environ.get("MEMORY_PRESSURE_WRITE", ""))
        self.poll, self.fd, self.is_file = select.poll(), -1, False
        if path in ("", "/dev/null"):
            return
        if stat.S_ISSOCK(os.stat(path).st_mode):
            self.socket = socket.socket(socket.AF_UNIX)
            self.socket.connect(path)
            self.fd = self.socket.fileno()
        else:
            self.fd = os.open(path, os.O_RDWR | os.O_NONBLOCK)
            self.is_file = stat.S_ISREG(os.fstat(self.fd).st_mode)
        if write:
            os.write(self.fd, write)
        self.poll.register(self.fd, select.POLLPRI if self.is_file else select.POLLIN)

    def wait(self, timeout_s):
        """Return whether somebody spoke within the time."""
        if not self.poll.poll(max(0.0, timeout_s) * 1000):
            return False
        if not self.is_file and not os.read(self.fd, 4096):
            self.poll.unregister(self.fd)           # hung up
            return False
        return True


class Cache:
    """Decoded pictures, each in memory of its own; the one that was wanted longest ago goes first."""

    def __init__(self, picture_bytes, chance):
        self.picture_bytes, self.kept, self.most_bytes = picture_bytes, OrderedDict(), float("inf")
        # Half of each page noise, half text: what is compressed is like what apps have.
        page = b"".join(chance.randbytes(32) + b"the same words again and again  " for _ in range(64))
        self.pixels = page * (picture_bytes // len(page))
        self.shown = self.hits = self.evicted_bytes = 0

    def show(self, number):
        """Show one, from the cache or decoded into it."""
        self.shown += 1
        if number in self.kept:
            self.hits += 1
            self.kept.move_to_end(number)
            return
        while self.kept and self.size_bytes() + self.picture_bytes > self.most_bytes:
            self.kept.popitem(last=False)[1].close()
        self.kept[number] = block(self.pixels)

    def size_bytes(self):
        """Return what is held."""
        return len(self.kept) * self.picture_bytes

    def give_up(self, smallest_bytes):
        """Drop the colder two thirds."""
        before_bytes = self.size_bytes()
        self.most_bytes = max(smallest_bytes, before_bytes // 3)
        while self.kept and self.size_bytes() > self.most_bytes:
            self.kept.popitem(last=False)[1].close()
        self.evicted_bytes += before_bytes - self.size_bytes()


def block(content):
    """Return memory that goes back whole when closed, every page written."""
    made = mmap.mmap(-1, len(content), flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    made.madvise(mmap.MADV_NOHUGEPAGE)
    made.write(content)
    return made


def burst_bytes(args, t_s):
    """Return what the job of the moment holds."""
    if not args.burst:
        return 0
    within_s = t_s % args.burst_every - (args.burst_every - BURST_S)
    return int(args.burst * min(1.0, max(0.0, within_s / RAMP_S)))


def main():
    """Run until somebody ends it."""
    parser = argparse.ArgumentParser()
    for name, kind in (("picture", int), ("smallest", int), ("leak-per-s", float), ("burst", int),
                       ("burst-every", float), ("rate", float), ("seed", int)):
        parser.add_argument(f"--{name}", type=kind, default=0)
    parser.add_argument("--report")
    args = parser.parse_args()
    chance = random.Random(args.seed)
    cache, watch = Cache(args.picture, chance), Watch()
    weights = list(itertools.accumulate(1 / (n + 1) ** ZIPF for n in range(PICTURES)))
    report = os.open(args.report, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    lost, job, scrap = [], [], cache.pixels[:4096]
    start_s = clock_s()
    asked, told_s, reported_s, step = 0, -QUIET_S, -REPORT_EVERY_S, 0
    while True:
        t_s = clock_s() - start_s
        if t_s - told_s >= QUIET_S:
            cache.most_bytes = float("inf")
        due = int(args.rate * t_s) - asked
        asked += due
        # Who has not been answered within two seconds has gone.
        for number in chance.choices(range(PICTURES), cum_weights=weights, k=min(due, int(2 * args.rate))):
            cache.show(number)
        while len(lost) * 4096 < args.leak_per_s * t_s:
            lost.append(bytes(bytearray(scrap)))
        want = burst_bytes(args, t_s)
        while len(job) << 18 < want:
            job.append(block((scrap * 64)[:1 << 18]))
        if not want:
            job.clear()
        if t_s - reported_s >= REPORT_EVERY_S:
            reported_s = t_s
            line = {"life": start_s, "t_s": start_s + t_s, "answered": cache.shown, "hits": cache.hits,
                    "evicted_bytes": cache.evicted_bytes}
            os.write(report, json.dumps(line).encode() + b"\n")
        step = max(step + 1, int(t_s / STEP_S) + 1)
        if watch.wait(start_s + step * STEP_S - clock_s()):
            told_s = clock_s() - start_s
            cache.give_up(args.smallest)
            reported_s = -REPORT_EVERY_S


def clock_s():
    """Return the time since boot."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


if __name__ == "__main__":
    main()
