"""A simulated fleet is marked, repeatable and dirty on purpose, and what was planted in it is found again."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from oomguard.errors import UsageError
from oomguard.learn.dataset import read_recordings
from oomguard.learn.dataset.sources import TABLES
from oomguard.learn.simulate.fleet import ARCHETYPES, PHASES, device_types, is_simulated, run_is_simulated, runs_of
from oomguard.learn.simulate.fleet_tables import TRUTH_FILE, write_fleet
from oomguard.learn.simulate.runs import simulate
from oomguard.learn.thresholds.critical import study_of
from oomguard.learn.thresholds.histograms import FLAT, LEAST_KILLS, NEAR, PREMATURE, UNKNOWN

from .made import quiet_run


@pytest.fixture(scope="module", params=[1, 2, 3])
def fleet(request, tmp_path_factory):
    """Return (what was planted, the runs as they are read) of a fleet of six types."""
    folder = tmp_path_factory.mktemp("fleet") / "tables"
    truth = write_fleet(str(folder), types=6, runs=300, seed=request.param)
    return truth, read_recordings(str(folder))


def test_planted_thresholds_lie_within_the_learned_intervals(fleet):
    """Every type's critical ratio is within its 95 % interval; sharp types to 0.015, by their own kills."""
    truth, runs = fleet
    for name, one in study_of(runs).types.items():
        planted = truth["device_types"][name]
        assert one.interval[0] <= planted["critical_ratio"] <= one.interval[1], name
        if planted["shape"] != FLAT and one.readings.kills >= LEAST_KILLS:
            assert one.ratio == pytest.approx(planted["critical_ratio"], abs=0.015), name


def test_planted_shapes_are_named(fleet):
    """No sharp peak is taken for another kind of sharp peak; types with too few kills are unknown and nothing else."""
    truth, runs = fleet
    for name, one in study_of(runs).types.items():
        planted, found = truth["device_types"][name]["shape"], one.peak
        if found.kills < LEAST_KILLS:
            assert found.shape == UNKNOWN
        elif planted != FLAT or found.agreement >= 0.8:     # a flat histogram of few kills may look peaked, and says so
            assert found.shape == planted, name


def test_all_three_shapes_and_both_ends_are_there(fleet):
    """A fleet that shows only one shape, or no quiet runs, proves nothing."""
    truth, runs = fleet
    assert {planted["shape"] for planted in truth["device_types"].values()} == {NEAR, PREMATURE, FLAT}
    ends = Counter(run.ended for run in runs)
    assert min(ends["oom"], ends["exit"]) > 60
    assert {phase for run in runs for phase in run.phase} == set(PHASES)


def test_dirty_facts_are_cleaned_to_what_was_planted(fleet):
    """Devices contradict each other and leave facts out; what is read is what the type has."""
    truth, runs = fleet
    for run in runs:
        facts = truth["device_types"][run.device_type]["facts"]
        assert {name: getattr(run.profile, name) for name in facts} == facts


def test_the_facts_are_dirty(tmp_path):
    """Within a type and SDK version some rows contradict others and some are NULL: cleaning has work."""
    write_fleet(str(tmp_path / "f"), types=3, runs=3, seed=1)
    rows = pq.read_table(tmp_path / "f" / "devices.parquet").to_pylist()
    said: dict[tuple[str, str], set[int | None]] = {}
    for row in rows:
        said.setdefault((row["device_type"], row["sdk_version"]), set()).add(row["ram_bytes"])
    assert any(None in values for values in said.values())
    assert any(len(values - {None}) > 1 for values in said.values())


def test_the_same_seed_gives_the_same_bytes_and_another_does_not(tmp_path):
    """No clock, no host, no order of a set in any file."""
    for name, seed in (("a", 4), ("b", 4), ("c", 5)):
        write_fleet(str(tmp_path / name), types=4, runs=12, seed=seed)
    files = [*(f"{table}.parquet" for table in TABLES), TRUTH_FILE]
    same = [(tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes() for file in files]
    assert all(same)
    assert (tmp_path / "a" / "samples.parquet").read_bytes() != (tmp_path / "c" / "samples.parquet").read_bytes()


def test_a_longer_fleet_begins_like_a_shorter_one():
    """Each run has a generator of its own."""
    types = device_types(4, 1)
    short, long = ([run.row for run in runs_of(types, count, 1)] for count in (5, 9))
    assert long[:5] == short


def test_simulated_runs_are_known_by_any_of_their_marks(fleet):
    """Every run that is read is known as simulated; so are those that only train; a recorded one is not."""
    assert all(run_is_simulated(run) for run in fleet[1])
    assert all(run_is_simulated(run) for run in simulate(3, 1))
    assert not run_is_simulated(quiet_run(60))
    assert is_simulated({"run_id": "7", "app": "simulated-player", "device_type": None})
    assert not is_simulated({"run_id": "7", "app": "a player that is simulated-", "device_type": "tv"})


def test_the_folder_says_what_was_planted(tmp_path):
    """simulated.json marks the folder and holds the truth that the tables do not."""
    truth = write_fleet(str(tmp_path / "f"), types=2, runs=4, seed=1)
    assert json.loads((tmp_path / "f" / TRUTH_FILE).read_text()) == truth
    assert truth["simulated"] is True
    assert len(truth["device_types"]) == 2


def test_a_folder_that_holds_anything_is_left_alone(tmp_path):
    """Nobody's recordings are overwritten; an empty folder is filled."""
    (tmp_path / "mine").write_text("kept")
    with pytest.raises(UsageError, match="not empty"):
        write_fleet(str(tmp_path), types=1, runs=1, seed=1)
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]
    (tmp_path / "empty").mkdir()
    write_fleet(str(tmp_path / "empty"), types=1, runs=1, seed=1)
    assert (tmp_path / "empty" / "samples.parquet").is_file()


def test_a_fleet_that_fails_half_way_leaves_nothing(tmp_path):
    """The tables appear together or not at all."""
    def full_disk(_done, _of):
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        write_fleet(str(tmp_path / "f"), types=1, runs=3, seed=1, progress=full_disk)
    assert list(Path(tmp_path).iterdir()) == []


@pytest.mark.parametrize(("types", "runs"), [(0, 5), (5, 0)])
def test_a_fleet_of_nothing_is_refused(tmp_path, types, runs):
    """The counts begin at one."""
    with pytest.raises(UsageError, match="begin at 1"):
        write_fleet(str(tmp_path / "f"), types=types, runs=runs, seed=1)


def test_many_types_share_archetypes_and_keep_their_own_names():
    """Beyond the archetypes types repeat with other years, limits and thresholds."""
    kinds = device_types(3 * len(ARCHETYPES), 1)
    assert len({kind.name for kind in kinds}) == len(kinds)
    assert len({kind.critical_ratio for kind in kinds}) > len(ARCHETYPES)
    assert all(0.3 < kind.critical_ratio < 1 for kind in kinds)
