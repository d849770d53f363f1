"""The model card says what the report says, and nothing that is not in it."""

from __future__ import annotations

import copy

import pytest

from oomguard.learn.bundle.card import essence, table_of, text_of

from . import evaluated


@pytest.fixture(scope="module")
def report():
    """Return the small evaluation's report."""
    return evaluated.trained().report


def test_the_card_holds_data_figures_limits(report):
    """Counts, all three splits, the judgement beside the baselines, cadences, misses and what false alarms became."""
    text = text_of("small-abc", evaluated.recipe(), report, 1234)
    assert text == text_of("small-abc", evaluated.recipe(), report, 1234)
    assert f"{report['data']['runs']} recorded runs, {report['data']['kills']} kernel kills" in text
    for words in ("Leave one program out", "Leave one device type out", "Split by run", "10 % of samples lost",
                  "Swept over all thresholds", "False alarms, by what came after", "where not to use it"):
        assert words in text


def test_without_device_types_to_leave_out_there_is_no_table_of_them(report):
    """An empty split has no heading."""
    less = copy.deepcopy(report)
    less["systems_by_device_type"] = {}
    assert "Leave one device type out" not in text_of("x", evaluated.recipe(), less, 1)


def test_a_table_has_a_row_per_system_and_dashes_for_the_unknown(report):
    """Recall without kills is unknown, not zero."""
    row = copy.deepcopy(report["systems"]["never"])
    row["recall"]["30"] = None
    lines = table_of({"never": row}).splitlines()
    assert len(lines) == 3
    assert lines[2].startswith("| never | – | 0.00")


def test_the_essence_is_rounded_and_keeps_what_is_always_shown_together(report):
    """Four digits are enough for a manifest."""
    kept = essence(report["systems"]["oomguard"])
    assert set(kept) == {"recall", "false_alarms_per_hour", "early_per_hour", "alarm_time_ratio", "median_lead_s"}
    assert kept["alarm_time_ratio"] == round(kept["alarm_time_ratio"], 4)
