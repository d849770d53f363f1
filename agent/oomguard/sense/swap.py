"""What swap can still take. A page put into zram leaves memory only in part: its compressed size stays.

With r the compressed share, x bytes moved into zram free x(1 - r) of the machine, and cost x*r of what is
available. So the machine gains (1 - r) of what zram can still take, and a cgroup (zram's pool is charged to
nobody) can put there what the machine has room for, available / r, and no more.
"""

from __future__ import annotations

from oomguard.sense.files import KeptFile, below, open_if_there
from oomguard.sense.sample import NAN
from oomguard.typed import NamedTuple

UNMEASURED_RATIO = 0.5          # the kernel's own expectation: "2:1" (admin-guide/blockdev/zram.rst)
MEASURABLE_BYTES = 1 << 20      # with less than this stored, overhead drowns the ratio


class SwapRoom(NamedTuple):
    """What swap can still take, seen from the machine and from a cgroup in it: whole bytes, rounded down."""

    gain_bytes: float           # machine memory that using all of swap would free
    free_bytes: float           # bytes a cgroup could still put there


class ZramCost(NamedTuple):
    """What a byte put into one zram device costs, and how many it takes at most beside its own size."""

    ratio: float                # compressed / original, 0...1
    room_bytes: float           # until its mem_limit is reached; infinite without one


def zram_cost(mm_stat: bytes) -> ZramCost:
    """Return the cost from a device's mm_stat: orig_data_size compr_data_size mem_used_total mem_limit ..."""
    try:
        stored, compressed, occupied, most = (float(word) for word in mm_stat.split(None, 4)[:4])
    except ValueError:
        return ZramCost(UNMEASURED_RATIO, float("inf"))
    ratio = UNMEASURED_RATIO if stored < MEASURABLE_BYTES else max(0.01, min(1.0, compressed / stored))
    return ZramCost(ratio, max(0.0, most - occupied) / ratio if most else float("inf"))


class Swaps:
    """The machine's swap devices. Costs nothing at a tick unless one of them is zram."""

    __slots__ = ("_mm_stats", "_root", "_swaps", "_total_bytes")

    def __init__(self, root: str = "/") -> None:
        self._root = root
        self._swaps: KeptFile | None = open_if_there(below(root, "/proc/swaps"))
        self._mm_stats: dict[str, KeptFile] = {}
        self._total_bytes = NAN

    def room(self, total_bytes: float, free_bytes: float, available_bytes: float) -> SwapRoom:
        """Return what swap can still take, from meminfo's swap total and free and what is available."""
        if total_bytes != self._total_bytes:            # a device came or went
            self._total_bytes = total_bytes
            self._look_for_zram()
        if not self._mm_stats or self._swaps is None:
            return SwapRoom(free_bytes, free_bytes)
        try:
            return self._room_with_zram(free_bytes, available_bytes)
        except OSError:                                 # the device has just gone: look at the next tick
            self._total_bytes = NAN
            return SwapRoom(free_bytes * (1 - UNMEASURED_RATIO) // 1, free_bytes)

    def _room_with_zram(self, free_bytes: float, available_bytes: float) -> SwapRoom:
        gain_bytes = plain_bytes = free_bytes
        taken_bytes = 0.0
        for device, device_free_bytes in self._devices_free():
            file = self._mm_stats.get(device)
            if file is None:
                continue
            cost = zram_cost(file.read())
            takes_bytes = min(device_free_bytes, cost.room_bytes)
            plain_bytes -= device_free_bytes
            gain_bytes -= device_free_bytes - takes_bytes * (1 - cost.ratio)
            taken_bytes += min(takes_bytes, available_bytes / cost.ratio)
        return SwapRoom(max(0.0, gain_bytes // 1), max(0.0, (plain_bytes + taken_bytes) // 1))

    def _devices_free(self) -> list[tuple[str, float]]:
        """Return each swap's path and free bytes. Lines: path, type, size and used in KiB, priority."""
        text = self._swaps.read() if self._swaps is not None else b""
        rows = (line.split() for line in text.splitlines()[1:])
        return [(row[0].decode("utf-8", "replace"), (float(row[2]) - float(row[3])) * 1024)
                for row in rows if len(row) >= 4 and row[2].isdigit() and row[3].isdigit()]

    def _look_for_zram(self) -> None:
        for file in self._mm_stats.values():
            file.close()
        self._mm_stats = {}
        try:
            devices = [path for path, _free_bytes in self._devices_free()]
        except OSError:
            return
        for path in devices:
            name = path.rpartition("/")[2]
            mm_stat = f"/sys/block/{name}/mm_stat"
            if name.startswith("zram") and (opened := open_if_there(below(self._root, mm_stat), 256)):
                self._mm_stats[path] = opened

    def close(self) -> None:
        """Give the descriptors back."""
        for file in self._mm_stats.values():
            file.close()
        if self._swaps is not None:
            self._swaps.close()
