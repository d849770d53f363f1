"""`run` and `exec` up to the moment at which they become the daemon: what it is told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from oomguard.briefing import Options
from oomguard.cli import exec as exec_verb
from oomguard.cli import main
from oomguard.cli import run as run_verb
from oomguard.decide.plan import Plan


class BecameDaemonError(Exception):
    """Stands for the exec that does not return."""


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[tuple[Plan, Any, Options]]:
    """What the daemon would have been told."""
    found: list[tuple[Plan, Any, Options]] = []

    def become(plan: Plan, bundle: Any, options: Options) -> None:
        found.append((plan, bundle, options))
        raise BecameDaemonError

    for verb in (run_verb, exec_verb):
        monkeypatch.setattr(verb, "become_daemon", become)
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(tmp_path))
    monkeypatch.delenv("OOMGUARD_SOCKET", raising=False)
    return found


def test_run_without_anything(told: list[tuple[Plan, Any, Options]], tmp_path: Path) -> None:
    """The container or the system, by the shipped rules, in the runtime folder."""
    assert main(["run", "--model", "none"]) == 70       # the stand-in is no error of the family
    (plan, bundle, options), = told
    assert plan.targets[0].kind in ("system", "cgroup") and len(plan.targets) == 1
    assert bundle is None and options.model_problem == ""
    assert options.runtime_dir == str(tmp_path) and options.socket == str(tmp_path / "control.sock")


def test_run_takes_the_targets_of_a_file(told: list[tuple[Plan, Any, Options]], tmp_path: Path) -> None:
    """FILE and --rules are the same; --target stands over both."""
    path = tmp_path / "rules.yaml"
    path.write_text("version: 1\nmodel: none\ntargets: [{name: a, command: a}]\n"
                    "rules: [{name: x, when: {level_at_least: 1}, then: [{hook: any}]}]\n")
    for argv in (["run", str(path)], ["run", "--rules", str(path)], ["run", str(path), "--target", "pid:1"]):
        main(argv)
    assert [plan.targets[0].name for plan, _bundle, _options in told] == ["a", "a", "1"]


def test_a_runtime_folder_of_its_own_has_its_own_socket(told: list[tuple[Plan, Any, Options]]) -> None:
    """Unless --socket says otherwise."""
    main(["run", "--model", "none", "--target", "self", "--runtime-dir", "/x", "--ticks", "3", "--portable"])
    main(["run", "--model", "none", "--target", "self", "--runtime-dir", "/x", "--socket", "/y"])
    (_p, _b, first), (_q, _c, second) = told
    assert (first.socket, first.ticks, first.is_portable) == ("/x/control.sock", 3, True)
    assert second.socket == "/y"


def test_a_bad_model_is_a_problem_and_no_end(told: list[tuple[Plan, Any, Options]]) -> None:
    """The daemon is told why it has none."""
    main(["run", "--model", "/nonexistent", "--target", "self"])
    assert "/nonexistent: No such file" in told[0][2].model_problem


def test_exec_takes_everything_after_the_dashes(told: list[tuple[Plan, Any, Options]], tmp_path: Path) -> None:
    """The program's own options are not ours."""
    main(["exec", "--model", "none", "--limit", "64MiB", "--", "/usr/bin/node", "--limit", "x.js", "--", "-v"])
    (plan, _bundle, options), = told
    assert options.argv == ("/usr/bin/node", "--limit", "x.js", "--", "-v")
    assert options.limit_bytes == 64 << 20 and plan.targets[0].name == "node"
    assert options.runtime_dir.startswith(str(tmp_path / "exec-"))
    assert options.socket == options.runtime_dir + "/control.sock"


def test_exec_with_a_name(told: list[tuple[Plan, Any, Options]]) -> None:
    """The target goes by it."""
    main(["exec", "--model", "none", "--name", "player", "--", "node"])
    assert told[0][0].targets[0].name == "player"


@pytest.mark.parametrize("limit", ["lots", "-5", "64Mi", "nan"])
def test_a_limit_that_is_none(told: list[tuple[Plan, Any, Options]], limit: str) -> None:
    """A usage error; the daemon is not started."""
    assert main(["exec", "--model", "none", f"--limit={limit}", "--", "true"]) == 2
    assert told == []


def test_a_helper_and_a_group_of_its_own(told: list[tuple[Plan, Any, Options]]) -> None:
    """Where the helper listens, and whose members may come to the control socket; nobody's without the option."""
    main(["run", "--model", "none", "--target", "self", "--helper", "/run/h.sock", "--socket-group", "root"])
    main(["run", "--model", "none", "--target", "self"])
    (_p, _b, first), (_q, _c, second) = told
    assert (first.helper_address, first.socket_gid) == ("/run/h.sock", 0)
    assert (second.helper_address, second.socket_gid) == ("", -1)


def test_a_group_that_is_not_there(told: list[tuple[Plan, Any, Options]], capsys: pytest.CaptureFixture[str]) -> None:
    """A usage error that names it."""
    assert main(["run", "--model", "none", "--target", "self", "--socket-group", "no-such-group"]) == 2
    assert "no-such-group" in capsys.readouterr().err
    assert told == []
