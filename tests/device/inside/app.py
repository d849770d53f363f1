"""An app whose cache grows by 2 MiB a second, for as many seconds as it is told; it drops the cache when asked.

It speaks systemd's memory-pressure protocol as far as a FIFO goes: open read-write, wait, read, let go.
"""

import os
import select
import sys

MIB = 1 << 20
cache = []
path = os.environ.get("MEMORY_PRESSURE_WATCH", "")
fds = [os.open(path, os.O_RDWR | os.O_NONBLOCK)] if path else []
for _ in range(2 * int(sys.argv[1])):
    ready = select.select(fds, [], [], 0.5)[0]
    if ready:
        os.read(fds[0], 4096)
        print(f"dropped {len(cache)} MiB", flush=True)
        cache.clear()
    cache.append(bytearray(os.urandom(64)) * (MIB // 64))
print("lived", flush=True)
