"""What a check of `doctor` is given and what it finds."""

from __future__ import annotations

from typing import NamedTuple, Protocol

from oomguard.sense.files import below, read_if_there
from oomguard.sense.mounts import Hierarchies, cgroups_of, find_hierarchies

OK, WARN, FAIL = "ok", "warn", "fail"


class Finding(NamedTuple):
    """What one check found."""

    check: str
    verdict: str        # ok | warn (something is lost) | fail (cannot guard)
    finding: str
    mend: str = ""


class Site(NamedTuple):
    """Where to look; tests look elsewhere."""

    root: str = "/"
    socket: str = ""
    runtime: str = ""           # empty: the default runtime folder

    def hierarchies(self) -> Hierarchies:
        """Return the cgroup hierarchies of this process."""
        return find_hierarchies(self.root)

    def own_cgroup(self) -> tuple[str, str]:
        """Return (folder of the own memory cgroup, its path below the mount); empty where there is none."""
        found = self.hierarchies()
        path, _unified = cgroups_of(read_if_there(below(self.root, "/proc/self/cgroup")), found)
        if found.memory is None or not path:
            return "", ""
        return below(self.root, found.memory.path + path.rstrip("/")), path


class Check(Protocol):
    """A function that looks at one thing."""

    __name__: str

    def __call__(self, site: Site, /) -> Finding: ...                               # noqa: D102
