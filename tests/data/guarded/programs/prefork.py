"""A server in small: a parent with a cache that SIGUSR2 empties, and one worker after another that leaks and dies.

Usage: prefork.py CACHE_MIB WORKER_MIB_PER_S. The parent puts its cache back ten seconds after it was emptied, and a new
worker in the place of one that was killed.
"""

import mmap
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

cache: list[mmap.mmap] = []
dropped: list[float] = [0.0]        # when, the newest last


def drop(*_args: object) -> None:
    while cache:
        cache.pop().close()
    dropped.append(time.monotonic())


signal.signal(signal.SIGUSR2, drop)
leak = [sys.executable, "-S", str(Path(__file__).with_name("leak.py")), sys.argv[2], "1", "3600", "deaf"]
worker = subprocess.Popen(leak)
signal.signal(signal.SIGTERM, lambda *_args: (worker.kill(), os._exit(0)))
while True:
    if not cache and time.monotonic() >= dropped[-1] + 10.0:
        cache.append(mmap.mmap(-1, int(sys.argv[1]) << 20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS))
        cache[0].write(b"x" * len(cache[0]))
    if worker.poll() is not None:
        worker = subprocess.Popen(leak)
    time.sleep(0.1)
