"""One memory cgroup, of either version: its limit, what of it is used, and what swap can still take there.

What costs most is memory.stat, 3 us and more. So a group *rests*: where its charge stands still to the byte, limits and
swap do, too, and no more than half of the limit is charged, what the last look gave holds for REST_TICKS ticks. The
kernel charges up to 64 pages in advance on each core: what a resting group uses may be off by those, or by page cache
that gave way to other memory, for so long. Kernel memory, which v1 tells in a file of its own, is read as often. Once
more than half of the limit is charged, everything is read at every tick.
"""

from __future__ import annotations

from oomguard.sense.constraints import Constraint
from oomguard.sense.fields import WHOLE_LINE, limit
from oomguard.sense.files import GONE, KeptFile, open_if_there
from oomguard.sense.memory_stat import Tally, tally_v1, tally_v2
from oomguard.sense.sample import NAN, made
from oomguard.typed import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from oomguard.sense.machine import MachineReading

INFINITE = float("inf")
UNREACHABLE_BYTES = float(1 << 60)
REST_TICKS = 4
ROOMY_RATIO = 0.5       # of the limit: more charged than that, and a group does not rest
NO_TALLY = Tally(NAN, NAN, NAN, NAN, NAN)


class Names(NamedTuple):
    """What the files of one version are called; empty where it has no such file."""

    limit: str
    usage: str
    swap_limit: str         # v1: of memory and swap together
    swap_usage: str         # v1: memory.stat has it
    kernel: str             # v2: memory.stat has it
    swappiness: str         # v2: the machine's


NAMES = {
    1: Names("memory.limit_in_bytes", "memory.usage_in_bytes", "memory.memsw.limit_in_bytes", "",
             "memory.kmem.usage_in_bytes", "memory.swappiness"),
    2: Names("memory.max", "memory.current", "memory.swap.max", "memory.swap.current", "", ""),
}


class Cgroup:
    """A cgroup that may be shared by several targets: read at most once per tick.

    After `read`, `constraint` is what it bounds (None without a limit that can be reached), `tally` its sums
    (unknown unless it is limited or `is_watched`), `trouble` why it could not be read, `is_gone` whether it
    vanished. `above` is the group that holds it, where that one bounds it, too; `may_rest` is taken away by whoever
    bounds it from beside.
    """

    __slots__ = ("_due_tick", "_files", "_is_roomy", "_kernel", "_kernel_bytes", "_limit", "_limit_text",
                 "_limit_tick", "_limit_trouble", "_nearest", "_nearest_tick", "_seen", "_set_bytes", "_stat_file",
                 "_swap_limit", "_swap_usage", "_swappiness", "_tick", "_usage", "above", "chain_trouble",
                 "constraint", "directory", "is_gone", "is_watched", "limit_bytes", "may_rest", "name", "path",
                 "swap_limit_bytes", "swap_room_bytes", "swap_used_bytes", "swappiness", "tally", "trouble", "users",
                 "version")

    def __init__(self, directory: str, path: str, version: int, machine_swappiness: str) -> None:
        """Open the files that `directory` has; `path` is its name below the hierarchy."""
        self.directory, self.path, self.version, self.name = directory, path, version, "cgroup:" + path
        names = NAMES[version]
        self._files: list[KeptFile] = []
        self._stat_file = self._keep(f"{directory}/memory.stat", 8192)
        self._limit = self._keep(f"{directory}/{names.limit}")
        self._usage = self._keep(f"{directory}/{names.usage}")
        self._kernel = self._keep(f"{directory}/{names.kernel}") if names.kernel else None
        self._swap_limit = self._keep(f"{directory}/{names.swap_limit}")
        self._swap_usage = self._keep(f"{directory}/{names.swap_usage}") if names.swap_usage else None
        swappiness = f"{directory}/{names.swappiness}" if names.swappiness else machine_swappiness
        self._swappiness = self._keep(swappiness)
        self._limit_text, self._set_bytes = b"", INFINITE
        self.limit_bytes = self.swap_limit_bytes = INFINITE
        self.swappiness = NAN
        self.tally: Tally = NO_TALLY
        self.constraint: Constraint | None = None
        self.trouble = self._limit_trouble = self.chain_trouble = ""
        self.is_gone = self.is_watched = False
        self.may_rest = True
        self.above: Cgroup | None = None
        self._nearest: Constraint | None = None
        self._tick = self._limit_tick = self._nearest_tick = -1
        self._due_tick, self._is_roomy, self._kernel_bytes = -1, False, NAN
        self._seen: tuple[float, ...] = ()      # what the last look saw that tells whether another is worth it
        self.swap_room_bytes = self.swap_used_bytes = 0.0
        self.users = 0

    def _keep(self, path: str, size_bytes: int = 64) -> KeptFile | None:
        file = open_if_there(path, size_bytes)
        if file is not None:
            self._files.append(file)
        return file

    @property
    def has_memory(self) -> bool:
        """Whether the memory controller accounts for this cgroup at all."""
        return self._stat_file is not None

    def read_limits(self, machine: MachineReading) -> None:
        """Look at the limits again (0.6 us, 2 where the machine has swap): once per tick, whoever asks."""
        if machine.tick == self._limit_tick:
            return
        self._limit_tick, self._limit_trouble = machine.tick, ""
        try:
            if self._limit is not None:
                text = self._limit.read()
                if text != self._limit_text:
                    self._limit_text, self._set_bytes = text, limit(text)
            if machine.swap_total_bytes and self._swap_limit is not None:
                swap_limit_bytes = limit(self._swap_limit.read())
                self.swap_limit_bytes = INFINITE if swap_limit_bytes >= UNREACHABLE_BYTES else swap_limit_bytes
            if machine.swap_total_bytes and self._swappiness is not None:
                (self.swappiness,) = self._swappiness.numbers(WHOLE_LINE)
        except OSError as error:
            self._limit_trouble = self._reason(error)
        most_bytes = machine.constraint.limit_bytes + machine.swap_total_bytes
        # Beyond the machine's memory and swap a limit is none, for the machine kills first. v1 without a limit says
        # 2^63 - 4096.
        if most_bytes != most_bytes:
            most_bytes = UNREACHABLE_BYTES
        self.limit_bytes = self._set_bytes if self._set_bytes < most_bytes else INFINITE

    def read(self, machine: MachineReading, swap_room_bytes: float) -> float:
        """Read the group: once per tick, whoever asks.

        Args:
            machine: the machine's reading of this tick.
            swap_room_bytes: what swap can still take from the groups above.

        Returns:
            What it can still take from the groups below. (v1 counts memory and swap together: each group
            speaks for itself there.)
        """
        if machine.tick == self._tick:
            return self.swap_room_bytes
        self._tick, self.trouble = machine.tick, self._limit_trouble
        if self.limit_bytes < INFINITE or self.is_watched or self.swap_limit_bytes < INFINITE:
            try:
                self._look(machine, swap_room_bytes)
            except OSError as error:
                self.swap_room_bytes, self.constraint, self._seen = swap_room_bytes, None, ()
                self.tally, self.trouble = NO_TALLY, self._reason(error)
        else:
            self.swap_room_bytes, self.constraint = swap_room_bytes, None
        return self.swap_room_bytes

    def _look(self, machine: MachineReading, swap_room_bytes: float) -> None:
        """Measure the group, unless it rests: then everything stays as it is. Raises OSError."""
        charged_bytes = self._usage.numbers(WHOLE_LINE)[0] if self._usage is not None else NAN
        seen = (charged_bytes, swap_room_bytes, machine.swap_total_bytes, self.limit_bytes, self.swap_limit_bytes,
                self.swappiness)
        is_due = machine.tick >= self._due_tick or not self._is_roomy
        if seen == self._seen and not is_due:
            return
        if is_due:
            # Groups that were opened together take turns.
            self._due_tick = machine.tick + (REST_TICKS if self._seen else 1 + hash(self.path) % REST_TICKS)
            if self._kernel is not None:
                self._kernel_bytes = self._kernel.numbers(WHOLE_LINE)[0]
        self.swap_room_bytes, self.constraint, self._seen = swap_room_bytes, None, seen
        if self._stat_file is not None:
            self._measure(machine, self._stat_file, charged_bytes)
        self._is_roomy = self.may_rest and charged_bytes <= self.limit_bytes * ROOMY_RATIO

    def _measure(self, machine: MachineReading, stat_file: KeptFile, charged_bytes: float) -> None:
        self.tally = tally = tally_v1(stat_file) if self.version == 1 else tally_v2(stat_file)
        swap_used = swap_free = swap_limit = 0.0
        if machine.swap_total_bytes:
            swap_used, swap_free, swap_limit = self._measure_swap(machine.swap_total_bytes)
        self.swap_used_bytes = swap_used
        if self.limit_bytes < INFINITE:
            used, free = tally.used_bytes, self.limit_bytes - tally.used_bytes + swap_free
            self.constraint = made(Constraint, (
                self.name, self.limit_bytes, used, free, charged_bytes,
                self._kernel_bytes if self._kernel is not None else tally.kernel_bytes,
                swap_used, swap_free if swap_free > 0 else 0.0, swap_limit))

    def nearest(self, machine: MachineReading) -> Constraint | None:
        """Return the constraint with the least headroom of this group and those above, read once per tick.

        `chain_trouble` then says what of them could not be read.
        """
        if machine.tick == self._nearest_tick:
            return self._nearest
        self._nearest_tick = machine.tick
        above = self.above
        if above is None:
            nearest, trouble, room_bytes = None, "", machine.swap_room_bytes
        else:
            nearest, trouble, room_bytes = above.nearest(machine), above.chain_trouble, above.swap_room_bytes
        self.read(machine, room_bytes)
        own = self.constraint
        if own is not None and own.headroom_bytes < (INFINITE if nearest is None else nearest.headroom_bytes):
            nearest = own
        self._nearest, self.chain_trouble = nearest, self.trouble or trouble
        return nearest

    def _measure_swap(self, swap_total_bytes: float) -> tuple[float, float, float]:
        """Return (used, free, limit) of swap here.

        Reclaim in a group of swappiness 0 never swaps (mm/vmscan.c).
        """
        if self.version == 1:
            # memsw bounds memory and swap together: beyond memory's own limit it grants swap. More than that
            # may lie in swap while memory is not full; it then shortens the headroom.
            used, most = self.tally.swap_used_bytes, INFINITE
            if self.swap_limit_bytes < INFINITE:
                most = max(0.0, self.swap_limit_bytes - self.limit_bytes)
            free = min(self.swap_room_bytes, most - used)
        else:
            used = self._swap_usage.numbers(WHOLE_LINE)[0] if self._swap_usage is not None else NAN
            most = self.swap_limit_bytes
            free = self.swap_room_bytes = max(0.0, min(self.swap_room_bytes, most - used))
        if self.swappiness == 0:
            free = min(0.0, free)
        return used, free, min(most, swap_total_bytes)

    def _reason(self, error: OSError) -> str:
        self.is_gone = self.is_gone or error.errno in GONE
        return f"{self.name}: {error.strerror or error}"

    def close(self) -> None:
        """Give the descriptors back."""
        for file in self._files:
            file.close()
