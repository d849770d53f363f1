"""The guards of all targets of a daemon: found, ticked, lost, looked for again."""

from __future__ import annotations

import os
import select
from typing import TYPE_CHECKING

from oomguard.act.hooks import Hook
from oomguard.act.releases import Releases
from oomguard.clock import now_s
from oomguard.decide.decide import decider_for
from oomguard.errors import OomguardError, TargetGoneError, WindowError
from oomguard.guard import TargetGuard
from oomguard.scorer import Scorer
from oomguard.sense.sensor import open_sensor
from oomguard.sense.target import resolve
from oomguard.window import Window

if TYPE_CHECKING:
    from oomguard.daemon import Daemon
    from oomguard.decide.plan import TargetPlan
    from oomguard.sense.machine import MachineReading

LOOK_EVERY_S = 5.0
COMING_BACK = ("unit", "command", "cgroup")     # kinds of target that may appear, or appear again, later


class Guards:
    """One TargetGuard per target that is there."""

    def __init__(self, daemon: Daemon) -> None:
        self._daemon = daemon
        self.by_name: dict[str, TargetGuard] = {}
        self.hooks: list[Hook] = []
        self.last_problem = ""
        self._looked_s = float("-inf")

    @property
    def missing(self) -> list[str]:
        """Names of targets that are not there now."""
        return [target.name for target in self._daemon.plan.targets if target.name not in self.by_name]

    @property
    def may_come(self) -> bool:
        """Whether a missing target may still appear."""
        return any(target.kind in COMING_BACK for target in self._daemon.plan.targets if target.name not in self.by_name)

    def look_for_targets(self) -> None:
        """Open a guard for each target that is there and has none."""
        self._looked_s = now_s()
        for target in self._daemon.plan.targets:
            if target.name not in self.by_name:
                try:
                    self.by_name[target.name] = self._open(target)
                except OomguardError as error:
                    if str(error) != self.last_problem:
                        self.last_problem = str(error)
                        self._daemon.tell("waiting", target=target.name, because=str(error))

    def tick(self, late_s: float) -> None:
        """Tick every guard."""
        machine = self._daemon.machine.read()
        for guard in list(self.by_name.values()):
            try:
                guard.tick(machine, now_s(), late_s, self._read_machine)
            except TargetGoneError as error:
                self._lose(guard, str(error))
        self.collect()
        if self.missing and now_s() - self._looked_s >= LOOK_EVERY_S:
            self.look_for_targets()

    def collect(self) -> None:
        """Hand the outcomes of hooks to the targets they are of."""
        is_quiet = all(guard.last is None or guard.last.level == 0 for guard in self.by_name.values())
        for outcome in self._daemon.runner.poll(now_s(), is_quiet=is_quiet):
            for guard in self.by_name.values():
                if guard.finished(outcome, now_s(), self._read_machine):
                    break

    def target_ended(self, end_fd: int) -> None:
        """Lose the guard whose process has ended."""
        for guard in list(self.by_name.values()):
            if guard.sensor.end_fd == end_fd:
                self._lose(guard, "its process has ended")

    def close(self) -> None:
        """Let go of every target."""
        for guard in self.by_name.values():
            guard.close()
        self.by_name.clear()

    def _read_machine(self) -> MachineReading:
        return self._daemon.machine.read()

    def _open(self, target: TargetPlan) -> TargetGuard:
        daemon = self._daemon
        found = resolve(target)
        sensor = open_sensor(found, daemon.machine, daemon.plan.profile)
        window = self._open_window(target.name, sensor.identity)

        def tell(event: str, severity: str = "info", /, **fields: object) -> None:
            daemon.tell(event, severity, target=target.name, **fields)

        def facts() -> dict[str, object]:
            return {"target": target.name, "pids": sensor.pids(), "cgroup": found.cgroup}

        model = daemon.model
        releases = Releases([hook for hook in self.hooks if hook.serves(target.name)], daemon.runner, window, tell,
                            model.critical_ratio if model else 0.9, facts)
        guard = TargetGuard(target.name, sensor, window, Scorer(model, daemon.plan.profile),
                            decider_for(daemon.plan, target.name), releases, daemon.plan, tell)
        if sensor.end_fd >= 0:
            daemon.poller.register(sensor.end_fd, select.EPOLLIN)
        tell("guarding", what=found.label, pressure_of=sensor.pressure_of, window_s=round(window.last_t_s, 1) if len(window) else 0,
             is_continued=len(window) > 0,
             constraints=[f"{each.name}={each.limit_bytes:.0f}" for each in sensor.constraints()][:8])
        return guard

    def _open_window(self, name: str, identity: str) -> Window:
        """Open the target's window; where no file can be had, guard without one and say what that costs."""
        daemon = self._daemon
        phases = daemon.model.phases if daemon.model else None
        folder = os.path.join(daemon.options.runtime_dir, "windows")
        path = os.path.join(folder, "".join(c if c.isalnum() or c in "-_." else f"%{ord(c):02x}" for c in name)[:200] + ".window")
        try:
            os.makedirs(folder, mode=0o755, exist_ok=True)
            try:
                return Window.open(path, identity, now_s(), phases)
            except WindowError as error:
                daemon.tell("window-refused", "warning", target=name, because=str(error))
                return Window.open(path, identity, now_s(), phases)
        except OSError as error:
            daemon.tell("window-in-memory", "warning", target=name, because=f"{path}: {error.strerror}: a restart will forget it")
            return Window.in_memory(now_s(), phases)

    def _lose(self, guard: TargetGuard, why: str) -> None:
        daemon = self._daemon
        kills = guard.sensor.kills()
        daemon.tell("target-gone", "notice", target=guard.name, because=why, kills=kills)
        del self.by_name[guard.name]
        if guard.sensor.end_fd >= 0:
            daemon.poller.unregister(guard.sensor.end_fd)
        guard.close()
        if not self.by_name and not self.may_come and daemon.app is None:
            daemon.exit_code = TargetGoneError.exit_code
