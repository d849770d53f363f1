"""What the tests of server hooks share: a helper with a folder of its own for notes, programs and cgroups."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest
from serving import Guarding, Program, short_folder

from oomguard.act.runner import Runner
from oomguard.enclosure import Enclosure
from oomguard.errors import NotPermittedError

P = TypeVar("P", bound=Program)


def pytest_configure(config: pytest.Config) -> None:
    """Name the marker of tests that start a browser."""
    config.addinivalue_line("markers", "browser: starts Chromium (OOMGUARD_BROWSER=1, make test-all)")


@pytest.fixture
def folder(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder that is the runtime folder, too: notes of other guards are none of a test's business."""
    made = short_folder()
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(made))
    yield made
    shutil.rmtree(made)


@pytest.fixture
def guarding(folder: Path) -> Iterator[Callable[..., Guarding]]:
    """Start runners that are closed with the test."""
    made: list[Guarding] = []

    def begin(**options: Any) -> Guarding:
        made.append(Guarding(Runner(**options)))
        return made[-1]

    yield begin
    for one in made:
        one.runner.close()


@pytest.fixture
def guard(guarding: Callable[..., Guarding]) -> Guarding:
    """One runner."""
    return guarding()


@pytest.fixture
def enclosure() -> Iterator[Callable[..., Enclosure]]:
    """Make memory cgroups that are removed with the test."""
    made: list[Enclosure] = []

    def make(limit_bytes: int | None = None) -> Enclosure:
        try:
            made.append(Enclosure.make(f"servers{len(made)}", limit_bytes))
        except NotPermittedError as error:
            pytest.skip(str(error))
        return made[-1]

    yield make
    for one in made:
        one.remove(kill=True)


@pytest.fixture
def start(enclosure: object) -> Iterator[Callable[..., Any]]:
    """Start programs that are killed with the test: start(Redis, folder, …)."""
    made: list[Program] = []

    def begin(kind: type[P], *arguments: Any, **options: Any) -> P:
        program = kind(*arguments, **options)
        made.append(program)
        return program

    yield begin
    for program in made:
        program.end()
