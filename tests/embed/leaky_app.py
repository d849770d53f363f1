"""A program with a leak and a cache, for a cgroup of `limit` bytes; lives for `planned` seconds unless it is killed.

`python leaky_app.py ENCLOSURE-FOLDER LIMIT-BYTES PLANNED-S guarded|alone`. The cache is full from the start; what leaks
reaches the limit at three quarters of the planned time. Guarded, the cache is given up as the guard asks.
"""

import mmap
import sys
import time
from contextlib import nullcontext

import oomguard

PIECE_BYTES = 1 << 20


def piece() -> mmap.mmap:
    """Return memory, every page of it written, that goes back to the kernel when closed."""
    memory = mmap.mmap(-1, PIECE_BYTES, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    memory.madvise(mmap.MADV_NOHUGEPAGE)
    memory.write(b"x" * PIECE_BYTES)
    return memory


def main(folder: str, limit_bytes: int, planned_s: float, is_guarded: bool) -> None:
    """Join, fill, leak."""
    guard = oomguard.Guard(cadence_s=0.1, model="none", log=lambda *event: print(*event, file=sys.stderr))
    with open(f"{folder}/cgroup.procs", "w") as file:
        file.write("0")
    cache = [piece() for _ in range(limit_bytes // 2 // PIECE_BYTES)]

    @guard.hook("pieces")
    def free(request: oomguard.Request) -> int:
        count = min(len(cache), -(-request.needed_bytes // PIECE_BYTES))
        for _ in range(count):
            cache.pop().close()
        return count * PIECE_BYTES

    with guard if is_guarded else nullcontext():
        room = limit_bytes - len(cache) * PIECE_BYTES - used_bytes()
        began_s, leak = time.monotonic(), []
        while (t_s := time.monotonic() - began_s) < planned_s:
            while len(leak) * PIECE_BYTES < room * t_s / (0.75 * planned_s):
                leak.append(piece())
            time.sleep(0.02)
    print(len(cache), flush=True)


def used_bytes() -> int:
    """Return what this process has taken besides the cache."""
    with open("/proc/self/status") as file:
        kilobytes = next(line.split()[1] for line in file if line.startswith("RssAnon:"))
    return int(kilobytes) * 1024 - (LIMIT // 2 // PIECE_BYTES) * PIECE_BYTES


if __name__ == "__main__":
    LIMIT = int(sys.argv[2])
    main(sys.argv[1], LIMIT, float(sys.argv[3]), sys.argv[4] == "guarded")
