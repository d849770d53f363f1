"""The cgroups that targets sit in, each opened once however many targets share it."""

from __future__ import annotations

from oomguard.sense.cgroup import Cgroup
from oomguard.sense.files import below, read_if_there
from oomguard.sense.mounts import Hierarchies, Mount, find_hierarchies


class Groups:
    """The open cgroups by directory, with a count of who uses them."""

    __slots__ = ("_hierarchies", "_open", "root")

    def __init__(self, root: str = "/") -> None:
        self.root = root
        self._hierarchies: Hierarchies | None = None
        self._open: dict[str, Cgroup] = {}

    @property
    def hierarchies(self) -> Hierarchies:
        """Where the cgroups are mounted; looked up when first asked for."""
        if self._hierarchies is None:
            self._hierarchies = find_hierarchies(self.root)
        return self._hierarchies

    def directory(self, path: str) -> str:
        """Return the folder of a memory cgroup, whether it is there or not."""
        memory = self.hierarchies.memory
        return below(self.root, (memory.path if memory is not None else "/sys/fs/cgroup") + path.rstrip("/"))

    def chain(self, path: str) -> tuple[Cgroup, ...]:
        """Open the cgroup `path` and all above it, topmost first: each can kill what sits in the last.

        Args:
            path: below the mount of the memory hierarchy; empty for none.

        Returns:
            Those the memory controller accounts for; give them back with `release`.
        """
        memory = self.hierarchies.memory
        if memory is None or not path:
            return ()
        names = [name for name in path.split("/") if name]
        paths = ["/" + "/".join(names[:depth]) for depth in range(len(names) + 1)]
        chain: list[Cgroup] = []
        for each in reversed(paths):
            group = self._take(each)
            if group.has_memory:
                if chain:
                    chain[0].above = group
                chain.insert(0, group)
            else:
                self.release((group,))
            if not self._is_bound_from_above(memory, each):
                break
        return tuple(chain)

    def _is_bound_from_above(self, memory: Mount, path: str) -> bool:
        """Return whether the parent's limit holds here: v1 before 5.11 need not (use_hierarchy)."""
        if self.hierarchies.version == 2 or path == "/":
            return True
        parent = path.rpartition("/")[0]
        return read_if_there(below(self.root, f"{memory.path}{parent}/memory.use_hierarchy")).strip() != b"0"

    def _take(self, path: str) -> Cgroup:
        directory = self.directory(path)
        group = self._open.get(directory)
        if group is None or group.is_gone:      # the name of a group that is gone may be another's by now
            swappiness = below(self.root, "/proc/sys/vm/swappiness")
            group = Cgroup(directory, path, self.hierarchies.version, swappiness)
            self._open[directory] = group
        group.users += 1
        return group

    def release(self, chain: tuple[Cgroup, ...]) -> None:
        """Give a chain back; a group without users is closed."""
        for group in chain:
            group.users -= 1
            if group.users <= 0:
                group.close()
                if self._open.get(group.directory) is group:
                    del self._open[group.directory]

    def close(self) -> None:
        """Close every group."""
        for group in self._open.values():
            group.close()
        self._open.clear()
