"""A program that waits on its pressure FIFO and says every 200 ms how often it was woken."""

import contextlib
import os
import select
import time

fifo = os.open(os.environ["MEMORY_PRESSURE_WATCH"], os.O_RDWR | os.O_NONBLOCK)
poll = select.poll()
poll.register(fifo, select.POLLIN)
wakes, told_s = 0, time.monotonic()
print(os.getpid(), flush=True)
while True:
    if poll.poll(50):
        wakes += 1
        with contextlib.suppress(BlockingIOError):
            os.read(fifo, 4096)
    if time.monotonic() - told_s > 0.2:
        told_s = time.monotonic()
        print(wakes, flush=True)
