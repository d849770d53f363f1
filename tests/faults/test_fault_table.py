"""The table of docs/faults.md names tests that are there, and every test of this folder."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "docs" / "faults.md").read_text()
ROWS = [line for line in TEXT.splitlines() if line.startswith("| ")][1:]
NAMED = re.findall(r"`(tests/[\w/.]+\.py)::(test_\w+)`", TEXT)


def names_in(path: Path) -> set[str]:
    """Return the names of the tests in a file."""
    return set(re.findall(r"^def (test_\w+)\(", path.read_text(), re.MULTILINE))


def test_every_fault_has_a_test() -> None:
    """Four columns, and a test in each row."""
    assert len(ROWS) >= 25
    for row in ROWS:
        assert row.count(" | ") + row.count(" |  |") >= 3, row
        assert "::test_" in row, row


def test_every_named_test_is_there() -> None:
    """File and function."""
    assert len(NAMED) >= 50
    missing = [f"{file}::{name}" for file, name in NAMED
               if not (ROOT / file).exists() or name not in names_in(ROOT / file)]
    assert missing == []


def test_every_test_of_a_fault_is_named() -> None:
    """What is injected here stands in the table, but for the counterparts that show the same without the fault."""
    counterparts = {"test_an_unharmed_journal_has_no_losses"}
    injected = {(str(path.relative_to(ROOT)), name)
                for path in [*Path(__file__).parent.glob("test_fault_*.py"),
                             ROOT / "tests" / "device" / "test_faults_device.py"]
                if path != Path(__file__) for name in names_in(path) - counterparts}
    assert injected <= set(NAMED)
