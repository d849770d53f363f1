"""Guards, programs, cgroups and folders that end with the test."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from guarded import Guard

from oomguard.enclosure import Enclosure
from oomguard.errors import NotPermittedError


@pytest.fixture
def folder() -> Iterator[Path]:
    """A short path: a socket's may have 96 bytes."""
    made = Path(tempfile.mkdtemp(prefix="og-"))
    yield made
    shutil.rmtree(made)


@pytest.fixture
def start(folder: Path) -> Iterator[Callable[..., Guard]]:
    """Start guards that are ended with the test: start("run", "--target", …)."""
    made: list[Guard] = []

    def begin(*argv: str, **more: Any) -> Guard:
        made.append(Guard(folder, *argv, **more))
        return made[-1]

    yield begin
    for guard in made:
        guard.end()


@pytest.fixture
def rules(folder: Path) -> Callable[[str], str]:
    """Write a rule file: rules("hooks: …") puts version and target before it, and returns its path."""
    def write(text: str) -> str:
        path = folder / "rules.yaml"
        path.write_text(f"version: 1\nmodel: none\ncadence: 100ms\ntargets: [system]\n{text}")
        return str(path)

    return write


@pytest.fixture
def child() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start programs that are killed and reaped with the test."""
    made: list[subprocess.Popen[str]] = []

    def begin(*argv: str, **more: Any) -> subprocess.Popen[str]:
        made.append(subprocess.Popen(argv, text=True, **more))
        return made[-1]

    yield begin
    for process in made:
        process.kill()
        process.wait()
        for stream in (process.stdin, process.stdout, process.stderr):
            if stream is not None:
                with contextlib.suppress(BrokenPipeError):
                    stream.close()


@pytest.fixture
def enclosure(request: pytest.FixtureRequest) -> Iterator[Callable[..., Enclosure]]:
    """Make memory cgroups that are removed with the test: enclosure(name, limit_bytes)."""
    if "child" in request.fixturenames:
        request.getfixturevalue("child")        # set up first, so that who sits in the groups is ended before
    made: list[Enclosure] = []

    def make(name: str, limit_bytes: int | None = None) -> Enclosure:
        try:
            made.append(Enclosure.make(name, limit_bytes))
        except NotPermittedError as error:
            pytest.skip(str(error))
        return made[-1]

    yield make
    for one in reversed(made):
        one.remove(kill=True)


@pytest.fixture
def needs_cgroup(enclosure: Callable[..., Enclosure]) -> None:
    """Skip where no memory cgroup can be made."""
    enclosure("probe").remove()
