"""The guards of all targets of a daemon: found, ticked, lost, looked for again."""

from __future__ import annotations

import os
from collections.abc import Callable

from oomguard.act.release import CRITICAL_RATIO
from oomguard.act.releases import Releases
from oomguard.clock import now_s
from oomguard.decide.decide import Deciders
from oomguard.errors import OomguardError, TargetGoneError, WindowError
from oomguard.guard import TargetGuard
from oomguard.notes import Notes
from oomguard.record.facts import run_facts
from oomguard.record.silence import Silence
from oomguard.scorer import open_scorer, scorer_in
from oomguard.sense.files import read_if_there
from oomguard.sense.mounts import cgroups_of, find_hierarchies
from oomguard.sense.sample import NAN
from oomguard.sense.sensor import open_sensor
from oomguard.sense.target import resolve
from oomguard.typed import TYPE_CHECKING
from oomguard.window import Window

if TYPE_CHECKING:
    from oomguard.act.hooks import Hook
    from oomguard.act.runner import Runner
    from oomguard.briefing import Briefing
    from oomguard.decide.plan import TargetPlan
    from oomguard.record.journal import Journal
    from oomguard.record.recorder import RunRecorder
    from oomguard.sense.machine import Machine
    from oomguard.sense.portable import PortableMachine

LOOK_EVERY_S = 5.0
CLOCK_SLACK_S = 1.0             # a window from further ahead was written by another clock
HELPER_ROOM_BYTES = 64 << 20    # the helper takes 8 MB (measured), and what it runs some more
COMING_BACK = ("unit", "command", "cgroup")     # kinds of target that may appear, or appear again, later

Tell = Callable[..., None]


class Guards:
    """One TargetGuard per target that is there."""

    __slots__ = ("_available_bytes", "_briefing", "_deciders", "_hooks", "_looked_s", "_machine", "_own_cgroup",
                 "_problems", "_runner", "_tell", "_windows", "by_name", "changes", "journal", "phases", "targets")

    def __init__(
        self, briefing: Briefing, machine: Machine | PortableMachine, runner: Runner, hooks: list[Hook], tell: Tell,
    ) -> None:
        self._briefing, self._machine, self._runner = briefing, machine, runner
        self._deciders = Deciders(briefing.plan)
        self._hooks, self._tell = hooks, tell
        self.targets = briefing.plan.targets
        self.journal: Journal | None = None     # nobody records until somebody sets it
        self.by_name: dict[str, TargetGuard] = {}
        self.changes = 0                        # counts the guards that came, went or were made anew
        self._problems: dict[str, OomguardError] = {}       # why a target is not guarded, said once
        self._windows: dict[str, tuple[str, Window]] = {}   # kept over a reload, by name, with the run they are of
        self.phases: dict[str, str] = {}        # what clients said of a target that may come and go
        self._looked_s = float("-inf")
        self._available_bytes = NAN
        own, _unified = cgroups_of(read_if_there("/proc/self/cgroup"), find_hierarchies())
        self._own_cgroup = f"cgroup:{own}"      # as a constraint is called

    @property
    def missing(self) -> tuple[TargetPlan, ...]:
        """The targets that are not there now."""
        return tuple(target for target in self.targets if target.name not in self.by_name)

    @property
    def is_hopeless(self) -> bool:
        """Whether no target is there and none can come: processes by number do not come back."""
        return not self.by_name and not any(target.kind in COMING_BACK for target in self.missing)

    @property
    def problem(self) -> OomguardError:
        """Why a target was not found: the last one's reason."""
        return next(reversed(self._problems.values()), TargetGoneError("no target is named"))

    def look_for_targets(self) -> None:
        """Open a guard for each target that is there and has none."""
        self._looked_s = now_s()
        for target in self.missing:
            try:
                self.by_name[target.name] = self._open(target)
                self.changes += 1
                self._problems.pop(target.name, None)
            except OomguardError as error:
                said = self._problems.get(target.name)
                self._problems[target.name] = error
                if str(error) != str(said):
                    self._tell("waiting", target=target.name, because=str(error))

    def tick(self, late_s: float) -> None:
        """Tick every guard."""
        machine = self._machine.read()
        self._available_bytes = machine.available_bytes
        for guard in list(self.by_name.values()):
            try:
                guard.tick(machine, now_s(), late_s)
            except TargetGoneError as error:
                self._lose(guard, str(error))
            except (OomguardError, OSError) as error:       # a failed read is a value with a reason, never a stop
                guard.notes.blind(str(error))
        self.collect()
        if len(self.by_name) < len(self.targets) and now_s() - self._looked_s >= LOOK_EVERY_S:
            self.look_for_targets()
        if self.journal is not None:
            self.journal.tick(now_s())

    def collect(self) -> None:
        """Hand the outcomes of hooks to the targets they are of."""
        may_start_helper = self._runner.helper_pid < 0 and self.has_room()
        for outcome in self._runner.poll(now_s(), is_quiet=may_start_helper):
            if not any(guard.finished(outcome) for guard in self.by_name.values()):
                self._tell("hook-ended", hook=outcome.hook, ok=outcome.ok, because=outcome.why or "its target is gone")

    def has_room(self) -> bool:
        """Return whether a helper would fit: what bounds us too is not near its limit.

        A target's level says nothing here: one in a cgroup of its own may stay at level 1 for good, and at level 5
        it is without a helper that it is lost.
        """
        return not self._available_bytes < HELPER_ROOM_BYTES and not any(
            guard.reading is not None and guard.reading.sample.headroom_bytes < HELPER_ROOM_BYTES
            and f"{self._own_cgroup}/".startswith(guard.reading.sample.constraint.rstrip("/") + "/")
            for guard in self.by_name.values())

    def end_fds(self) -> dict[int, TargetGuard]:
        """Return the descriptors that become readable when a target's process ends."""
        return {guard.sensor.end_fd: guard for guard in self.by_name.values() if guard.sensor.end_fd >= 0}

    def lose(self, end_fd: int) -> None:
        """Close the guard whose process has ended."""
        guard = self.end_fds().get(end_fd)
        if guard is not None:
            self._lose(guard, "its process has ended")

    @property
    def hooks(self) -> tuple[Hook, ...]:
        """The hooks of all targets."""
        return tuple(self._hooks)

    def join(self, hook: Hook) -> None:
        """Take one more hook, for targets that are there and for those to come."""
        self._hooks.append(hook)
        for guard in self.by_name.values():
            if hook.serves(guard.name):
                guard.releases.hooks.append(hook)

    def part(self, hook: Hook) -> None:
        """Forget a hook; what is under way at it is the runner's to end."""
        self._hooks.remove(hook)
        for guard in self.by_name.values():
            if hook in guard.releases.hooks:
                guard.releases.hooks.remove(hook)

    def set_phase(self, target: str, phase: str | None) -> None:
        """Note what the app says it does; None: it does not say."""
        if phase is None:
            self.phases.pop(target, None)
        else:
            self.phases[target] = phase
        if target in self.by_name:
            self.by_name[target].phase = phase

    @property
    def is_busy(self) -> bool:
        """Whether a hook of some target is at work."""
        return any(guard.releases.is_busy for guard in self.by_name.values())

    def reload(self, briefing: Briefing, hooks: list[Hook], targets: tuple[TargetPlan, ...]) -> None:
        """Go on under another plan and model; targets that stay keep their windows."""
        self._briefing, self._hooks, self.targets = briefing, hooks, targets
        self._deciders = Deciders(briefing.plan)
        for guard in self.by_name.values():
            self._windows[guard.name] = (guard.sensor.identity, guard.give_up())
        self.by_name.clear()
        self.look_for_targets()
        for _identity, window in self._windows.values():
            window.close()              # of targets that are no more
        self._windows.clear()

    def ended(self, how: str) -> None:
        """Record how every run that is still guarded ended: `oom`, `exit`, `crash`, `stopped`."""
        for guard in self.by_name.values():
            guard.recorder.end(how, now_s() - guard.window.start_s)

    def close(self) -> None:
        """Let go of every target."""
        for guard in self.by_name.values():
            guard.close()
        self.by_name.clear()

    def _lose(self, guard: TargetGuard, why: str) -> None:
        kills = guard.sensor.kills()
        self._tell("target-gone", "notice", target=guard.name, because=why, kills=kills)
        how = "exit" if guard.sensor.kind != "process" else {0: "exit", 1: "oom"}.get(kills, "unknown")
        guard.recorder.end(how, now_s() - guard.window.start_s)
        del self.by_name[guard.name]
        self.changes += 1
        guard.close()

    def _open(self, target: TargetPlan) -> TargetGuard:
        plan, model, _options = self._briefing
        found = resolve(target)
        sensor = open_sensor(found, self._machine, plan.profile)
        window = self._open_window(target.name, sensor.identity)

        def tell(event: str, severity: str = "info", /, **fields: object) -> None:
            self._tell(event, severity, target=target.name, **fields)

        def facts() -> tuple[str, tuple[int, ...], str]:
            return target.name, sensor.pids(), found.cgroup

        hooks = [hook for hook in self._hooks if hook.serves(target.name)]
        # A learned one may only make more room: kernels strike at 0.98, and a reserve of 2 % would be none.
        critical_ratio = CRITICAL_RATIO if model is None else min(CRITICAL_RATIO, model.critical_ratio)
        recorder = self._recorder_of(target.name, sensor.identity, found.label, window)
        releases = Releases(hooks, self._runner, window, tell, critical_ratio, facts, recorder,
                            is_dry_run=plan.is_dry_run, others=self._releases)
        tell("guarding", what=found.label, pressure_of=sensor.pressure_of, is_continued=len(window) > 0,
             constraints=[f"{each.name}={each.limit_bytes:.0f}" for each in sensor.constraints()][:8])
        scorer = open_scorer(model, plan.profile, self._runner, self._tell)
        guard = TargetGuard(target.name, self._machine, sensor, window, scorer, self._deciders.of(target.name),
                            releases, Notes(tell, sensor.kills(), scorer.name), recorder, plan)
        guard.phase = self.phases.get(target.name)
        return guard

    def _releases(self) -> list[Releases]:
        return [guard.releases for guard in self.by_name.values()]

    def _recorder_of(self, name: str, identity: str, found: str, window: Window) -> RunRecorder | Silence:
        if self.journal is None:
            return Silence()
        plan, model, _options = self._briefing
        return self.journal.run(run_facts(
            name, identity, window.start_s, plan.profile, target=found, cadence_s=plan.cadence_s,
            bundle_digest="" if model is None else model.digest, rules_digest=plan.digest,
            scorer=scorer_in(model)))

    def _open_window(self, name: str, identity: str) -> Window:
        """Open the target's window; where no file can be had, guard without one and say what that costs."""
        model = self._briefing.model
        phases = None if model is None else model.phases
        kept_identity, kept = self._windows.pop(name, ("", None))
        if kept is not None:
            if kept_identity == identity:
                kept.phases = phases or {}
                return kept
            kept.close()
        if not self._briefing.options.runtime_dir:      # an app that embeds the guard and wants no file
            return Window.in_memory(now_s(), phases)
        folder = os.path.join(self._briefing.options.runtime_dir, "windows")
        path = os.path.join(folder, _file_name(name) + ".window")
        try:
            os.makedirs(folder, mode=0o755, exist_ok=True)
            try:
                window = Window.open(path, identity, now_s(), phases)
            except WindowError as error:
                self._tell("window-refused", "warning", target=name, because=str(error))
                window = Window.open(path, identity, now_s(), phases)
            if not window.is_of_the_past(now_s() + CLOCK_SLACK_S):      # it would refuse every sample
                window.close()
                os.unlink(path)
                window = Window.open(path, identity, now_s(), phases)
            return window
        except OSError as error:
            self._tell("window-in-memory", "warning", target=name,
                       because=f"{path}: {error.strerror}: a restart will forget it")
            return Window.in_memory(now_s(), phases)


def _file_name(name: str) -> str:
    """Return a name that is safe as a file's, and another one for every other target."""
    return "".join(c if c.isascii() and (c.isalnum() or c in "-_.") else f"%{ord(c):x}%" for c in name)[:200]
