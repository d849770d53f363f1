"""Samples a second and core: labels and features alone, `learn dataset` whole, and what a tiny file costs."""

from __future__ import annotations

import resource
import shutil
import statistics
import subprocess
import sys
import time

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from oomguard.learn.dataset import Account, make_dataset, read_recordings, stream_recordings
from oomguard.learn.label.examples import features_of
from oomguard.learn.label.labels import labels_of

SAMPLE = "models/recordings/sample"
COPIES = 10
TINY_FILES = 4000
WHOLE = """
import resource, sys, time
from oomguard.learn.dataset import make_dataset
make_dataset([sys.argv[1]], sys.argv[3])        # imports are not what is measured
begun_s = time.process_time()
made = make_dataset([sys.argv[2]], sys.argv[3]).facts["kept"]["samples"]
print(made / (time.process_time() - begun_s) / 1e6, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
"""


@pytest.fixture(scope="module")
def larger(tmp_path_factory):
    """Return two folders of the sample recordings COPIES times over: in order, and with the samples shuffled."""
    ordered, shuffled = (tmp_path_factory.mktemp(name) for name in ("ordered", "shuffled"))
    for name in ("runs", "kills", "actions", "samples"):
        table = pq.read_table(f"{SAMPLE}/{name}.parquet")
        copies = pa.concat_tables([
            table.set_column(0, "run_id", pc.binary_join_element_wise(f"{copy:02d}", table["run_id"], "-"))
            for copy in range(COPIES)])
        pq.write_table(copies, ordered / f"{name}.parquet")
        order = np.random.default_rng(1).permutation(copies.num_rows)
        pq.write_table(copies.take(order), shuffled / f"{name}.parquet")
    for folder in (ordered, shuffled):
        shutil.copy(f"{SAMPLE}/devices.parquet", folder)
    return ordered, shuffled


def test_labels_and_features(benchmark, figure):
    runs = read_recordings(SAMPLE)
    samples = sum(len(run.t_s) for run in runs)
    took_s = []

    def all_runs():
        begun_s = time.process_time()
        for run in runs:
            labels_of(run)
            features_of(run)
        took_s.append(time.process_time() - begun_s)
    benchmark.pedantic(all_runs, rounds=7, warmup_rounds=1)
    figure("labels + features of recordings", samples / statistics.median(took_s[1:]) / 1e6, "M samples/s",
           at_least=0.5, how="132 real runs in memory, seconds of one core")


@pytest.mark.parametrize("kind", ["ordered", "shuffled"])
def test_dataset_whole(benchmark, figure, larger, tmp_path, kind):
    folder = larger[kind == "shuffled"]
    argv = [sys.executable, "-c", WHOLE, SAMPLE, str(folder), str(tmp_path / "d.parquet")]
    told = benchmark.pedantic(lambda: subprocess.run(argv, capture_output=True, text=True, check=True).stdout, rounds=1)
    rate, peak_mib = map(float, told.split())
    figure(f"learn dataset, {kind} rows", rate, "M samples/s",
           how="1.1 M samples: read, clean, label, features, digest, write; seconds of one core")
    figure(f"learn dataset, {kind} rows, peak RSS", peak_mib, "MiB", how="DuckDB's share is bounded at 1 GB")


def test_reading(benchmark, figure, larger):
    def read():
        return sum(len(run.t_s) for runs in stream_recordings([str(larger[0])], Account()) for run in runs)

    def read_and_compute():
        for runs in stream_recordings([str(larger[0])], Account()):
            for run in runs:
                labels_of(run)
                features_of(run)
    read()
    begun_s = time.process_time()
    samples = benchmark.pedantic(read, rounds=3)
    read_s = (time.process_time() - begun_s) / 3
    figure("recordings read and cleaned", samples / read_s / 1e6, "M samples/s",
           how="1.1 M samples in order; seconds of one core")
    begun_s = time.process_time()
    read_and_compute()
    computed_s = time.process_time() - begun_s
    figure("recordings read, cleaned, labels + features", samples / computed_s / 1e6, "M samples/s", at_least=0.5,
           how="the same; nothing digested or written")


def test_tiny_files(benchmark, figure, tmp_path):
    table = pq.read_table(f"{SAMPLE}/samples.parquet")
    (tmp_path / "samples").mkdir()
    for at in range(TINY_FILES):
        pq.write_table(table.slice(28 * at, 28), tmp_path / "samples" / f"{at:05d}.parquet")
    for name in ("devices", "runs", "kills", "actions"):
        shutil.copy(f"{SAMPLE}/{name}.parquet", tmp_path)
    begun_s = time.process_time()
    benchmark.pedantic(lambda: make_dataset([str(tmp_path)], str(tmp_path / "out" / "d.parquet")), rounds=1)
    a_file_us = (time.process_time() - begun_s) / TINY_FILES * 1e6
    peak_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    figure("learn dataset, a tiny file", a_file_us, "us", how=f"{TINY_FILES} files of 28 samples; also s per million")
    figure("learn dataset, tiny files, peak RSS", peak_mib, "MiB", how=f"{TINY_FILES} files, with the bench's own")
