"""Grows at a steady pace, part of it a leak and the rest a cache that its pressure FIFO or SIGUSR2 empties.

Usage: leak.py MIB_PER_S LEAK_RATIO SECONDS (fifo|usr2|deaf) [REST_SECONDS]. Ends well after so many seconds, if it
lives so long; in the first REST_SECONDS it does nothing.
"""

import mmap
import os
import select
import signal
import sys
import time

STEP_S = 0.05
cache: list[mmap.mmap] = []
leaked: list[mmap.mmap] = []


def taken(size: int) -> mmap.mmap:
    piece = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    piece.write(b"x" * size)
    return piece


def drop(*_args: object) -> None:
    while cache:
        cache.pop().close()


rate_bytes, leak_ratio = float(sys.argv[1]) * (1 << 20), float(sys.argv[2])
until_s = time.monotonic() + float(sys.argv[3])
rested_s = time.monotonic() + float(sys.argv[5] if len(sys.argv) > 5 else 0)
signal.signal(signal.SIGUSR2, drop if sys.argv[4] == "usr2" else signal.SIG_IGN)
poll, fifo = select.poll(), -1
if sys.argv[4] == "fifo":
    fifo = os.open(os.environ["MEMORY_PRESSURE_WATCH"], os.O_RDWR | os.O_NONBLOCK)
    poll.register(fifo, select.POLLIN)
step_bytes = rate_bytes * STEP_S
while time.monotonic() < until_s:
    for piece_bytes, holder in ((int(step_bytes * (1 - leak_ratio)), cache), (int(step_bytes * leak_ratio), leaked)):
        if piece_bytes and time.monotonic() >= rested_s:
            holder.append(taken(piece_bytes))
    if poll.poll(1000 * STEP_S):
        os.read(fifo, 4096)
        drop()
