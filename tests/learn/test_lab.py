"""The lab: real programs in real cgroups, real kills, nothing lost, nothing left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from oomguard.cli import main
from oomguard.errors import ConfigError, NotPermittedError, UsageError
from oomguard.learn.dataset import read_recordings
from oomguard.learn.lab.catalogue import Catalogue, DeviceType, Entry, read_catalogue
from oomguard.learn.lab.cell import Cell
from oomguard.learn.lab.drive import Cache, Orders, wish_bytes
from oomguard.learn.lab.lab import record
from oomguard.learn.lab.plan import curve_of, draw_runs
from oomguard.learn.lab.store import Store
from oomguard.sense.mounts import find_hierarchies

CATALOGUE = Path(__file__).resolve().parents[2] / "models" / "lab.yaml"
MIB = 1 << 20
SMALL = Catalogue(
    seed=3, planned_s=(25.0, 30.0), device_types=[DeviceType("stick", (64, 80), 1.0)],
    programs=[Entry("perl", leaks=1, bounded=0, quiet=1, neighbour_share=0.0, least_limit_mib=64)])


@pytest.fixture
def cell_rights() -> Iterator[None]:
    """Where no memory cgroup can be made there is no lab."""
    try:
        Cell("rights", 64 * MIB).remove()
    except NotPermittedError as error:
        pytest.skip(f"no memory cgroup can be made here: {error}")
    yield



def test_same_catalogue_same_runs() -> None:
    """The same catalogue draws the same runs, curves too."""
    first, second = draw_runs(SMALL), draw_runs(SMALL)
    assert repr(first) == repr(second)      # repr, for a bound that is NaN is not equal to itself
    assert all(np.array_equal(curve_of(a), curve_of(b)) for a, b in zip(first, second, strict=True))


def test_shipped_catalogue_meets_the_issue() -> None:
    """The shipped catalogue has fourteen programs and four hundred runs, each program that can leak also quiet."""
    catalogue = read_catalogue(str(CATALOGUE))
    assert len(catalogue.programs) >= 14 and len(draw_runs(catalogue)) >= 400
    assert all(entry.quiet for entry in catalogue.programs)


def test_leaks_cross_their_limit_and_quiet_runs_do_not() -> None:
    """A leak's curve reaches limit and swap within the planned time; a quiet one's never does."""
    for plan in draw_runs(read_catalogue(str(CATALOGUE)))[::7]:
        if plan.kind != "bounded":
            reaches = bool((curve_of(plan) >= plan.limit_bytes + plan.swap_bytes).any())
            assert reaches == (plan.kind == "leak"), plan.run_id


def test_lengths_of_leaks_and_quiet_runs_overlap() -> None:
    """The planned lengths of both kinds come from one distribution: age alone tells nothing."""
    runs = draw_runs(read_catalogue(str(CATALOGUE)))
    leaks, quiet = ([run.planned_s for run in runs if run.kind == kind] for kind in ("leak", "quiet"))
    assert abs(np.log(np.median(leaks) / np.median(quiet))) < 0.5


def test_catalogue_error_names_the_place(tmp_path: Path) -> None:
    """A number out of range is refused with its path in the file."""
    bad = tmp_path / "lab.yaml"
    bad.write_text(CATALOGUE.read_text().replace("share: 0.28", "share: 28", 1))
    with pytest.raises(ConfigError, match=r"lab.yaml.*device_types\[0\].share"):
        read_catalogue(str(bad))


def test_catalogue_refuses_an_unknown_program(tmp_path: Path) -> None:
    """A program nobody drives is refused by name."""
    bad = tmp_path / "lab.yaml"
    bad.write_text(CATALOGUE.read_text().replace("program: redis", "program: toaster", 1))
    with pytest.raises(UsageError, match="toaster"):
        read_catalogue(str(bad))


def test_wish_is_a_straight_line_between_points() -> None:
    """Between two points of the curve the wish is interpolated; behind its end it stands still."""
    orders = Orders({}, [], [0.0, 10.0, 30.0], 2.0)
    assert [wish_bytes(orders, t_s) for t_s in (0.0, 1.0, 3.0, 4.0, 99.0)] == [0.0, 5.0, 20.0, 30.0, 30.0]


def test_cache_gives_what_it_has() -> None:
    """A cache fills up to its most, and gives back no more than it holds."""
    cache = Cache(100.0, 30.0)
    cache.fill(2.0)
    assert cache.evict(50.0) == 50.0 and cache.evict(50.0) == 10.0
    cache.fill(60.0)
    assert cache.size_bytes == 100.0


def test_real_run_is_killed_and_its_twin_is_not(cell_rights: None, tmp_path: Path) -> None:
    """The leak ends with a real kernel kill, the quiet run when its time is over; both merge into one recording."""
    store = Store(str(tmp_path / "work"))
    last = record(draw_runs(SMALL), store, 2, lambda _progress: None)
    assert (last.done, last.kills, last.failed) == (2, 1, 0)
    store.merge(SMALL, str(tmp_path / "out"))
    leak, quiet = sorted(read_recordings(str(tmp_path / "out")), key=lambda run: run.run_id)
    assert (leak.ended, quiet.ended) == ("oom", "stopped")
    assert leak.columns["used_bytes"][-1] > 0.8 * leak.columns["limit_bytes"][-1]
    assert leak.t_s[-1] < leak.kills_s[0] <= leak.t_s[-1] + 2.0


def test_finished_runs_are_not_done_again(cell_rights: None, tmp_path: Path) -> None:
    """A second start of the same lab does only what is missing."""
    store = Store(str(tmp_path))
    record(draw_runs(SMALL)[:1], store, 1, lambda _progress: None)
    written_ns = os.stat(next((tmp_path / "parts").iterdir())).st_mtime_ns
    last = record(draw_runs(SMALL)[:1], store, 1, lambda _progress: None)
    assert (last.done, last.of) == (1, 1)
    assert os.stat(next((tmp_path / "parts").iterdir())).st_mtime_ns == written_ns


def test_interrupted_lab_leaves_nothing_behind(cell_rights: None, tmp_path: Path) -> None:
    """Ctrl-C ends the programs, removes the cgroups, and says how to go on."""
    catalogue = tmp_path / "lab.yaml"
    catalogue.write_text(
        "seed: 1\nplanned_s: [500, 600]\ndevice_types: [{name: stick, limit_mib: [64, 80], share: 1}]\n"
        "programs: [{program: perl, leaks: 0, bounded: 0, quiet: 1}]\n")
    command = [sys.executable, "-m", "oomguard", "learn", "lab", str(catalogue),
               "--work", str(tmp_path / "work"), "--out", str(tmp_path / "out")]
    lab = subprocess.Popen(command, stderr=subprocess.PIPE, start_new_session=True)
    groups = find_hierarchies("/")
    assert groups.memory is not None
    until_s = time.monotonic() + 30
    while not (found := _groups_of(lab.pid, groups.memory.path)) and time.monotonic() < until_s:
        time.sleep(0.05)
    assert found
    lab.send_signal(signal.SIGINT)
    _out, err = lab.communicate(timeout=30)
    assert lab.returncode == 130 and b"the same command goes on" in err
    assert not _groups_of(lab.pid, groups.memory.path)


def test_lab_lists_without_recording(capsys: pytest.CaptureFixture[str]) -> None:
    """`--list` prints each run and does none."""
    assert main(["learn", "lab", str(CATALOGUE), "--list", "--only", "redis-leak"]) == 0
    assert capsys.readouterr().out.count("redis-leak") == 18


def test_lab_wants_folders(capsys: pytest.CaptureFixture[str]) -> None:
    """Without --work and --out it says what it needs."""
    assert main(["learn", "lab", str(CATALOGUE)]) == 2
    assert "--work" in capsys.readouterr().err


def test_merge_leaves_out_runs_that_failed(tmp_path: Path) -> None:
    """An empty store merges to five empty tables."""
    Store(str(tmp_path)).merge(SMALL, str(tmp_path / "out"))
    assert pq.read_table(tmp_path / "out" / "samples.parquet").num_rows == 0


def _groups_of(pid: int, root: str) -> list[str]:
    return [folder for folder, _folders, _files in os.walk(root) if os.path.basename(folder).startswith("oomguard-lab-")
            and folder.endswith(f"-{pid}")]
