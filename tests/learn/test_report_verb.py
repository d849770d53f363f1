"""`oomguard learn report` draws what `learn evaluate` kept."""

from __future__ import annotations

import argparse
import json

import pytest

from oomguard.cli import learn_report as verb
from oomguard.errors import UsageError
from oomguard.learn.evaluate import artefact

from . import evaluated


def run(*arguments):
    parser = argparse.ArgumentParser()
    verb.add_arguments(parser)
    return verb.run(parser.parse_args([str(each) for each in arguments]))


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Return a folder with a saved evaluation."""
    folder, trained = tmp_path_factory.mktemp("saved"), evaluated.trained()
    artefact.save(str(folder), trained.report, trained.runs, trained.systems, evaluated.recipe().recordings,
                  trained.data_digest)
    return folder


def test_it_draws_without_training(saved, tmp_path, capsys):
    """From the folder alone, with zoo, loop and data card where they are given."""
    figures = evaluated.trained().report["systems"]["linear 60 s"]
    cost = {"fit_s": 1.0, "bytes": 100, "score_p50_us": 1.0, "score_p99_us": 2.0, "answer_p50_us": 300.0}
    zoo, loop, card = tmp_path / "zoo.json", tmp_path / "loop.json", tmp_path / "card.txt"
    zoo.write_text(json.dumps({"members": {"net": {"figures": figures, "cost": cost, "in_words": "a small net"}}}))
    cost = {"evicted_limits": 1.1, "evictions": 7.5, "in_vain": 0.0, "cache_missing_ratio": 0.5}
    arms = {"oomguard": {"averted_ratio": 1.0, "averted_interval": [0.5, 1.0], "where_alive": cost}}
    loop.write_text(json.dumps({"cache_holds_enough": {"2": {"cases": 4, "arms": arms}}}))
    card.write_text("nothing was dropped")
    assert run(saved, "--out", tmp_path / "out", "--zoo", zoo, "--loop", loop, "--data-card", card) == 0
    assert capsys.readouterr().out.strip() == str(tmp_path / "out" / "report.html")
    text = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    for words in ("a small net", "Closed loop", "nothing was dropped", "Where kills happen"):
        assert words in text


def test_what_cannot_be_read_is_refused_by_name(saved, tmp_path):
    """No evaluation there, no JSON in the file, no file: each names its path."""
    with pytest.raises(UsageError, match=r"evaluation\.json"):
        run(tmp_path, "--out", tmp_path / "out")
    broken = tmp_path / "broken.json"
    broken.write_text("{")
    with pytest.raises(UsageError, match=r"broken\.json"):
        run(saved, "--out", tmp_path / "out", "--zoo", broken)
    other = tmp_path / "other.json"
    other.write_text('{"rows": []}')
    with pytest.raises(UsageError, match=r"other\.json: no results of `oomguard learn loop`"):
        run(saved, "--out", tmp_path / "out", "--loop", other)
    with pytest.raises(UsageError, match=r"none\.json"):
        run(saved, "--out", tmp_path / "out", "--loop", tmp_path / "none.json")
