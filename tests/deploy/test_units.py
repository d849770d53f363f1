"""The units as they are shipped: what systemd's own tools say of them, and what must agree with the code."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from oomguard import cli
from oomguard.decide.rules import load_rules, shipped_pack
from oomguard.tell.paths import PRESSURE_SOCKET, SYSTEM_DIR
from oomguard.tell.pressure_socket import CONSUMERS_MAX

DEPLOY = Path(__file__).parents[2] / "agent" / "deploy"
UNITS = sorted(path.name for path in DEPLOY.glob("oomguard*.*"))
GUARD, HOOKS = DEPLOY / "oomguard.service", DEPLOY / "oomguard-hooks.service"
EXPOSURE_MOST = {"oomguard.service": 1.0, "oomguard-hooks.service": 2.0}

needs_systemd = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="not root")


def setting(path: Path, name: str) -> list[str]:
    """Return the values of a setting, in order."""
    return re.findall(rf"^{name}=(.*)$", path.read_text(), re.MULTILINE)


def exposure(path: Path) -> float:
    """Return what `systemd-analyze security` says of a unit's file: 0 is safe, 10 is not."""
    done = subprocess.run(["systemd-analyze", "security", "--offline=true", "--no-pager", str(path)],
                          capture_output=True, text=True, check=False)
    found = re.search(r"Overall exposure level for \S+: ([\d.]+)", done.stdout)
    assert found is not None, done.stderr
    return float(found[1])


@needs_systemd
@pytest.mark.parametrize("name", EXPOSURE_MOST)
@pytest.mark.parametrize("phase", ["as it is", "as an ordinary service"])
def test_exposure_is_low(name: str, phase: str, tmp_path: Path) -> None:
    """At most 1.0 for the guard, 2.0 for its hands; also without DefaultDependencies=no, which leaves some
    settings out of account.
    """
    text = (DEPLOY / name).read_text()
    (tmp_path / name).write_text(text if phase == "as it is" else text.replace("DefaultDependencies=no\n", ""))
    assert exposure(tmp_path / name) <= EXPOSURE_MOST[name]


@needs_systemd
def test_exposure_is_really_measured(tmp_path: Path) -> None:
    """The same unit without its hardening is not safe."""
    text = re.sub(r"^(Protect|Private|Restrict|NoNew|Capab|SystemCall|User=|IPAddr).*\n", "", GUARD.read_text(),
                  flags=re.MULTILINE)
    (tmp_path / GUARD.name).write_text(text)
    assert exposure(tmp_path / GUARD.name) > 5


@needs_systemd
def test_systemd_finds_no_fault(tmp_path: Path) -> None:
    """`systemd-analyze verify` knows every key, apart from those of a systemd newer than this machine's."""
    root = tmp_path / "etc/systemd/system"
    root.mkdir(parents=True)
    for name in UNITS:
        shutil.copy(DEPLOY / name, root)
    for name in ("usr/bin/python3",):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_text("#!/bin/sh\n")
        (tmp_path / name).chmod(0o755)
    done = subprocess.run(["systemd-analyze", "verify", "--man=no", *(str(root / name) for name in UNITS)],
                          capture_output=True, text=True, check=False, env={"SYSTEMD_UNIT_PATH": f"{root}:"})
    said = [line for line in done.stderr.splitlines() if str(root) in line]
    assert [line for line in said if "FileDescriptorStorePreserve" not in line] == []


def test_the_units_agree_with_the_code() -> None:
    """Sockets, folders and numbers that stand in both."""
    assert setting(DEPLOY / "oomguard-pressure.socket", "ListenStream") == [PRESSURE_SOCKET]
    assert [f"/run/{name}" for name in setting(GUARD, "RuntimeDirectory")] == [SYSTEM_DIR]
    assert int(setting(GUARD, "FileDescriptorStoreMax")[0]) > CONSUMERS_MAX
    helper = setting(DEPLOY / "oomguard-hooks.socket", "ListenSequentialPacket")
    start = setting(GUARD, "ExecStart")[0].split()
    assert [start[start.index("--helper") + 1]] == helper
    assert start[start.index("--socket-group") + 1] == setting(GUARD, "Group")[0]
    users = re.findall(r"^u (\S+)", (DEPLOY / "sysusers.conf").read_text(), re.MULTILINE)
    assert users == [*setting(GUARD, "User"), *setting(HOOKS, "User")]
    assert setting(DEPLOY / "oomguard-hooks.socket", "SocketUser") == setting(GUARD, "User")
    soak = re.search(r"^NICE = (-?\d+)", (DEPLOY.parents[1] / "bench/soak/site.py").read_text(), re.MULTILINE)
    assert soak is not None
    assert setting(GUARD, "Nice") == [soak[1]]


def test_the_guards_options_are_those_of_run(capsys: pytest.CaptureFixture[str]) -> None:
    """Every long option of ExecStart is one of `oomguard run`, and of ExecReload of `reload`."""
    for name, verb in (("ExecStart", "run"), ("ExecReload", "reload")):
        words = [word for word in setting(GUARD, name)[0].split() if not word.startswith("$")]
        assert words[:5] == ["/usr/bin/python3", "-I", "-m", "oomguard", verb]
        with pytest.raises(SystemExit):
            cli.main([verb, "--help"])
        told = capsys.readouterr().out
        assert all(word in told for word in words[5:] if word.startswith("--"))


def test_memory_that_is_kept_is_kept_all_the_way_up() -> None:
    """The slice keeps at least what its units keep, and the guard may have more than it keeps."""
    def mib(path: Path, name: str) -> int:
        return int(setting(path, name)[0].removesuffix("M"))

    assert setting(GUARD, "Slice") == setting(HOOKS, "Slice") == ["oomguard.slice"]
    assert mib(DEPLOY / "oomguard.slice", "MemoryMin") >= mib(GUARD, "MemoryMin") + mib(HOOKS, "MemoryMin")
    assert mib(GUARD, "MemoryMin") < mib(GUARD, "MemoryMax")


def test_the_settings_that_are_given_check() -> None:
    """/etc/oomguard as it is shipped is a folder of rules, and does what the shipped default does."""
    plan, default = load_rules(DEPLOY / "etc"), load_rules(shipped_pack())
    assert plan.rules == default.rules and plan.bounds == default.bounds
    assert (plan.targets, plan.plain_headroom_ratios, plan.cadence_s, plan.model) == (
        default.targets, default.plain_headroom_ratios, default.cadence_s, default.model)
    assert plan.profile.device_type == "generic"


@needs_systemd
@needs_root
def test_systemds_own_tools_set_up_an_image(tmp_path: Path) -> None:
    """`install --root` for real: users, the folder for keys, and what starts at boot are in the image."""
    (tmp_path / "etc").mkdir()
    assert cli.main(["install", "--systemd", "--root", str(tmp_path), "--python", "/opt/oomguard/bin/python3"]) == 0
    users = [line.split(":")[0] for line in (tmp_path / "etc/passwd").read_text().splitlines()]
    assert {"oomguard", "oomguard-hooks"} <= set(users)
    assert (tmp_path / "etc/oomguard/keys").is_dir()
    assert (tmp_path / "etc/systemd/system/multi-user.target.wants/oomguard.service").is_symlink()
