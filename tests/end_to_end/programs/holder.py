"""A program that takes memory when told: `take MIB`, `drop`, on standard input; answers each line with `ok`."""

import mmap
import sys

held: list[mmap.mmap] = []
print("ready", flush=True)
for line in sys.stdin:
    word, *rest = line.split()
    if word == "drop":
        while held:
            held.pop().close()
    else:
        size = int(float(rest[0]) * (1 << 20))
        held.append(mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS))
        for at in range(0, size, mmap.PAGESIZE):
            held[-1][at] = 1
    print("ok", flush=True)
