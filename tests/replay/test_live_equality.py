"""A replay decides what the live guard decided: the real TargetGuard over the same samples, bit for bit."""

from __future__ import annotations

import dataclasses
from array import array

import numpy as np
import pytest
from livedrive import drive
from recordings import SAMPLE, random_bundle, random_plan, random_samples, run_of, write_tables

from oomguard._version import __version__
from oomguard.decide.rules import load_rules
from oomguard.record.runs import profile_digest
from oomguard.replay.compare import compare, is_other_guard
from oomguard.replay.explain import sample_of
from oomguard.replay.readings import taken
from oomguard.replay.recording import RecordedWith, load_runs
from oomguard.replay.replay import Replayer, Setting
from oomguard.trust.bundle import load_bundle, shipped_folder

RULES = SAMPLE.parents[2] / "rules"


def shipped():
    """Return the shipped model; the recordings do not vouch for it, so no digest is asked."""
    return load_bundle(shipped_folder(), allow_unsigned=True)


def assert_same(live, replayed):
    """Levels, probabilities, time to limit, decisions and the words for them are the same bits."""
    readings = replayed.readings
    for at, reading in enumerate(live.readings):
        if reading is None:
            assert not readings.is_taken[at]
            continue
        level, forecast = reading
        assert (int(readings.levels[at]), at) == (level, at)
        now = readings.forecast(at)
        assert (now is None) == (forecast is None), at
        assert now is None or array("d", now).tobytes() == array("d", forecast).tobytes()
    assert {at: (one.rule, one.because) for at, one in replayed.decisions.items()} == {
        at: (one.rule, one.because) for at, one in live.decisions.items()}


def recorded(live, run, setting):
    """Return the run as a recorder would have left it."""
    bundle = setting.bundle
    return dataclasses.replace(run, actions=tuple(live.actions), recorded_with=RecordedWith(
        "" if bundle is None else bundle.digest, setting.plan.digest, profile_digest(run.profile), __version__,
        "plain" if bundle is None else "forest"))


@pytest.mark.parametrize("seed", range(12))
def test_random_runs_rules_and_models_are_the_same_bits(tmp_path, seed):
    """Random rules, forests, phases, limits, gaps, hooks of 0 to 20 s, restarts, and the way through the tables."""
    cadence_s = (0.5, 1.0, 5.0)[seed % 3]
    samples = random_samples(seed, 700, cadence_s)
    run = run_of(samples)
    plan = random_plan(seed, cadence_s)._replace(digest="d" * 64)
    setting = Setting(plan, random_bundle(seed, 6 if seed % 2 else 1) if seed % 4 else None)
    live = drive(setting, run, samples, tmp_path, seed)
    replayer, run = Replayer(setting), recorded(live, run, setting)
    assert_same(live, replayer.replay(run))
    (through_tables,) = load_runs(write_tables(tmp_path, [run]))
    replayed = replayer.replay(dataclasses.replace(through_tables, profile=run.profile))
    assert_same(live, replayed)
    found = compare(replayed, setting)
    assert found.is_same_guard
    assert not found.differences
    assert not is_other_guard(run, setting)


@pytest.mark.parametrize(("run_id", "rules"), [
    ("000-redis-leak-256", "default"), ("023-py-saw-256", "kiosk"), ("001-redis-lru-96", "edge"),
    ("439-ffmpeg-reverse-384", "threshold"), ("435-node-leak-192", "default")])
def test_real_runs_and_the_shipped_rules_are_the_same_bits(tmp_path, run_id, rules):
    """Real recordings through the shipped model and packs, actions of the live guard recorded and replayed."""
    (run,) = load_runs(str(SAMPLE), run_id)
    plan = load_rules(RULES / f"{rules}.yaml")
    plan = plan._replace(targets=(plan.targets[0]._replace(name="app"),),
                         rules=tuple(rule._replace(targets=()) for rule in plan.rules))
    setting = Setting(plan, shipped())
    live = drive(setting, run, [sample_of(run, at) for at in range(len(run.t_s))], tmp_path)
    run = recorded(live, run, setting)
    replayed = Replayer(setting).replay(run)
    assert_same(live, replayed)
    assert live.decisions
    assert live.actions or rules in ("edge", "kiosk")       # whose hooks are not the driver's; which has room each time
    assert not compare(replayed, setting).differences


def test_refused_samples_decide_nothing(tmp_path):
    """Repeated times, a missing limit, an infinite headroom: refused live and in the replay; nothing else shifts."""
    samples = random_samples(5, 300)
    samples[50] = samples[50]._replace(t_s=samples[49].t_s)
    samples[70] = samples[70]._replace(limit_bytes=float("nan"))
    samples[90] = samples[90]._replace(headroom_bytes=float("-inf"))
    samples[110] = samples[110]._replace(t_s=samples[100].t_s)
    run, setting = run_of(samples), Setting(random_plan(3), random_bundle(1))
    live = drive(setting, run, samples, tmp_path)
    assert [at for at, one in enumerate(live.readings) if one is None] == [50, 70, 90, 110]
    assert_same(live, Replayer(setting).replay(recorded(live, run, setting)))
    assert np.flatnonzero(~taken(run.t_s, run.columns["limit_bytes"], run.columns["headroom_bytes"])).tolist() == [
        50, 70, 90, 110]
