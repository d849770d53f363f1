"""A program with a slow leak and an evictable cache: takes memory at a steady pace, and ends well when done.

Usage: cache_app.py TOTAL_MIB MIB_PER_S (fifo|usr2|deaf). Nine tenths of what it takes is cache. The cache is dropped
when the FIFO in MEMORY_PRESSURE_WATCH says so, at SIGUSR2, or never. Mappings and not bytes: what is dropped goes
back to the kernel at once.
"""

import mmap
import os
import select
import signal
import sys

STEP_S = 0.02
cache: list[mmap.mmap] = []
leaked: list[mmap.mmap] = []
told: list[int] = []


def taken(size: int) -> mmap.mmap:
    piece = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    piece.write(b"x" * size)
    return piece


def drop() -> None:
    told.append(len(cache))
    while cache:
        cache.pop().close()


total_bytes, rate_bytes, ear = int(sys.argv[1]) << 20, float(sys.argv[2]) * (1 << 20), sys.argv[3]
poll = select.poll()
fifo = -1
if ear == "fifo":
    fifo = os.open(os.environ["MEMORY_PRESSURE_WATCH"], os.O_RDWR | os.O_NONBLOCK)
    poll.register(fifo, select.POLLIN)
elif ear == "usr2":
    signal.signal(signal.SIGUSR2, lambda number, frame: drop())

step_bytes, taken_bytes = int(rate_bytes * STEP_S), 0
print("ready", flush=True)
while taken_bytes < total_bytes:
    for piece_bytes, holder in ((step_bytes * 9 // 10, cache), (step_bytes // 10, leaked)):
        holder.append(taken(piece_bytes))
    taken_bytes += step_bytes
    if poll.poll(STEP_S * 1000):
        os.read(fifo, 4096)
        drop()
print(f"done, told {len(told)} times", flush=True)
