"""`oomguard top` up to the moment at which it takes the terminal; what a user sees is in tests/top."""

from __future__ import annotations

from typing import Any, ClassVar

import pytest

from oomguard.cli import main
from oomguard.cli import top as top_verb


class FakeTop:
    """Notes what it was made with."""

    made: ClassVar[list[Any]] = []

    def __init__(self, path: str, every_s: float, ui: Any, screen: Any) -> None:
        self.made.append((path, every_s, ui.sort, ui.is_ascii))

    def run(self) -> None:
        """Show nothing."""


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What the view was made with."""
    monkeypatch.setattr(FakeTop, "made", [])
    monkeypatch.setattr(top_verb, "Top", FakeTop)
    monkeypatch.setenv("OOMGUARD_SOCKET", "/s")
    return FakeTop.made


def test_as_it_comes(made: list[Any]) -> None:
    """Where clients look for the guard, once a second, in the guard's order."""
    assert main(["top"]) == 0
    assert made == [("/s", 1.0, "guard", False)]


def test_as_it_is_told(made: list[Any]) -> None:
    """Each option reaches the view."""
    assert main(["top", "--socket", "/t", "--every", "250ms", "--sort", "level", "--ascii"]) == 0
    assert made == [("/t", 0.25, "level", True)]


@pytest.mark.parametrize("every", ["1", "0s", "50ms", "61s", "soon", "-1s"])
def test_times_that_make_no_sense(made: list[Any], every: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 2, and what is allowed."""
    assert main(["top", f"--every={every}"]) == 2
    assert made == [] and "--every" in capsys.readouterr().err
