"""A replay held against its recording: was it the same guard, and did it decide the same?"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from oomguard._version import __version__
from oomguard.features import SINCE_RELEASE_CAP_S
from oomguard.record.runs import profile_digest
from oomguard.replay.recording import Acted, RecordedRun
from oomguard.replay.replay import Replayed, Setting

SAME, DIFFERS, NOT_RECORDED = "same", "differs", "not recorded"
FOLLOWS_WITHIN_S = 1.0      # the next hook of the same decision starts as soon as the last one is done


class Ingredient(NamedTuple):
    """One thing that decisions follow from, as recorded and as here."""

    name: str
    recorded: str
    here: str

    @property
    def verdict(self) -> str:
        """Return `same`, `differs` or `not recorded`."""
        return NOT_RECORDED if not self.recorded else SAME if self.recorded == self.here else DIFFERS


class Difference(NamedTuple):
    """One place where replay and recording part."""

    run_id: str
    t_s: float
    recorded: str               # what was done then; empty: nothing
    replayed: str               # what is decided now; empty: nothing
    is_influenced: bool         # a recorded release within the last 300 s shaped the memory that is replayed


class Comparison(NamedTuple):
    """What came of one run."""

    ingredients: tuple[Ingredient, ...]
    confirmed: int              # recorded decisions made again at the same sample, by the same rule and level
    unanswered: int             # replayed decisions that left no action: nothing was needed, or nobody to be asked
    differences: tuple[Difference, ...]

    @property
    def is_same_guard(self) -> bool:
        """Whether everything was recorded and is the same: then the decisions have to be the same bits."""
        return all(each.verdict == SAME for each in self.ingredients)


def ingredients(run: RecordedRun, setting: Setting) -> tuple[Ingredient, ...]:
    """Return what the run was guarded with, beside what it is replayed with."""
    was, bundle = run.recorded_with, setting.bundle
    return (
        Ingredient("bundle", was.bundle or ("none" if was.scorer == "plain" else ""),
                   "none" if bundle is None else bundle.digest),
        Ingredient("rules", was.rules, setting.plan.digest),
        Ingredient("profile", was.profile, profile_digest(setting.profile_of(run))),
        Ingredient("version", was.version, __version__))


def is_other_guard(run: RecordedRun, setting: Setting) -> bool:
    """Return whether anything is known to differ: then this is a what-if, and no recorded action was in flight."""
    return any(each.verdict == DIFFERS for each in ingredients(run, setting))


def compare(replayed: Replayed, setting: Setting) -> Comparison:
    """Hold the replayed decisions against the recorded actions."""
    run, found = replayed.run, ingredients(replayed.run, setting)
    is_same_guard = all(each.verdict == SAME for each in found)
    differences: list[Difference] = []
    confirmed: set[int] = set()
    for action, at in decided(replayed, setting):
        decision = replayed.decisions.get(at)
        level = int(replayed.readings.levels[at]) if at >= 0 else -1
        if decision is not None and decision.rule == action.rule and action.level in (-1, level):
            confirmed.add(at)
            continue
        now = "" if decision is None else f"level {level}, {decision.rule!r}"
        was = f"level {action.level if action.level >= 0 else '?'}, {action.rule!r} asked {action.hook or '?'}"
        differences.append(Difference(run.run_id, action.t_s, was, now, _is_influenced(run, action.t_s)))
        confirmed |= {at} if decision is not None else set()        # it has been named already
    alone = [at for at in replayed.decisions if at not in confirmed]
    if not is_same_guard:
        differences += [Difference(run.run_id, t_s, "", f"level {replayed.readings.levels[at]}, "
                                   f"{replayed.decisions[at].rule!r}", _is_influenced(run, t_s))
                        for at in alone for t_s in (float(run.t_s[at]),)]
    named = sum(1 for each in differences if each.recorded and each.replayed)
    return Comparison(found, len(confirmed) - named, len(alone) if is_same_guard else 0,
                      tuple(sorted(differences, key=lambda each: each.t_s)))


def first_actions(actions: tuple[Acted, ...]) -> list[Acted]:
    """Return the actions that a decision began with: those that do not just follow another hook of the same rule."""
    firsts: list[Acted] = []
    rule, until_s = "", -math.inf
    for action in actions:
        if action.rule != rule or not action.t_s <= until_s:
            firsts.append(action)
        duration_s = action.duration_s if action.duration_s == action.duration_s else 0.0
        rule, until_s = action.rule, action.t_s + duration_s + FOLLOWS_WITHIN_S
    return firsts


def decided(replayed: Replayed, setting: Setting) -> list[tuple[Acted, int]]:
    """Return the actions that decisions began with, and the sample at which each was decided, -1 if there is none.

    That before it, or, where what was foreseen waited until it was due, that of its rule's last decision, if nothing
    was decided since and the rule could not act anew: so long a release waits at most (act/releases.py). Another guard
    would have waited for something else.
    """
    found: list[tuple[Acted, int]] = []
    taken, is_same = -1, not is_other_guard(replayed.run, setting)
    for action in first_actions(replayed.run.actions):
        at = sample_before(replayed, action.t_s)
        if is_same and at not in replayed.decisions:
            last = max((each for each in replayed.decisions if taken < each < at), default=-1)
            if last >= 0 and replayed.decisions[last].rule == action.rule:
                cooldown_s = setting.plan.rules[replayed.decisions[last].rule_index].cooldown_s
                at = last if replayed.run.t_s[at] < replayed.run.t_s[last] + cooldown_s else at     # Releases.tend
        found.append((action, at))
        taken = max(taken, at)
    return found


def sample_before(replayed: Replayed, t_s: float) -> int:
    """Return the last sample that was decided on at or before a time, -1 if there is none."""
    at = int(np.searchsorted(replayed.run.t_s, t_s, side="right")) - 1
    while at >= 0 and not replayed.readings.is_taken[at]:
        at -= 1
    return at


def _is_influenced(run: RecordedRun, t_s: float) -> bool:
    return any(0 < t_s - action.t_s <= SINCE_RELEASE_CAP_S for action in run.actions)


def caveats(runs: list[RecordedRun], setting: Setting) -> list[str]:
    """Say what a reader has to know before believing the replay."""
    said = []
    others = [run for run in runs if is_other_guard(run, setting)]
    if any(run.actions for run in others):
        said.append("the recorded memory is what it was: releases that the recorded guard asked for are in it, and "
                    "releases that this one would have asked for are not. What is decided within 300 s of a recorded "
                    "action is marked * (influenced)")
    late = [run for run in runs if len(run.t_s) and run.t_s[0] > 10.0]
    if late:
        said.append(f"{len(late)} of the recordings begin later than their run: what the window held before is not "
                    "known, so their first 300 s may differ from live")
    mixed = sum(run.recorded_with.is_mixed for run in runs)
    if mixed:
        said.append(f"{mixed} of the recordings changed rules, model or profile on the way: they are replayed with one")
    named = {target.name for target in setting.plan.targets}
    strangers = sorted({run.app for run in runs if not setting.target_of(run)})
    if strangers:
        said.append(f"{', '.join(strangers[:3])}{' …' if len(strangers) > 3 else ''} is no target of the rules "
                    f"({', '.join(sorted(named))}): the rules of all targets were tried")
    return said
