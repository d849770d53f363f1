"""A running guard and its signed model: what it refuses it says, in log and status, and guards on."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "end_to_end"))

from guarded import Guard

RULES = """\
version: 1
cadence: 100ms
model: ./model
{more}rules:
  - name: all
    when: {{level_at_least: 5}}
    then: [{{hook: any, release: all}}]
"""


@pytest.fixture
def guard_of(keys: Path, tmp_path: Path) -> Iterator[Callable[..., Guard]]:
    """Return what starts a guard by a rule file that names ./model, a link that a test lays."""
    folder = Path(tempfile.mkdtemp(prefix="og-"))       # short: a socket's path may have 96 bytes
    made: list[Guard] = []

    def begin(*words: str, more: str = "") -> Guard:
        (tmp_path / "rules.yaml").write_text(RULES.format(more=more))
        made.append(Guard(folder, "run", str(tmp_path / "rules.yaml"), "--keys", str(keys), "--target",
                          f"pid:{os.getpid()}", *words))
        return made[-1]

    yield begin
    for guard in made:
        guard.end()
    shutil.rmtree(folder)


def lay(bundle: Path, tmp_path: Path) -> None:
    """Let ./model be this bundle."""
    (tmp_path / "model").unlink(missing_ok=True)
    (tmp_path / "model").symlink_to(bundle.name)


def reload(guard: Guard) -> subprocess.CompletedProcess[str]:
    """Run `oomguard reload` against a guard, on the guard's own state folder."""
    return subprocess.run([sys.executable, "-m", "oomguard", "reload", "--socket", guard.socket], capture_output=True,
                          text=True, timeout=60, env={**os.environ, "STATE_DIRECTORY": str(guard.folder / "state")})


@pytest.mark.parametrize(("spoil", "says"), [
    (lambda bundle: (bundle / "manifest.sig").unlink(), "unsigned"),
    (lambda bundle: (bundle / "forest.bin").write_bytes(b"x"), "forest.bin: altered"),
    (lambda bundle: (bundle / "manifest.sig").write_bytes(b"\0" * 2000), "more than 1024 bytes"),
    (lambda bundle: bundle.chmod(0o777), "lets others in")])
def test_a_model_that_is_refused_leaves_the_plain_levels(signed, guard_of, tmp_path: Path, spoil, says: str) -> None:
    """Unsigned, altered, oversized, open to others: it starts, says why in log and status, and takes its samples."""
    bundle = signed()
    spoil(bundle)
    lay(bundle, tmp_path)
    guard = guard_of()
    assert guard.event("start")["scorer"] == "plain"
    assert guard.samples(3) >= 3
    status = guard.status()
    assert status["model"] is None and any(says in warning for warning in status["warnings"])
    assert any(says in event["because"] for event in guard.events("warning"))
    assert guard.stop() == 0


@pytest.mark.parametrize(("words", "more"), [(("--allow-unsigned",), ""), ((), "model_may_be: [unsigned]\n")])
def test_an_unsigned_model_is_taken_where_it_is_allowed(signed, guard_of, tmp_path: Path, words, more: str) -> None:
    """By the command line or by the rule file."""
    bundle = signed()
    (bundle / "manifest.sig").unlink()
    lay(bundle, tmp_path)
    guard = guard_of(*words, more=more)
    assert guard.event("start")["scorer"] == "forest"
    assert guard.stop() == 0


def test_a_reload_takes_newer_releases_and_no_older_one(signed, guard_of, tmp_path: Path) -> None:
    """Checked again each time: what is refused is said with exit code 4, and the model that there is holds."""
    old, new = signed(release=2), signed(release=3, model_id="default-0123456789ab")
    lay(old, tmp_path)
    guard = guard_of()
    assert guard.event("start")["scorer"] == "forest"
    lay(new, tmp_path)
    assert reload(guard).returncode == 0
    assert guard.event("reload")["model"] == "default-0123456789ab"
    lay(old, tmp_path)
    done = reload(guard)
    assert done.returncode == 4 and "release 2 of 'default' is older than 3" in done.stderr
    assert guard.status()["model"]["id"] == "default-0123456789ab"
    assert guard.stop() == 0
    restarted = guard_of()
    assert restarted.event("start", 1)["scorer"] == "plain"
    assert any("older than 3" in each for each in restarted.status()["warnings"])
    assert restarted.stop() == 0
