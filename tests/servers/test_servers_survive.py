"""From a rule file to a life: servers that the kernel kills without the guard, and not under `oomguard run`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from serving import MIB, Memcached, Program, Redis, until

from oomguard.enclosure import Enclosure

Start = Callable[..., Any]
LIMIT_BYTES = 64 * MIB
FILLED = 120            # MiB written, in all
RULES = """version: 1
model: none
cadence: 100ms
targets: [{{name: server, cgroup: "{cgroup}"}}]
hooks: [{{name: server, {hook}, cost: 2, minimum: 16MiB}}]
rules: [{{name: caches first, when: {{level_at_least: 2}}, then: [{{hook: server, release: needed}}], cooldown: 0s}}]
bounds: {{actions_per_minute: 60, minimum_gap: 0s}}
"""


class Run(Program):
    """`oomguard run` with a rule file."""

    def __init__(self, folder: Path, group: Enclosure, hook: str) -> None:
        rules, self.log = folder / "rules.yaml", folder / "log"
        rules.write_text(RULES.format(cgroup=group.path, hook=hook))
        environ = os.environ | {"RUNTIME_DIRECTORY": str(folder / "rt"), "STATE_DIRECTORY": str(folder / "state")}
        super().__init__(sys.executable, "-m", "oomguard", "run", "--log-json", str(self.log), "--rules", str(rules),
                         env=environ)
        until(lambda: self.events("guarding"), "the guard")

    def events(self, name: str) -> list[dict[str, Any]]:
        """Return what the log holds of one kind."""
        lines = self.log.read_text().splitlines(keepends=True) if self.log.exists() else []
        found = [json.loads(line) for line in lines if line.endswith("\n")]
        return [event for event in found if event["event"] == name]


@pytest.fixture
def fill(folder: Path) -> Iterator[Callable[[Any], bool]]:
    """Write 120 MiB at a steady pace; return whether the server lived to take them."""
    def write(server: Any) -> bool:
        for i in range(FILLED):
            try:
                server.fill(8, 128 * 1024, prefix=f"k{i}-")
            except (OSError, AssertionError):
                return False
            time.sleep(0.04)        # the pace of the load; nothing is waited for
        return server.process.poll() is None

    yield write


SERVERS = [
    (Redis, lambda server: f'redis: {{address: "{server.address}", policy: allkeys-lru}}'),
    (Memcached, lambda server: f'memcached: {{address: "{server.address}"}}'),
]


def begin(start: Start, kind: type[Program], folder: Path, group: Enclosure) -> Any:
    return start(Redis, folder, enclosure=group) if kind is Redis else start(Memcached, "-m", "1024", enclosure=group)


@pytest.mark.parametrize(("kind", "hook"), SERVERS, ids=["redis", "memcached"])
def test_killed_without_and_alive_with_the_guard(
    start: Start, folder: Path, enclosure: Callable[..., Enclosure], fill: Callable[[Any], bool], kind: type[Program],
    hook: Callable[[Any], str],
) -> None:
    """The same load, the same limit: the kernel's kill, and then none, with releases that the samples confirm."""
    alone = enclosure(LIMIT_BYTES)
    assert not fill(begin(start, kind, folder, alone))
    assert alone.kills() == 1
    group = enclosure(LIMIT_BYTES)
    server = begin(start, kind, folder, group)
    guard = start(Run, folder, group, hook(server))
    assert fill(server), guard.log.read_text()
    assert group.kills() == 0
    releases = until(lambda: guard.events("release"), "a release")
    print(kind.__name__, [(one["requested_bytes"], one["claimed_bytes"], one["freed_bytes"]) for one in releases])
    assert any(one["ok"] and one["freed_bytes"] > 8 * MIB for one in releases)
    subprocess.run(["kill", str(guard.pid)], check=True)
    assert guard.process.wait(20) == 0
