"""`oomguard record` as it is typed: a real process, a real cgroup, a real kernel kill."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time

import pyarrow.parquet as pq
import pytest

import oomguard
from oomguard.cli import build_parser, record

AGENT = os.path.dirname(os.path.dirname(oomguard.__file__))
START = "import sys, oomguard.cli as cli; cli.VERBS = ('record',); sys.exit(cli.main())"
V1 = "/sys/fs/cgroup/memory"
LEAK = "held = []\nimport time\nwhile True: held.append(b'x' * (1 << 20)); time.sleep(0.02)"


def begin(*argv):
    """Start `oomguard record …` and wait until it records."""
    process = subprocess.Popen([sys.executable, "-c", START, "record", *argv], stderr=subprocess.PIPE, text=True,
                               env={**os.environ, "PYTHONPATH": AGENT})
    return process, process.stderr.readline()


def end(process):
    with process:
        told = process.stderr.read()
    return process.returncode, told


def call(*argv):
    args = build_parser(["record"]).parse_args(["record", *argv])
    return record.run(args)


@pytest.fixture
def sleeper():
    """A process that does nothing."""
    with subprocess.Popen(["sleep", "100"]) as process:
        yield process
        process.kill()


@pytest.fixture
def group():
    """A version 1 memory cgroup of 24 MiB."""
    folder = f"{V1}/oomguard-record-{os.getpid()}"
    try:
        os.mkdir(folder)
    except OSError as error:
        pytest.skip(f"no cgroup can be made: {error.strerror}")
    with open(f"{folder}/memory.limit_in_bytes", "w") as file:
        file.write(str(24 << 20))
    yield folder
    deadline_s = time.monotonic() + 5
    while os.path.isdir(folder) and time.monotonic() < deadline_s:
        with contextlib.suppress(OSError):
            os.rmdir(folder)


def leaker(folder):
    """A process that fills its cgroup."""
    return subprocess.Popen(["/bin/sh", "-c", f'echo $$ > {folder}/cgroup.procs; exec "$0" -c "$1"', sys.executable,
                             LEAK])


def listed(folder, capsys):
    assert call("list", str(folder), "--json") == 0
    return json.loads(capsys.readouterr().out)["runs"]


def test_ctrl_c_ends_a_recording_cleanly(sleeper, tmp_path, capsys):
    """It says what came of it and what to do next; the run ended as stopped."""
    process, first = begin("start", f"pid:{sleeper.pid}", "--out", str(tmp_path), "--cadence", "100ms", "--name", "app")
    assert first.startswith("recording app into ")
    while not any(path.stat().st_size > 2000 for path in tmp_path.iterdir()):
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    code, told = end(process)
    assert code == 0 and told.startswith("stopped after ") and "oomguard record export" in told
    (run,) = listed(tmp_path, capsys)
    assert (run["app"], run["ended"], run["target"]) == ("app", "stopped", f"process (pid {sleeper.pid})")
    assert run["samples"] > 5 and run["bytes"] > 500


def test_it_stops_when_the_time_is_over(sleeper, tmp_path, capsys):
    """--for."""
    process, _first = begin("start", f"pid:{sleeper.pid}", "--out", str(tmp_path), "--cadence", "100ms",
                            "--for", "550ms")
    assert end(process)[0] == 0
    (run,) = listed(tmp_path, capsys)
    assert run["samples"] == 6 and run["length_s"] == pytest.approx(0.55, abs=0.4)


def test_the_end_of_the_target_is_noted(sleeper, tmp_path, capsys):
    """A process that ends is no kill."""
    process, _first = begin("start", f"pid:{sleeper.pid}", "--out", str(tmp_path))
    while not any(path.stat().st_size > 512 for path in tmp_path.iterdir()):
        time.sleep(0.02)
    sleeper.terminate()
    sleeper.wait()
    assert end(process)[1].startswith("it has ended after ")
    assert listed(tmp_path, capsys)[0]["ended"] == "exit"


@pytest.mark.parametrize("kind", ["pid", "cgroup"])
def test_a_kernel_kill_is_noted_and_no_sample_follows_it(group, tmp_path, capsys, kind):
    """Process or group: the run ended as oom, the kill took all of it, and the tables end before it."""
    with leaker(group) as victim:
        target = f"pid:{victim.pid}" if kind == "pid" else f"cgroup:/{os.path.basename(group)}"
        process, _first = begin("start", target, "--out", str(tmp_path / "journal"), "--cadence", "100ms")
        assert victim.wait() == -signal.SIGKILL
        code, told = end(process)
    assert code == 0 and told.startswith("the kernel killed it after ")
    assert call("export", str(tmp_path / "journal"), "--out", str(tmp_path / "tables")) == 0
    tables = {name: pq.read_table(tmp_path / "tables" / f"{name}.parquet").to_pylist() for name in ("runs", "samples",
                                                                                                  "kills")}
    (run,), (kill,) = tables["runs"], tables["kills"]
    assert run["ended"] == "oom" and kill["whole_target"] and kill["killer"] == "kernel"
    assert run["ended_after_s"] == kill["t_s"] > max(row["t_s"] for row in tables["samples"])
    assert tables["samples"][-1]["constraint"] == f"cgroup:/{os.path.basename(group)}"
    assert run["limit_bytes"] == 24 << 20 and run["rules_digest"] is None and run["scorer"] is None


def test_a_list_is_read_by_people(sleeper, tmp_path, capsys):
    """One line a run, and the whole size."""
    end(begin("start", f"pid:{sleeper.pid}", "--out", str(tmp_path), "--for", "100ms", "--name", "app")[0])
    assert call("list", str(tmp_path)) == 0
    heading, row, total = capsys.readouterr().out.splitlines()
    assert heading.split()[0] == "RUN" and row.split()[0].endswith("-app") and "stopped" in row
    assert total.startswith("1 runs, ")


def test_a_run_that_goes_on_is_listed_as_such(sleeper, tmp_path, capsys):
    """`list` and `export` may run beside the one who records."""
    process, _first = begin("start", f"pid:{sleeper.pid}", "--out", str(tmp_path), "--cadence", "100ms")
    while not any(path.stat().st_size > 2000 for path in tmp_path.iterdir()):
        time.sleep(0.02)
    assert listed(tmp_path, capsys)[0]["ended"] == "goes on"
    process.send_signal(signal.SIGTERM)
    assert end(process)[0] == 0


def test_export_tells_what_it_wrote_and_what_was_lost(sleeper, tmp_path, capsys):
    """A torn segment is no reason to fail, and no secret."""
    end(begin("start", f"pid:{sleeper.pid}", "--out", str(tmp_path / "j"), "--for", "100ms")[0])
    (segment,) = (tmp_path / "j").iterdir()
    segment.write_bytes(segment.read_bytes()[:-3])
    assert call("export", str(tmp_path / "j"), "--out", str(tmp_path / "t"), "--json") == 0
    out, err = capsys.readouterr()
    told = json.loads(out)
    assert told["rows"]["runs"] == 1 and told["rows"]["samples"] >= 1
    assert told["losses"] == ["1 segments end within a frame: a crash, at most one tick each"]
    assert "oomguard: 1 segments end within a frame" in err


@pytest.mark.parametrize(("argv", "code", "told"), [
    (["export", "/nonexistent", "--out", "x"], 2, "no journal there"),
    (["list", "/nonexistent"], 2, "no journal there"),
    (["start", "pid:4194304"], 6, "process 4194304"),
    (["start", "nonsense"], 2, "is not one of system, self"),
    (["start", "system", "--cadence", "1h"], 3, "--cadence: 1h is not within 100ms to 10s"),
    (["start", "system", "--for", "soon"], 2, "--for: "),
    (["start", "system", "--max-size", "1B"], 2, "a journal needs"),
    (["start", "system", "--out", "/proc/nothing"], 5, "/proc/nothing: No such file or directory")])
def test_what_cannot_be_done_is_said(argv, code, told):
    """With the exit codes of DESIGN 4.10."""
    process, first = begin(*argv)
    ended, rest = end(process)
    assert ended == code and told in first + rest and "Traceback" not in first + rest


def test_two_recordings_into_one_folder_are_one_too_many(sleeper, tmp_path):
    """The second is told who is there."""
    first, _line = begin("start", f"pid:{sleeper.pid}", "--out", str(tmp_path))
    second, line = begin("start", f"pid:{sleeper.pid}", "--out", str(tmp_path))
    assert end(second)[0] == 2 and f"(pid {first.pid}) records there" in line
    first.send_signal(signal.SIGTERM)
    assert end(first)[0] == 0
