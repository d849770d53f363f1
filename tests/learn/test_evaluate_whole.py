"""A whole evaluation of a small recipe: every section is there, the artefact comes back, splits are honest."""

from __future__ import annotations

import json

import numpy as np
import pytest

from oomguard.errors import UsageError
from oomguard.learn.dataset import read_recordings
from oomguard.learn.evaluate import artefact
from oomguard.learn.evaluate.baselines import all_baselines
from oomguard.learn.evaluate.systems import answers_of, baseline_system
from oomguard.learn.simulate.runs import simulate
from oomguard.learn.thresholds.levels import Cost, cheapest
from oomguard.learn.train.crossval import folds_by_device_type

from . import evaluated
from .evaluated import PROGRAMS, RECORDINGS


@pytest.fixture(scope="module")
def trained():
    """Return what training on four runs of each of four programs gives."""
    return evaluated.trained()


def test_every_section_of_the_report_is_there(trained):
    """Three splits, the judgement of each baseline, cadences, calibration, time to limit, facts, misses, influence."""
    report = trained.report
    assert {"systems", "systems_by_run", "systems_by_device_type", "judgement", "gain_of_facts", "cadence",
            "calibration", "time_to_limit", "account", "influence", "leak_check"} <= set(report)
    judged = report["judgement"]["by_program"]["oomguard"]["dominance"]
    assert set(judged) == {baseline.name for baseline in all_baselines()}
    assert len(report["systems"]["oomguard"]["curve"]["recall_60"]) > 2
    assert len(report["systems"]["oomguard"]["recall_by_lead"]["recall"]) == 30
    json.dumps(report, allow_nan=False)


def test_the_account_has_every_false_alarm_and_every_miss_of_the_table(trained):
    """Its lengths are the counts from which the table's rates are made."""
    row, account = trained.report["systems"]["oomguard"], trained.report["account"]
    hours = trained.report["data"]["quiet_hours"]
    assert len(account["false_alarms"]) == round(row["false_alarms_per_hour"] * hours)
    assert sum(each["is_early"] for each in account["false_alarms"]) == round(row["early_per_hour"] * hours)
    eligible = trained.report["data"]["kills"] - row["ineligible"]["60"]
    missed = sum(60 in each["missed_leads_s"] for each in account["misses"])
    assert missed == round((1 - row["recall"]["60"]) * eligible)


def test_the_operating_point_is_on_the_curve(trained):
    """Recall by lead at 60 s is the table's."""
    row = trained.report["systems"]["oomguard"]
    by_lead = dict(zip(row["recall_by_lead"]["lead_s"], row["recall_by_lead"]["recall"], strict=True))
    assert by_lead[60.0] == row["recall"]["60"]


def test_facts_told_and_not_told_add_up_to_all_runs(trained):
    """Each run is in one of the two groups."""
    gain = trained.report["gain_of_facts"]
    assert gain["all runs"]["runs"] == sum(row["runs"] for name, row in gain.items() if name != "all runs")


def test_a_baseline_is_fitted_on_the_other_folds_as_one_by_one(trained):
    """Sums of sweeps choose the threshold that trying each on the other folds' tracks chooses."""
    runs, cost = trained.runs, Cost()
    folds = [PROGRAMS.index(run.app) for run in runs]
    baseline = next(each for each in all_baselines() if each.name == "linear 120 s")
    answers = answers_of(baseline, runs)
    system = baseline_system(answers, runs, folds, cost)
    for fold in range(len(PROGRAMS)):
        others = [track for track, of in zip(answers.tracks, folds, strict=True) if of != fold]
        assert system.thresholds[folds.index(fold)] == cheapest(others, baseline.thresholds, cost)


def test_a_device_type_is_a_fold_of_its_own():
    """Runs of one type share a fold that no other type has; simulated runs are spread."""
    runs = read_recordings(RECORDINGS) + simulate(12, 1)
    folds = folds_by_device_type(runs)
    real = {(run.device_type, fold) for run, fold in zip(runs, folds, strict=True) if not run.is_simulated}
    assert len(real) == len({run.device_type for run in runs if not run.is_simulated}) == len({f for _t, f in real})
    assert len({fold for run, fold in zip(runs, folds, strict=True) if run.is_simulated}) == len(real)


def test_an_evaluation_comes_back_from_disk(trained, tmp_path):
    """Forecasts to float32, thresholds exactly, in the order of the runs asked for; the same bytes twice."""
    for name in ("one", "two"):
        artefact.save(str(tmp_path / name), trained.report, trained.runs, trained.systems, ["x"], trained.data_digest)
    for name in (artefact.REPORT, artefact.SCORES):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    report = artefact.load(str(tmp_path / "one"))
    said = artefact.load_said(str(tmp_path / "one"), report, trained.runs[::-1])
    system = trained.systems["oomguard"]
    assert set(said) == {"oomguard", "oomguard, static facts removed"}
    np.testing.assert_allclose(said["oomguard"].forecasts[0], system.forecasts[-1], rtol=1e-6)
    assert said["oomguard"].levels[::-1] == system.levels


def test_what_is_no_evaluation_is_refused(trained, tmp_path):
    """No file, no JSON, another format, other recordings, a broken archive: each says so."""
    with pytest.raises(UsageError, match="learn evaluate"):
        artefact.load(str(tmp_path))
    (tmp_path / artefact.REPORT).write_text("{}")
    with pytest.raises(UsageError, match="not an evaluation"):
        artefact.load(str(tmp_path))
    artefact.save(str(tmp_path), trained.report, trained.runs, trained.systems, [], "")
    report = artefact.load(str(tmp_path))
    with pytest.raises(UsageError, match="other recordings"):
        artefact.load_said(str(tmp_path), report, trained.runs[1:])
    (tmp_path / artefact.SCORES).write_bytes(b"PK broken")
    with pytest.raises(UsageError):
        artefact.load_said(str(tmp_path), report, trained.runs)


def test_influence_is_of_features_the_trees_may_see(trained):
    """Left-out features are not listed; the list goes from the most moving down."""
    moves = [row["moves"] for row in trained.report["influence"]]
    assert moves == sorted(moves, reverse=True)
    assert moves[0] > 0
    assert not {"log2_ram", "log2_limit"} & {row["feature"] for row in trained.report["influence"]}
