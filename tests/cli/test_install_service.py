"""`oomguard install --systemd` and `--allow`: what is written where, told, kept and taken back."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from oomguard import cli
from oomguard.cli import install_service
from oomguard.cli.install_site import CommandError, Site
from oomguard.errors import UsageError

SYSTEM = "etc/systemd/system"


@pytest.fixture
def called(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The programs that would have been run; they are the system's, and are run for real on the virtual device."""
    found: list[str] = []

    def call(self: Site, *argv: str) -> None:
        found.append(" ".join(argv))

    monkeypatch.setattr(Site, "call", call)
    return found


def install(root: Path, *words: str) -> int:
    return cli.main(["install", "--root", str(root), "--python", "/opt/oomguard/bin/python3", *words])


def files(root: Path) -> list[str]:
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())


def test_an_image_gets_units_users_and_settings(tmp_path: Path, called: list[str]) -> None:
    """Every file that is there for it, with the interpreter that was named; users and links by systemd's own tools."""
    assert install(tmp_path, "--systemd") == 0
    assert [f"{SYSTEM}/{unit}" for unit in sorted(install_service.UNITS)] == [
        name for name in files(tmp_path) if name.startswith(SYSTEM)]
    unit = (tmp_path / SYSTEM / "oomguard.service").read_text()
    assert "ExecStart=/opt/oomguard/bin/python3 -I -m oomguard run /etc/oomguard" in unit
    assert "/usr/bin/python3" not in unit
    assert {"etc/oomguard/oomguard.yaml", "etc/oomguard/device.yaml", "etc/sysusers.d/oomguard.conf",
            "etc/tmpfiles.d/oomguard.conf"} <= set(files(tmp_path))
    assert called == [
        f"systemd-sysusers --root={tmp_path} oomguard.conf",
        f"systemd-tmpfiles --root={tmp_path} --create oomguard.conf",
        f"systemctl --root={tmp_path} enable {' '.join(install_service.STARTED)}"]


def test_twice_changes_nothing_and_says_so(tmp_path: Path, called: list[str],
                                           capsys: pytest.CaptureFixture[str]) -> None:
    """What is there already is told as unchanged; what the operator has changed is kept."""
    install(tmp_path, "--systemd")
    (tmp_path / "etc/oomguard/oomguard.yaml").write_text("mine")
    before = {name: (tmp_path / name).stat().st_mtime_ns for name in files(tmp_path)}
    capsys.readouterr()
    assert install(tmp_path, "--systemd") == 0
    told = capsys.readouterr().out
    assert "wrote" not in told
    assert f"kept {tmp_path}/etc/oomguard/oomguard.yaml" in told
    assert before == {name: (tmp_path / name).stat().st_mtime_ns for name in files(tmp_path)}


def test_a_dry_run_tells_and_does_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Every file and every program, and no change."""
    assert install(tmp_path, "--systemd", "--dry-run") == 0
    told = capsys.readouterr().out.splitlines()
    assert f"would write {tmp_path}/{SYSTEM}/oomguard.service" in told
    assert f"would run systemctl --root={tmp_path} enable {' '.join(install_service.STARTED)}" in told
    assert files(tmp_path) == []


def test_uninstall_leaves_what_is_the_operators(tmp_path: Path, called: list[str],
                                                capsys: pytest.CaptureFixture[str]) -> None:
    """Units, rights and unchanged settings go; a changed setting and others' drop-ins stay, and are told."""
    install(tmp_path, "--systemd", "--allow", "signal", "--allow", "user=www-data")
    (tmp_path / "etc/oomguard/oomguard.yaml").write_text("mine")
    (tmp_path / SYSTEM / "oomguard-hooks.service.d/10-mine.conf").write_text("")
    capsys.readouterr()
    for _ in range(2):
        assert install(tmp_path, "--systemd", "--uninstall") == 0
    assert files(tmp_path) == ["etc/oomguard/oomguard.yaml", f"{SYSTEM}/oomguard-hooks.service.d/10-mine.conf"]
    assert f"kept {tmp_path}/etc/oomguard/oomguard.yaml" in capsys.readouterr().out
    assert any(" disable " in each for each in called)


def test_uninstall_of_all_leaves_nothing(tmp_path: Path, called: list[str]) -> None:
    """No file and no folder of ours."""
    install(tmp_path, "--systemd")
    install(tmp_path, "--systemd", "--uninstall")
    assert files(tmp_path) == []
    assert not (tmp_path / "etc/oomguard").exists()
    assert (tmp_path / "etc/sysusers.d").exists(), "a folder of the system's own"


def test_rights_are_drop_ins_of_the_hooks(tmp_path: Path) -> None:
    """One file each, that `--uninstall` takes away."""
    folder = tmp_path / SYSTEM / "oomguard-hooks.service.d"
    assert install(tmp_path, "--allow", "signal", "--allow", "reclaim") == 0
    assert "AmbientCapabilities=CAP_KILL" in (folder / "50-oomguard-signal.conf").read_text()
    assert "ProtectControlGroups=no" in (folder / "50-oomguard-reclaim.conf").read_text()
    assert install(tmp_path, "--allow", "signal", "--uninstall") == 0
    assert [path.name for path in folder.iterdir()] == ["50-oomguard-reclaim.conf"]


@pytest.mark.parametrize("word", ["kill", "", "user=", "user=Root Me", "user=x\nExecStart=/bin/sh", "signal=1"])
def test_other_rights_are_refused(tmp_path: Path, word: str) -> None:
    """Exit code 2, and nothing is written."""
    assert install(tmp_path, "--allow", word) == 2
    assert files(tmp_path) == []


def test_nothing_named_is_a_usage_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It says what could be named."""
    assert install(tmp_path) == 2
    assert "--systemd, --unit UNIT or --allow RIGHT" in capsys.readouterr().err


def test_a_service_that_is_packaged_is_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Two sets of units would be one too many."""
    (tmp_path / "usr/lib/systemd/system").mkdir(parents=True)
    (tmp_path / "usr/lib/systemd/system/oomguard.service").touch()
    assert install(tmp_path, "--systemd") == 2
    assert "systemctl enable --now oomguard" in capsys.readouterr().err


@pytest.mark.parametrize("python", ["python3", "/opt/a b/python3", "/opt/x\nUser=root"])
def test_an_interpreter_that_would_spoil_the_unit_is_refused(tmp_path: Path, python: str) -> None:
    """Relative, with a blank, with a newline."""
    assert cli.main(["install", "--root", str(tmp_path), "--systemd", "--python", python]) == 2
    assert files(tmp_path) == []


def test_an_interpreter_that_the_service_cannot_see_is_refused(tmp_path: Path) -> None:
    """Under ProtectHome= and PrivateTmp= nothing in /root or /tmp is there; nor is one without oomguard any use."""
    hidden = Path("/tmp") / f"og-{os.getpid()}"
    hidden.write_text("#!/bin/sh\necho /usr/lib/python3/dist-packages/oomguard\n")
    hidden.chmod(0o755)
    try:
        with pytest.raises(UsageError, match="the service cannot see"):
            install_service.install(Site("/", is_dry_run=True), str(hidden))
        hidden.write_text("#!/bin/sh\nexit 1\n")
        with pytest.raises(UsageError, match="does not find oomguard"):
            install_service.install(Site("/", is_dry_run=True), str(hidden))
    finally:
        hidden.unlink()


def test_a_program_that_fails_is_told(tmp_path: Path) -> None:
    """With its own words; and one that is not there by name."""
    with pytest.raises(CommandError, match="exit status 3: no luck"):
        Site(str(tmp_path)).call("sh", "-c", "echo no luck >&2; exit 3")
    with pytest.raises(CommandError, match="no no-such-program"):
        Site(str(tmp_path)).call("no-such-program")
