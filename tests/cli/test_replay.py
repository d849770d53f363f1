"""`oomguard replay` on real recordings: lines as DESIGN 4.10 has them, the report, the verdict, the errors."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "replay"))

from recordings import SAMPLE, write_tables

from oomguard._version import __version__
from oomguard.cli import replay
from oomguard.cli.start import plan_of
from oomguard.errors import BundleError, ConfigError, UsageError
from oomguard.record.runs import profile_digest
from oomguard.replay.recording import Acted, RecordedWith, load_runs
from oomguard.replay.replay import Replayer, Setting

RUN = "000-redis-leak-256"
RULES = """\
version: 1
targets: [{name: app, self: true}]
rules:
  - {name: trim, when: {used_above: 50%, for: 2s}, then: [{hook: any, release: needed}], cooldown: 30s}
"""


def parsed(*argv):
    parser = argparse.ArgumentParser()
    replay.add_arguments(parser)
    return parser.parse_args(argv)


def run(*argv):
    return replay.run(parsed(*argv))


@pytest.fixture
def rules(tmp_path):
    path = tmp_path / "rules.yaml"
    path.write_text(RULES)
    return str(path)


@pytest.fixture
def guarded(tmp_path, rules):
    """A folder with one run as the very guard that replays it would have recorded it, and its actions."""
    plan = plan_of(parsed("x", "--rules", rules, "--model", "none"))
    (run_,) = load_runs(str(SAMPLE), RUN)
    run_ = dataclasses.replace(run_, app="app", profile=run_.profile._replace(limit_bytes=float("nan")))
    decisions = Replayer(Setting(plan)).replay(run_).decisions
    actions = tuple(Acted(float(run_.t_s[at]) + 1e-4, one.rule, "cache", -1, 4096.0, 4096.0, 0.01)
                    for at, one in decisions.items())
    digest = profile_digest(run_.profile._replace(sdk_version="1", swap_bytes=float("nan")))
    with_ = RecordedWith("", plan.digest, digest, __version__, "plain")
    return dataclasses.replace(run_, actions=actions, recorded_with=with_), tmp_path


def leveled(run_, plan):
    """Return the run with the level that each action was decided at."""
    replayed = Replayer(Setting(plan)).replay(run_)
    actions = tuple(one._replace(level=int(replayed.readings.levels[at]))
                    for one, at in zip(run_.actions, replayed.decisions, strict=True))
    return dataclasses.replace(run_, actions=actions)


def test_json_is_one_line_per_sample_with_the_promised_keys(capsys):
    """run_id, t_s, level, probabilities, time_to_limit_s, rule; floats read back as the bits that were computed."""
    assert run(str(SAMPLE), "--run", RUN, "--json", "--model", "shipped") == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    (recorded,) = load_runs(str(SAMPLE), RUN)
    setting = replay.setting_of(parsed("x", "--model", "shipped"))
    replayed = Replayer(setting).replay(recorded)
    assert len(lines) == len(recorded.t_s)
    assert {tuple(line) for line in lines} == {("run_id", "t_s", "level", "probabilities", "time_to_limit_s", "rule")}
    for at, line in enumerate(lines):
        forecast = replayed.readings.forecast(at)
        assert line == {
            "run_id": RUN, "t_s": float(recorded.t_s[at]), "level": int(replayed.readings.levels[at]),
            "probabilities": None if forecast is None else forecast._asdict(),
            "time_to_limit_s": replayed.readings.time_to_limit_s(at),
            "rule": replayed.decisions[at].rule if at in replayed.decisions else None}
    assert any(line["rule"] for line in lines)
    assert any(line["probabilities"] for line in lines)


def test_a_sample_that_the_window_refused_has_no_level(tmp_path, capsys):
    """Its line is there, and null where nothing was decided."""
    (recorded,) = load_runs(str(SAMPLE), RUN)
    recorded.columns["limit_bytes"][3] = float("nan")
    write_tables(tmp_path, [recorded])
    run(str(tmp_path), "--json", "--model", "none")
    assert json.loads(capsys.readouterr().out.splitlines()[3])["level"] is None


def test_the_same_guard_decides_the_same_and_says_so(guarded, rules, capsys):
    """Bundle, rules, profile and version are the recorded ones: every decision is confirmed, the answer is yes."""
    recorded, folder = guarded
    plan = plan_of(parsed("x", "--rules", rules, "--model", "none"))
    path = write_tables(folder, [leveled(recorded, plan)])
    assert run(path, "--rules", rules, "--model", "none") == 0
    shown = capsys.readouterr().out
    assert "profile  same" in shown
    assert f"the same guard decides the same: {len(recorded.actions)} recorded decisions made again" in shown


def test_the_same_guard_that_decides_otherwise_is_a_no(guarded, rules, capsys):
    """A recorded action that is not decided again by the very same guard: exit 1, and the place is named."""
    recorded, folder = guarded
    plan = plan_of(parsed("x", "--rules", rules, "--model", "none"))
    recorded = leveled(recorded, plan)
    moved = recorded.actions[0]._replace(t_s=recorded.actions[0].t_s - 20)
    path = write_tables(folder, [dataclasses.replace(recorded, actions=(moved, *recorded.actions[1:]))])
    assert run(path, "--rules", rules, "--model", "none") == 1
    shown = capsys.readouterr().out
    assert "NOT REPRODUCED" in shown
    assert f"- {RUN} at {moved.t_s:.1f} s" in shown


def test_other_rules_are_a_what_if_with_a_diff_and_a_caveat(guarded, tmp_path, capsys):
    """Which digest differs, what only one of the two did, and what the recorded releases mean for it: said."""
    recorded, folder = guarded
    path = write_tables(folder, [recorded])
    other = tmp_path / "other.yaml"
    other.write_text(RULES.replace("50%", "60%"))
    assert run(path, "--rules", str(other), "--model", "none") == 0
    shown = capsys.readouterr().out
    assert "rules    differs (recorded " in shown
    assert "what if:" in shown
    assert "\n- " in shown
    assert "\n+ " in shown
    assert "influenced" in shown


def test_a_recording_of_no_guard_is_a_what_if(capsys):
    """Nothing is known of who recorded: said, and nothing is called reproduced."""
    assert run(str(SAMPLE), "--run", RUN, "--model", "none") == 0
    shown = capsys.readouterr().out
    assert "bundle   not recorded" in shown
    assert "asked nobody for anything" in shown
    assert "reproduced" not in shown


@pytest.mark.parametrize(("argv", "error"), [
    (("/nowhere",), UsageError), ((str(SAMPLE), "--run", "nobody"), UsageError),
    ((str(SAMPLE), "--rules", "/nowhere.yaml"), ConfigError), ((str(SAMPLE), "--model", "/nowhere"), BundleError)])
def test_errors_have_their_exit_codes(argv, error):
    """No recording or run: 2; no rules: 3; no model: 4."""
    with pytest.raises(error):
        run(*argv)
