"""Shared by all tests: helpers beside the tests, one Hypothesis profile, and the list of skips that are known."""

from __future__ import annotations

import fnmatch
import sys
from pathlib import Path

import pytest
from hypothesis import settings

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

settings.register_profile("oomguard", deadline=None)    # a busy machine is no failure
settings.load_profile("oomguard")

_skipped: list[tuple[str, str]] = []


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add --strict-skips: fail when a test skips that tests/skips.txt does not name."""
    parser.addoption("--strict-skips", action="store_true", help="fail on skips that tests/skips.txt does not name")


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Remember what skipped, and why."""
    if report.skipped and isinstance(report.longrepr, tuple):
        _skipped.append((report.nodeid, report.longrepr[2]))


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Hold the skips against the list."""
    unknown = [f"{test}: {why}" for test, why in _skipped if not _is_known(test)]
    if unknown and session.config.getoption("--strict-skips"):
        sys.stderr.write("\nskipped, and not on tests/skips.txt:\n  " + "\n  ".join(unknown) + "\n")
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def _is_known(test: str) -> bool:
    lines = (HERE / "skips.txt").read_text().splitlines()
    patterns = [line.partition(" # ")[0].strip() for line in lines if line.strip() and not line.startswith("#")]
    return any(fnmatch.fnmatch(test, pattern.replace("[", "[[]")) for pattern in patterns)
