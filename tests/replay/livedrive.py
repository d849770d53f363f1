"""The live guard, driven over recorded samples: the real TargetGuard, a sensor that remembers, a runner that waits."""

from __future__ import annotations

import random
from math import nan
from unittest.mock import patch

from oomguard.act.hooks import Hook, Outcome
from oomguard.act.release import CRITICAL_RATIO
from oomguard.act.releases import Releases
from oomguard.decide.decide import Decision, decider_for
from oomguard.guard import TargetGuard
from oomguard.notes import Notes
from oomguard.record.silence import Silence
from oomguard.replay.recording import Acted, RecordedRun
from oomguard.replay.replay import Replayer, Setting
from oomguard.ring import RELEASED_AT
from oomguard.scorer import Scorer
from oomguard.sense.sample import Sample
from oomguard.window import Window

LOOK_S = 1e-6           # a look takes place so long after its tick


class StubMachine:
    """The machine is part of the samples here."""

    def read(self) -> None:
        """Return nothing: the stub sensor does not look."""
        return


class StubSensor:
    """Gives the recorded sample at a tick, and much the same at a look just before a hook."""

    end_fd, trouble = -1, ""

    def __init__(self) -> None:
        self.sample: Sample | None = None
        self.is_tick = True

    def read(self, _t_s, _late_s, _machine, _evictable_bytes, _phase) -> Sample:
        """Return the sample of this tick, then of looks."""
        assert self.sample is not None
        if self.is_tick:
            self.is_tick = False
            return self.sample
        self.sample = self.sample._replace(t_s=self.sample.t_s + LOOK_S)
        return self.sample

    def kills(self) -> int:
        """Return that nothing was killed."""
        return 0

    def close(self) -> None:
        """Hold nothing."""
        return


class StubRunner:
    """Takes requests and answers them when it is told to."""

    def __init__(self) -> None:
        self.waiting: list[tuple[int, str]] = []
        self.tickets = 0

    def start(self, hook, _request) -> int:
        """Take a request."""
        self.tickets += 1
        self.waiting.append((self.tickets, hook.name))
        return self.tickets


class Live:
    """What a live guard read, decided and did, sample by sample."""

    def __init__(self) -> None:
        self.readings = []                          # one per sample: (level, forecast), None where it was refused
        self.decisions: dict[int, Decision] = {}
        self.actions: list[Acted] = []


def drive(setting: Setting, run: RecordedRun, samples: list[Sample], folder, seed: int = 0) -> Live:
    """Guard a run live, with hooks that take up to 20 s, and restarts in between when nothing is in flight."""
    rng, live = random.Random(seed), Live()
    plan = setting.plan._replace(profile=run.profile)
    model = Replayer(setting).model_for(run)
    phases = None if model is None else model.phases
    hooks = [Hook("cache", "inline", minimum_bytes=1), Hook("images", "inline", cost=2.0)]
    path, sensor, runner = str(folder / "app.window"), StubSensor(), StubRunner()
    guard, started, ends_s, decided = None, {}, nan, (0, "")

    def opened() -> TargetGuard:
        window = Window.open(path, "the same run", 0.0, phases)
        releases = Releases(hooks, runner, window, lambda *_a, **_k: None, CRITICAL_RATIO, lambda: ("app", (), ""),
                            Silence())
        return TargetGuard("app", StubMachine(), sensor, window, Scorer(model, plan.profile), decider_for(plan, "app"),
                           releases, notes, Silence(), plan)

    def tell(event, _severity="info", /, **fields) -> None:
        nonlocal decided
        if event == "decision":
            decided = (fields["level"], fields["rule"])
            live.decisions[at] = Decision(fields["rule"], -1, (), fields["because"])

    notes = Notes(tell, 0)

    def note_started(level: int, rule: str) -> None:
        """Write down what was just asked, as a recorder does, and when it will be done."""
        nonlocal ends_s
        for ticket, hook in runner.waiting:
            if ticket not in started:
                t_s = guard.window._doubles[RELEASED_AT // 8]
                ends_s = t_s + rng.choice([0.0001, 0.4, 3.3, 20.3])        # no race with a tick
                started[ticket] = Acted(t_s, rule, hook, level, 1.0, nan, nan)

    def finish(until_s: float) -> None:
        nonlocal ends_s
        while runner.waiting and ends_s <= until_s:
            ticket, hook = runner.waiting.pop(0)
            action = started[ticket]
            live.actions.append(action._replace(duration_s=ends_s - action.t_s))
            sensor.sample = sensor.sample._replace(t_s=max(ends_s, sensor.sample.t_s))
            over_s = ends_s
            with patch("oomguard.guard.now_s", lambda over_s=over_s: over_s):       # the window began at 0
                assert guard.finished(Outcome(hook, True, nan, 0.0, "", ticket))
            note_started(action.level, action.rule)

    guard = opened()
    for at, sample in enumerate(samples):       # noqa: B007  # tell() notes the decision under it
        finish(sample.t_s)
        if not runner.waiting and rng.random() < 0.02:
            guard.close()
            guard = opened()
        sensor.sample, sensor.is_tick = sample, True
        before = guard.reading
        guard.tick(None, 0.0, 0.0)
        taken = guard.reading is not before
        live.readings.append((guard.reading.level, guard.reading.forecast) if taken else None)
        if runner.waiting:                      # at once, or as soon as it was due
            note_started(*decided)
    finish(float("inf"))
    guard.close()
    return live
