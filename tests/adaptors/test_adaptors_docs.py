"""Every program of docs/adaptors.md runs and passes the strict type check; its table is what the code says."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from inside import AGENT, run
from oomguard.adaptors import entries, kept, libraries, memo, process, sqlite, stores
from oomguard.adaptors.size import OBJECTS_MOST

TEXT = (Path(__file__).parents[2] / "docs" / "adaptors.md").read_text()
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
PROGRAMS = [code for language, code in BLOCKS if language == "python"]


def test_every_block_is_of_a_language_that_is_tested() -> None:
    """No block can rot unseen."""
    assert {language for language, _code in BLOCKS} == {"python", "toml"}
    assert TEXT.count("```") == 2 * len(BLOCKS)


@pytest.mark.parametrize("number", range(len(PROGRAMS)))
def test_each_program_runs_and_says_nothing_wrong(number: int) -> None:
    """Exit status 0, nothing on standard error, warnings shown."""
    ended = run("-c", PROGRAMS[number])
    assert (ended.returncode, ended.stderr) == (0, "")
    if number == 0:
        assert re.fullmatch(r"level [0-5]\n", ended.stdout)


def test_the_programs_are_typed(tmp_path: Path) -> None:
    """mypy --strict takes each as it stands."""
    pytest.importorskip("mypy")
    (tmp_path / "app.py").write_text("import oomguard\nguard = oomguard.Guard()\n")
    for number, code in enumerate(PROGRAMS):
        (tmp_path / f"block{number}.py").write_text(code)
    ended = subprocess.run([sys.executable, "-m", "mypy", "--strict", "--cache-dir", str(tmp_path / "cache"),
                            *map(str, sorted(tmp_path.glob("*.py")))], capture_output=True, text=True, cwd=tmp_path,
                           env={"MYPYPATH": AGENT, "PATH": "/usr/bin:/bin"})
    assert ended.returncode == 0, ended.stdout + ended.stderr


def test_the_toml_is_an_entry_point() -> None:
    """It names the group that the code looks in."""
    import tomllib

    from oomguard.adaptors.plugins import GROUP

    (text,) = [code for language, code in BLOCKS if language == "toml"]
    assert GROUP in tomllib.loads(text)["project"]["entry-points"]


@pytest.mark.parametrize(("row", "cost"), [
    ("`dict`", entries.ENTRIES_COST), ("cachetools:", entries.ENTRIES_COST), ("`functools", memo.MEMO_COST),
    ("a deque", kept.KEPT_COST), ("`diskcache", stores.STORE_COST), ("`sqlite3", sqlite.SQLITE_COST),
    ("`gc`", process.GARBAGE_COST), ("`pyarrow`", libraries.ALLOCATOR_COST), ("`torch`", libraries.ALLOCATOR_COST),
    ("`numpy`", process.TRIM_COST),
])
def test_the_costs_of_the_table_are_those_of_the_code(row: str, cost: float) -> None:
    """Each adaptor's declared cost."""
    (line,) = [line for line in TEXT.splitlines() if line.startswith(f"| {row}") and line.count("|") == 6]
    assert float(line.split("|")[3]) == cost


def test_the_numbers_of_the_page_are_those_of_the_code() -> None:
    """How far the sizer looks and how many entries a batch has."""
    assert f"{OBJECTS_MOST:,} objects" in TEXT
    assert f"up to {entries.BATCH_MOST} entries at a time" in TEXT
