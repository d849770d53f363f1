"""The dataset file and its card: what is in them, the same bytes every time, whole or not at all."""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pyarrow.parquet as pq
import pytest

from oomguard import features
from oomguard.cli import learn_dataset
from oomguard.errors import NotPermittedError, UsageError
from oomguard.learn.dataset import digest_of, make_dataset, read_recordings
from oomguard.learn.dataset.account import DROPPED, REPAIRED
from oomguard.learn.dataset.card import quiet_s_of
from oomguard.learn.evaluate.compare import data_of
from oomguard.learn.label.examples import features_of
from oomguard.learn.label.labels import UNLABELLED, labels_of

from .recorded import record, run_row, sample, steady

SAMPLE = "models/recordings/sample"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The dataset of the sample recordings: its path and card."""
    out = tmp_path_factory.mktemp("made") / "sample.parquet"
    return out, make_dataset([SAMPLE], str(out))


def test_every_sample_has_its_label_and_the_features_of_the_kernel(made):
    """Row for row what labels_of and features_of say of the runs; NULL where unlabelled."""
    table = pq.read_table(made[0])
    runs = read_recordings(SAMPLE)
    assert table["run_id"].to_pylist() == [run.run_id for run in runs for _ in run.t_s]
    labels = np.concatenate([labels_of(run) for run in runs])
    assert table["label"].fill_null(UNLABELLED).to_numpy().tolist() == labels.tolist()
    rows = np.column_stack([table[name].to_numpy() for name in features.NAMES])
    np.testing.assert_array_equal(rows, np.concatenate([features_of(run) for run in runs]))
    np.testing.assert_array_equal(table["age_s"].to_numpy(), np.concatenate([run.t_s - run.start_s for run in runs]))
    assert set(table["app"].to_pylist()) == {run.app for run in runs}


def test_its_columns_say_which_features_they_are(made):
    """The file carries the hash of the feature table, as every bundle does."""
    schema = pq.read_schema(made[0])
    assert schema.metadata[b"oomguard.feature_hash"] == features.table_hash().encode()
    assert schema.names[7:] == list(features.NAMES)


def test_the_card_counts_what_was_kept(made):
    """Runs, kills and quiet hours as the event protocol counts them, per program too; digests of data and file."""
    out, card = made
    runs = read_recordings(SAMPLE)
    counted = data_of(runs)
    kept = card.facts["kept"]
    assert (kept["recorded"]["runs"], kept["recorded"]["kills"]) == (counted["runs"], counted["kills"])
    assert kept["recorded"]["quiet_hours"] == pytest.approx(counted["quiet_hours"], abs=1e-4)
    assert sorted(kept["programs"]) == counted["programs"]
    assert sum(share["samples"] for share in kept["device_types"].values()) == kept["samples"] == 112688
    labels = np.concatenate([labels_of(run) for run in runs])
    assert list(kept["classes"].values()) == np.bincount(labels[labels >= 0]).tolist()
    assert card.facts["data_sha256"] == digest_of(runs)
    assert card.facts["dataset_sha256"] == hashlib.sha256(out.read_bytes()).hexdigest()
    assert card.facts["dataset_bytes"] == out.stat().st_size


def test_the_card_stands_beside_the_file_for_programs_and_people(made):
    """JSON and Markdown of the same facts."""
    out, card = made
    assert json.loads((out.parent / "sample.parquet.card.json").read_text()) == card.facts
    text = (out.parent / "sample.parquet.card.md").read_text()
    assert "| redis-leak | 17 | 17 | 17 |" in text
    assert card.facts["data_sha256"] in text
    assert sorted(os.listdir(out.parent)) == ["sample.parquet", "sample.parquet.card.json", "sample.parquet.card.md"]


def test_the_same_input_gives_the_same_bytes(made, tmp_path):
    """File and cards, byte for byte."""
    out, _card = made
    make_dataset([SAMPLE], str(tmp_path / "sample.parquet"))
    for name in os.listdir(out.parent):
        assert (tmp_path / name).read_bytes() == (out.parent / name).read_bytes()


def test_every_reason_is_told_on_the_card(tmp_path):
    """What was left out and repaired is there with its words; a name from outside cannot break the table."""
    rows = [*steady(), sample("r", 20.0, limit=0), sample("r", 21.0, used_bytes=-1), sample("x|y", 1.0)]
    runs = [run_row(), run_row("q`|\n<b>")]
    card = make_dataset([record(tmp_path, rows, runs=runs)], str(tmp_path / "out" / "d.parquet"))
    text = card.to_markdown().decode()
    for reason in (*card.facts["dropped"], *card.facts["repaired"]):
        assert f"| {reason} | 1 | {({**DROPPED, **REPAIRED})[reason]} |" in text
    assert "q··········"[:4] in text
    assert "<b>" not in text


@pytest.mark.parametrize(("end_s", "more"), [(1000.0, {}), (1000.4, {}), (299.0, {}), (900.5, {"ended": "oom"})])
def test_quiet_time_is_that_of_the_protocol(tmp_path, end_s, more):
    """Counted in one step, the same as second by second."""
    samples = steady("r", [0.3 + t for t in range(int(end_s))])
    (run,) = read_recordings(record(tmp_path, samples, runs=[run_row(after_s=end_s, **more)]))
    assert quiet_s_of(run) == pytest.approx(3600 * data_of([run])["quiet_hours"])


def test_recordings_of_nothing_make_no_dataset(tmp_path):
    """The error says why everything was left out; no file appears."""
    folder = record(tmp_path, [sample("r", 1.0, limit=0), sample("r", 2.0, limit=0)])
    with pytest.raises(UsageError, match=r"no run has two usable samples.*samples_limit_not_positive"):
        make_dataset([folder], str(tmp_path / "out" / "d.parquet"))
    assert os.listdir(tmp_path / "out") == []


def test_an_error_in_the_midst_leaves_the_old_file(tmp_path):
    """A torn file is named, and what was there before stays as it was."""
    folder = record(tmp_path / "in", steady())
    out = tmp_path / "d.parquet"
    make_dataset([folder], str(out))
    before = {name: (tmp_path / name).read_bytes() for name in os.listdir(tmp_path) if name != "in"}
    whole = (tmp_path / "in" / "samples.parquet").read_bytes()
    (tmp_path / "in" / "samples-2.parquet").write_bytes(whole[:-20])
    with pytest.raises(UsageError, match=r"samples-2\.parquet"):
        make_dataset([folder], str(out))
    assert {name: (tmp_path / name).read_bytes() for name in os.listdir(tmp_path) if name != "in"} == before


def test_a_place_that_cannot_be_written_is_said(tmp_path):
    """The message names it."""
    (tmp_path / "file").write_text("")
    with pytest.raises(NotPermittedError, match=r"file/d\.parquet"):
        make_dataset([SAMPLE], str(tmp_path / "file" / "d.parquet"))


FULL = """
import resource, signal, sys
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
from oomguard.errors import NotPermittedError
from oomguard.learn.dataset import make_dataset
resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
try:
    make_dataset([sys.argv[1]], sys.argv[2])
except NotPermittedError as error:
    print(error)
"""


def test_a_full_disk_leaves_nothing(tmp_path):
    """No more than 1 MiB may be written (as on a full disk, write fails): the error says so, no file is left."""
    out = tmp_path / "d.parquet"
    done = subprocess.run([sys.executable, "-c", FULL, SAMPLE, str(out)], capture_output=True, text=True, timeout=100)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"{out}: File too large")
    assert os.listdir(tmp_path) == []


STOPPED = """
import os, signal, sys
from oomguard.learn.dataset import make_dataset, write
kept = write._table
def interrupted(*batch):
    os.kill(os.getpid(), signal.SIGINT)     # the user's Ctrl-C, in the midst of the file
    return kept(*batch)
write._table = interrupted
try:
    make_dataset([sys.argv[1]], sys.argv[2])
except KeyboardInterrupt:
    print("stopped")
"""


def test_ctrl_c_leaves_the_old_file(tmp_path):
    """It comes through as what it is, and what stood there before still stands, alone."""
    out = tmp_path / "d.parquet"
    out.write_text("before")
    argv = [sys.executable, "-c", STOPPED, SAMPLE, str(out)]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=100)
    assert (done.stdout, done.stderr) == ("stopped\n", "")
    assert (os.listdir(tmp_path), out.read_text()) == (["d.parquet"], "before")


WHENEVER = """
import os, signal, sys, tempfile, threading
from oomguard.learn.dataset import make_dataset
for after_s in (0.01, 0.05, 0.1, 0.2, 0.3, 0.4):
    timer = threading.Timer(after_s, os.kill, (os.getpid(), signal.SIGINT))
    try:
        timer.start()
        make_dataset([sys.argv[1]], sys.argv[2])
        timer.join()
    except KeyboardInterrupt:
        continue
print(os.listdir(tempfile.gettempdir()))
"""


def test_ctrl_c_at_any_moment_leaves_nothing_half_done(tmp_path):
    """While files are found, sorted, read or written: it is stopped or done; nothing is left where it was sorted."""
    (tmp_path / "tmp").mkdir()
    table = pq.read_table(f"{SAMPLE}/samples.parquet")
    shutil.copytree(SAMPLE, tmp_path / "in")
    shuffled = table.take(np.random.default_rng(1).permutation(table.num_rows))
    pq.write_table(shuffled, tmp_path / "in" / "samples.parquet")
    argv = [sys.executable, "-c", WHENEVER, str(tmp_path / "in"), str(tmp_path / "out" / "d.parquet")]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=100,
                          env={**os.environ, "TMPDIR": str(tmp_path / "tmp")})
    assert (done.stdout, done.stderr) == ("[]\n", "")
    left = sorted(os.listdir(tmp_path / "out")) if (tmp_path / "out").exists() else []
    assert left in ([], ["d.parquet", "d.parquet.card.json", "d.parquet.card.md"])


def test_the_command_says_what_it_made(tmp_path, capsys):
    """One line; with --json the card."""
    def command(*argv):
        parser = argparse.ArgumentParser()
        learn_dataset.add_arguments(parser)
        return learn_dataset.run(parser.parse_args(argv)), capsys.readouterr().out

    folder = record(tmp_path, [*steady(), sample("r", 20.0, limit=0)])
    out = str(tmp_path / "d.parquet")
    code, said = command(folder, "--out", out)
    assert (code, said[:said.index(";")]) == (
        0, f"{out}: 10 samples of 1 lives, 1 left out, 0 repairs ({out}.card.md says why)")
    assert json.loads(command(folder, "--out", out, "--json")[1])["dropped"] == {
        "samples_limit_not_positive": 1, "files_no_table": 1}
