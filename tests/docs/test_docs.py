"""What the documents show is so: blocks run, links lead somewhere, every module of the tour is there."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from oomguard.decide.rules import parse_rules

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "SECURITY.md", *(ROOT / "docs").glob("*.md")])


def blocks(page: Path, language: str) -> list[str]:
    """Return the fenced blocks of one language."""
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_rule_files_in_documents_are_accepted(page: Path) -> None:
    """Every YAML block is a whole rule file that the loader takes."""
    for text in blocks(page, "yaml"):
        assert parse_rules(text).rules, text


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_in_documents_run(page: Path, tmp_path: Path) -> None:
    """Every `$ oomguard …` line of a console block exits 0; rules.yaml is the page's first rule file.

    `guarded` is tests/data/guarded, the project's recordings of guarded runs.
    """
    (tmp_path / "guarded").symlink_to(ROOT / "tests" / "data" / "guarded")
    rules = blocks(page, "yaml")
    (tmp_path / "rules.yaml").write_text(rules[0] if rules else "")
    for block in blocks(page, "console"):
        for command in re.findall(r"^\$ oomguard (.*)$", block, re.MULTILINE):
            done = subprocess.run([sys.executable, "-m", "oomguard", *command.split()], cwd=tmp_path,
                                  capture_output=True, text=True, timeout=60)
            assert done.returncode == 0, f"{command}: {done.stderr}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_python_in_documents_compiles(page: Path) -> None:
    """Every Python block is a program without a mistake in its form; docs/embed.md's own test runs them."""
    for text in blocks(page, "python"):
        compile(text, str(page), "exec")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    """Every relative link names a file of the project."""
    for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
        assert (page.parent / target).exists(), target


def test_every_answer_to_a_threat_names_its_test() -> None:
    """The tests that SECURITY.md names are there."""
    for name in re.findall(r"`(tests/[\w/.]+)`", (ROOT / "SECURITY.md").read_text()):
        assert (ROOT / name).exists(), name


def test_the_tour_names_what_is_there() -> None:
    """Every path in the tour is a module or folder of the package, or of the project."""
    text = (ROOT / "docs" / "tour.md").read_text()
    for name in re.findall(r"`([\w/]+\.(?:py|c)|[\w/]+/)`", text):
        assert (ROOT / "agent" / "oomguard" / name).exists() or (ROOT / name).exists(), name


def test_readme_names_the_exit_codes_of_the_errors() -> None:
    """The exit codes in README are those of the error family."""
    from oomguard import errors

    text = " ".join((ROOT / "README.md").read_text().split())
    family = ((errors.UsageError, "usage"), (errors.ConfigError, "bad configuration"),
              (errors.BundleError, "bad model"),
              (errors.NotPermittedError, "no permission"), (errors.TargetGoneError, "target gone"))
    for error, words in family:
        assert f"{error.exit_code} {words}" in text
