"""What docs/black-box.md prints is what the commands print, over the recordings kept in tests/data/guarded."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "docs" / "black-box.md").read_text()
# `replay` tells how long it took and which version replays: its command runs in test_docs.py.
SHOWN = re.findall(r"^\$ oomguard ((?:explain|events) guarded.*)\n((?:(?!\$ |```).*\n)+)", TEXT, re.MULTILINE)


def test_there_is_something_to_compare() -> None:
    """Events of tables and of a log, and an explanation."""
    assert len(SHOWN) == 3


@pytest.mark.parametrize(("command", "shown"), SHOWN, ids=lambda text: text.split()[0])
def test_output_is_real(command: str, shown: str, tmp_path: Path) -> None:
    """Every line shown comes out, in this order; a lone … stands for lines left out."""
    (tmp_path / "guarded").symlink_to(ROOT / "tests" / "data" / "guarded")
    done = subprocess.run([sys.executable, "-m", "oomguard", *command.split()], cwd=tmp_path, check=True,
                          env=os.environ | {"TZ": "UTC"}, capture_output=True, text=True, timeout=60)
    printed = done.stdout.splitlines()
    if "\n…\n" not in shown:
        assert shown.splitlines() == printed
    for line in shown.splitlines():
        if line != "…":
            assert line in printed, line
            printed = printed[printed.index(line) + 1:]
