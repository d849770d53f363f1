"""The frame of the command line: help, exit codes, what goes wrong."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from oomguard import cli
from oomguard._version import __version__
from oomguard.errors import BundleError, ConfigError, NotPermittedError, OomguardError, TargetGoneError, UsageError


def run(*argv: str) -> subprocess.CompletedProcess[str]:
    """Run the command."""
    return subprocess.run([sys.executable, "-m", "oomguard", *argv], capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize("verb", cli.VERBS)
def test_each_verb_helps(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    """--help of each verb: exit code 0, what it does, examples that call it, the exit codes."""
    with pytest.raises(SystemExit) as ended:
        cli.main([verb, "--help"])
    text = capsys.readouterr().out
    assert ended.value.code == 0
    assert f"usage: oomguard {verb}" in text
    assert re.search(rf"examples:\n  oomguard {verb}", text)
    assert "exit codes: 0 fine" in text


def test_the_command_alone_helps(capsys: pytest.CaptureFixture[str]) -> None:
    """--help names every verb; --version says the one version."""
    with pytest.raises(SystemExit) as ended:
        cli.main(["--help"])
    text = capsys.readouterr().out
    assert ended.value.code == 0
    assert all(re.search(rf"^    {verb} ", text, re.MULTILINE) for verb in cli.VERBS)
    with pytest.raises(SystemExit) as ended:
        cli.main(["--version"])
    assert ended.value.code == 0 and capsys.readouterr().out == f"oomguard {__version__}\n"


@pytest.mark.parametrize("argv", [[], ["nonsense"], ["run", "--nonsense"], ["exec"], ["run", "--ticks", "many"]])
def test_a_command_line_that_makes_no_sense(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 2 and the usage."""
    with pytest.raises(SystemExit) as ended:
        cli.main(argv)
    assert ended.value.code == 2
    assert "usage: oomguard" in capsys.readouterr().err


@pytest.mark.parametrize(("error", "code"), [
    (OomguardError("x"), 70), (UsageError("x"), 2), (ConfigError("x"), 3), (BundleError("x"), 4),
    (NotPermittedError("x"), 5), (TargetGoneError("x"), 6), (BrokenPipeError(), 0), (KeyboardInterrupt(), 130)])
def test_each_error_has_its_exit_code(error: BaseException, code: int, monkeypatch: pytest.MonkeyPatch,
                                      capsys: pytest.CaptureFixture[str]) -> None:
    """The one table of DESIGN 4.10; the text is one line."""
    monkeypatch.setattr(cli.verb_module("status"), "run", lambda args: raise_(error))
    if isinstance(error, BrokenPipeError):
        monkeypatch.setattr(sys, "stderr", open("/dev/null", "w"))  # noqa: SIM115  main closes it
    assert cli.main(["status"]) == code
    if isinstance(error, OomguardError):
        assert capsys.readouterr().err == "oomguard: x\n"


def raise_(error: BaseException) -> int:
    """Raise it."""
    raise error


def test_a_mistake_of_ours_is_70_and_shows_where(monkeypatch: pytest.MonkeyPatch,
                                                 capsys: pytest.CaptureFixture[str]) -> None:
    """Not 1, which says that the answer is no."""
    monkeypatch.setattr(cli.verb_module("status"), "run", lambda args: raise_(ZeroDivisionError("oh")))
    assert cli.main(["status"]) == 70
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.parametrize("verb", ["explain", "replay"])
def test_a_library_that_is_not_installed_is_named(verb: str, tmp_path: Path) -> None:
    """On a device without numpy the verbs that read recordings say what they want: exit code 2, no traceback."""
    argv = [verb, str(tmp_path)]
    code = f"import sys; sys.modules['numpy'] = None; from oomguard.cli import main; sys.exit(main({argv!r}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (
        2, f"oomguard: {verb} needs numpy: {cli.LIBRARIES['numpy']}\n")


def test_only_the_verb_that_runs_is_imported() -> None:
    """`status` need not pay for what `run` and `demo` read."""
    code = ("import sys; from oomguard.cli import main; main(['status', '--socket', '/nonexistent']); "
            "print(*[name for name in sys.modules if name.startswith('oomguard.cli.')])")
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert ended.stdout.split() == ["oomguard.cli.status"]


def test_the_module_is_the_command() -> None:
    """`python -m oomguard` ends as `oomguard` does."""
    assert run("--version").stdout == f"oomguard {__version__}\n"
    assert run("status", "--socket", "/nonexistent").returncode == 1
