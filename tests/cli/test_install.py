"""`oomguard install --unit`: the drop-in that lets a service hear the guard."""

import os

import pytest

from oomguard import cli

DROP_IN = "etc/systemd/system/player.service.d/50-oomguard.conf"


def install(root, *words):
    return cli.main(["install", "--root", str(root), *words])


def test_it_writes_what_dry_run_prints(tmp_path, capsys):
    """WATCH is the guard's socket, WRITE is gone, and a dry run shows the same text and writes nothing."""
    assert install(tmp_path, "--unit", "player", "--dry-run") == 0
    name, _, text = capsys.readouterr().out.partition("\n")
    assert name == f"# {tmp_path}/{DROP_IN}"
    assert not os.listdir(tmp_path)
    assert install(tmp_path, "--unit", "player.service") == 0
    assert (tmp_path / DROP_IN).read_text() == text
    assert os.stat(tmp_path / DROP_IN).st_mode & 0o777 == 0o644
    settings = [line for line in text.splitlines() if "=" in line and not line.startswith("#")]
    assert settings[2:] == ["Environment=MEMORY_PRESSURE_WATCH=/run/oomguard-pressure.sock",
                            "UnsetEnvironment=MEMORY_PRESSURE_WRITE"]
    assert os.listdir(tmp_path / os.path.dirname(DROP_IN)) == [os.path.basename(DROP_IN)]
    assert "systemctl daemon-reload" in capsys.readouterr().out


def test_it_can_be_written_twice_and_removed_twice(tmp_path, capsys):
    """Again is no error; what others put beside it stays."""
    for _ in range(2):
        assert install(tmp_path, "--unit", "player") == 0
    other = tmp_path / os.path.dirname(DROP_IN) / "10-mine.conf"
    other.write_text("")
    for _ in range(2):
        assert install(tmp_path, "--unit", "player", "--remove") == 0
    assert other.exists()
    assert not (tmp_path / DROP_IN).exists()
    assert "there is no" in capsys.readouterr().out


def test_an_empty_folder_goes_with_it(tmp_path):
    """Nothing of ours is left behind."""
    install(tmp_path, "--unit", "player")
    install(tmp_path, "--unit", "player", "--remove")
    assert not (tmp_path / os.path.dirname(DROP_IN)).exists()


@pytest.mark.parametrize("unit", ["../x", "a/b", "a b", "", "x.slice.service\n", "oomguard", "oomguard-hooks.service",
                                  "a" * 300])
def test_odd_names_and_the_guard_itself_are_refused(tmp_path, capsys, unit):
    """A path, a blank, nothing, and the guard's own units: exit code 2, nothing written."""
    assert install(tmp_path, "--unit", unit) == 2
    assert not os.listdir(tmp_path)


@pytest.mark.parametrize("socket", ["x", "/a/../b", "/a b", "/a\nExecStartPre=/bin/sh", "/a%h"])
def test_a_path_that_would_be_refused_or_expanded_is_refused(tmp_path, capsys, socket):
    """Relative, not normalised, with blanks, newlines or specifiers: no such line gets into a unit."""
    assert install(tmp_path, "--unit", "player", "--socket", socket) == 2
    assert not os.listdir(tmp_path)


def test_where_it_may_not_write_it_says_so(tmp_path, capsys):
    """A root that is a file: exit code 5 and what to do."""
    (tmp_path / "file").write_text("")
    assert install(tmp_path / "file", "--unit", "player") == 5
    assert "--dry-run" in capsys.readouterr().err
