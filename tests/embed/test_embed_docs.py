"""Every code block of docs/embed.md runs, and passes the strict type check."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from embedding import run

from inside import AGENT
from oomguard.decide.rules import parse_rules, undeclared_hooks

TEXT = (Path(__file__).parents[2] / "docs" / "embed.md").read_text()
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
PROGRAMS = [code for language, code in BLOCKS if language == "python"]


def test_every_block_is_of_a_language_that_is_tested() -> None:
    """No block can rot unseen."""
    assert {language for language, _code in BLOCKS} == {"python", "yaml"}
    assert TEXT.count("```") == 2 * len(BLOCKS)


@pytest.mark.parametrize("number", range(len(PROGRAMS)))
def test_each_program_runs_and_says_nothing_wrong(number: int) -> None:
    """Exit status 0, nothing on standard error, warnings shown."""
    ended = run(PROGRAMS[number])
    assert (ended.returncode, ended.stderr) == (0, "")


def test_the_first_example_is_short_and_says_its_level() -> None:
    """Ten lines of guard around an app: what is not its cache, blank or a comment; and it prints a level."""
    ended = run(PROGRAMS[0])
    assert re.fullmatch(r"level [0-5]\n", ended.stdout)
    lines = [line for line in PROGRAMS[0].splitlines() if line.strip() and not line.startswith("images")]
    assert len(lines) == 10


def test_the_programs_are_typed(tmp_path: Path) -> None:
    """mypy --strict takes each as it stands."""
    pytest.importorskip("mypy")
    for number, code in enumerate(PROGRAMS):
        (tmp_path / f"block{number}.py").write_text(code)
    ended = subprocess.run([sys.executable, "-m", "mypy", "--strict", "--cache-dir", str(tmp_path / "cache"),
                            *map(str, sorted(tmp_path.glob("block*.py")))], capture_output=True, text=True,
                           env={"MYPYPATH": AGENT, "PATH": "/usr/bin:/bin"})
    assert ended.returncode == 0, ended.stdout + ended.stderr


def test_the_rules_are_rules() -> None:
    """The rule file is one, and asks for the hook of the example."""
    for language, code in BLOCKS:
        if language == "yaml":
            assert undeclared_hooks(parse_rules(code)) == ("image-cache",)


def test_every_argument_is_in_the_table() -> None:
    """The page and the constructor name the same arguments."""
    import inspect

    import oomguard

    arguments = set(inspect.signature(oomguard.Guard).parameters)
    assert arguments == set(re.findall(r"^\| `(\w+)` \|", TEXT, re.MULTILINE)) | {"allow_unsigned"}
