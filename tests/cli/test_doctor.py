"""`oomguard doctor` on this machine, and on file trees of others."""

import argparse
import json
import os
import resource

import pytest

from oomguard.cli import doctor, doctor_guard, doctor_machine
from oomguard.cli.doctor_findings import FAIL, OK, WARN, Finding, Site
from oomguard.cli.doctor_guard import GUARD_CHECKS
from oomguard.cli.doctor_listeners import LISTENER_CHECKS
from oomguard.cli.doctor_machine import MACHINE_CHECKS

V2 = "30 23 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup rw\n"
V1 = "33 24 0:29 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"


@pytest.fixture
def tree(tmp_path):
    """Return a function that builds a root with the given files and the site that looks there."""
    def build(files=None, **options):
        for path, text in (files or {}).items():
            file = tmp_path / path.lstrip("/")
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
        return Site(root=str(tmp_path), **options)
    return build


def run(*argv):
    parser = argparse.ArgumentParser()
    doctor.add_arguments(parser)
    return doctor.run(parser.parse_args(argv))


def test_this_machine_can_be_guarded(tmp_path, capsys):
    """Every check runs here, for real, and none fails; JSON says the same as the exit code."""
    assert run("--json", "--socket", str(tmp_path / "none")) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["can_guard"] is True
    assert len(found["checks"]) == len(MACHINE_CHECKS) + len(LISTENER_CHECKS) + len(GUARD_CHECKS)
    assert {check["verdict"] for check in found["checks"]} <= {OK, WARN}
    assert all(check["mend"] for check in found["checks"] if check["verdict"] != OK)


def test_the_text_fits_a_terminal(tmp_path, capsys):
    """Verdict, check and finding on lines of at most 80 columns, paths excepted, and a last word."""
    assert run("--socket", str(tmp_path / "none")) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == "This machine can be guarded."
    assert all(len(line) <= 80 for line in lines if "/" not in line)


def test_a_failure_is_the_exit_code(monkeypatch, capsys):
    """One thing that is needed and fails makes it 1, and the text says what to do."""
    failing = Finding("memory", FAIL, "unknown", "mount /proc")
    monkeypatch.setattr(doctor, "MACHINE_CHECKS", (lambda site: failing,))
    monkeypatch.setattr(doctor, "LISTENER_CHECKS", ())
    monkeypatch.setattr(doctor, "GUARD_CHECKS", ())
    assert run() == 1
    assert capsys.readouterr().out == """\
fail memory           unknown
                      -> mount /proc

This machine cannot be guarded as it is.
"""


def test_a_check_that_breaks_is_a_failure_and_not_the_end():
    """A defect in one check does not hide the findings of the others."""
    def odd_one(site):
        raise RuntimeError("oh")
    finding = doctor.examine(odd_one, Site())
    assert (finding.check, finding.verdict) == ("odd one", FAIL)
    assert "RuntimeError: oh" in finding.finding


def test_memory_that_cannot_be_read_fails(tree):
    """Without MemAvailable there is nothing to guard by; with it there is."""
    assert doctor_machine.memory(tree()).verdict == FAIL
    site = tree({"/proc/meminfo": "MemTotal:  4096 kB\nMemFree:  1024 kB\nMemAvailable:  2048 kB\n"
                                  "SwapTotal:  0 kB\nSwapFree:  0 kB\n"})
    assert doctor_machine.memory(site) == Finding("memory", OK, "2.0 MiB of 4.0 MiB available")


def test_pressure_is_found_or_missed(tree):
    """No /proc/pressure is a warning that names the boot option."""
    missed = doctor_machine.pressure(tree())
    assert (missed.verdict, "psi=1" in missed.mend) == (WARN, True)
    line = "some avg10=0.00 avg60=0.00 avg300=0.00 total=5\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=1\n"
    assert doctor_machine.pressure(tree({"/proc/pressure/memory": line})).verdict == OK


@pytest.mark.parametrize(("files", "verdict", "words"), [
    ({}, WARN, "no memory controller"),
    ({"/proc/self/mountinfo": V2, "/sys/fs/cgroup/cgroup.controllers": "cpu"}, WARN, "no memory controller"),
    ({"/proc/self/mountinfo": V2, "/sys/fs/cgroup/cgroup.controllers": "cpu memory"}, OK, "version 2"),
    ({"/proc/self/mountinfo": V1}, OK, "version 1"),
])
def test_the_cgroup_version_is_told(tree, files, verdict, words):
    """Version 2, version 1, and none: the last with the boot option that mends it."""
    finding = doctor_machine.cgroup(tree(files))
    assert finding.verdict == verdict
    assert words in finding.finding
    assert (verdict == OK) == (finding.mend == "")


def own_cgroup():
    """Return the files of a process in /a/b of a version 2 tree, with a limit on /a."""
    meminfo = "MemTotal:  1048576 kB\nMemAvailable:  524288 kB\nSwapTotal:  0 kB\nSwapFree:  0 kB\n"
    files = {"/proc/self/mountinfo": V2, "/sys/fs/cgroup/cgroup.controllers": "memory",
             "/proc/self/cgroup": "0::/a/b\n", "/proc/meminfo": meminfo}
    for name, limit in (("", "max"), ("/a", "67108864"), ("/a/b", "max")):
        files |= {f"/sys/fs/cgroup{name}/memory.{file}": text for file, text in
                  (("max", limit + "\n"), ("stat", "anon 5\n"), ("current", "9\n"))}
    return files


def test_own_limits_are_named(tree):
    """A limit anywhere up the own tree is told with its cgroup."""
    assert doctor_machine.own_limits(tree(own_cgroup())) == Finding("own limits", OK, "/a 64.0 MiB")


def test_without_own_limits_the_machine_binds(tree):
    """No limit is a finding too."""
    assert "machine's memory" in doctor_machine.own_limits(tree()).finding


def test_reclaim_needs_its_file(tree):
    """No memory.reclaim in the own group names the kernel that has it; one that may be written is fine."""
    assert "5.19" in doctor_machine.reclaim(tree(own_cgroup())).mend
    site = tree({"/sys/fs/cgroup/a/b/memory.reclaim": ""})
    assert doctor_machine.reclaim(site).verdict == OK


def test_reclaim_is_of_version_2(tree):
    """On version 1 the hooks that would do nothing are named."""
    finding = doctor_machine.reclaim(tree({"/proc/self/mountinfo": V1}))
    assert (finding.verdict, "reclaim hooks do nothing" in finding.finding) == (WARN, True)


@pytest.mark.parametrize(("rows", "words"), [
    ("", "none"), ("/dev/sda2 partition 1048576 0 -2\n", "/dev/sda2 1.0 GiB; what is free"),
    ("/dev/zram0 partition 524288 0 100\n", "/dev/zram0 512.0 MiB; zram counts at its compressed cost"),
])
def test_swap_is_told(tree, rows, words):
    """None, a partition, zram: each with what it means."""
    site = tree({"/proc/swaps": "Filename Type Size Used Priority\n" + rows})
    assert doctor_machine.swap(site).finding.startswith(words)


def test_a_runtime_folder_that_cannot_be_made_fails(tree, tmp_path):
    """A file in its way fails; a folder to be made, or there, does not; none is made by asking."""
    (tmp_path / "file").touch()
    assert doctor_guard.runtime_folder(Site(runtime=str(tmp_path / "file" / "x"))).verdict == FAIL
    to_be_made = doctor_guard.runtime_folder(Site(runtime=str(tmp_path / "x" / "y")))
    assert to_be_made.finding.endswith("(can be made)")
    assert not (tmp_path / "x").exists()
    assert doctor_guard.runtime_folder(Site(runtime=str(tmp_path))).finding.endswith("(there)")


def test_few_descriptors_are_a_warning(monkeypatch):
    """256 are a warning with the setting to change; plenty or no limit is fine."""
    limits = {}
    monkeypatch.setattr(resource, "getrlimit", lambda which: (limits["soft"], limits["soft"]))
    for limits["soft"], verdict in ((256, WARN), (65536, OK), (resource.RLIM_INFINITY, OK)):
        assert doctor_guard.descriptors(Site()).verdict == verdict


def test_a_helper_really_starts():
    """It says hello, and is gone afterwards with its descriptor."""
    before = len(os.listdir("/proc/self/fd"))
    assert doctor_guard.helper(Site()).verdict == OK
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_cgroup_is_really_made_and_removed():
    """Where it is allowed nothing is left behind."""
    finding = doctor_machine.make_cgroup(Site())
    if finding.verdict != OK:
        pytest.skip("no right to make cgroups here")
    folder = finding.finding.removeprefix("allowed below ")
    assert not [name for name in os.listdir(folder) if name.startswith("oomguard-doctor")]


def test_no_cgroup_to_make_one_in_is_a_warning(tree):
    """Without the controller `exec` says what it loses."""
    assert doctor_machine.make_cgroup(tree()).verdict == WARN


@pytest.mark.parametrize(("files", "verdict", "words"), [
    ({"/sys/fs/cgroup/a/b/memory.events": "low 0\noom_kill 0\n"}, OK, "memory.events"),
    ({"/sys/fs/cgroup/a/b/memory.events": "low 0\n", "/proc/vmstat": "pgfault 1\noom_kill 3\n"}, OK, "vmstat"),
    ({"/sys/fs/cgroup/a/b/memory.events": "low 0\n", "/proc/vmstat": "pgfault 1\n"}, WARN, "does not count its kills")])
def test_a_kernel_that_does_not_count_its_kills_is_named(tree, files, verdict, words):
    """Before 4.13, with what is lost; counting in the group or in the machine alone is fine."""
    finding = doctor_machine.kill_count(tree({**own_cgroup(), **files}))
    assert finding.verdict == verdict and words in finding.finding
    assert ("4.13" in finding.mend) == (verdict == WARN)


NEW_V2 = "anon 1\nkernel 1\nworkingset_refault_anon 1\n"


@pytest.mark.parametrize(("mounts", "text", "since"), [
    (V2, NEW_V2, ""), (V2, NEW_V2.replace("kernel ", "kernel_stack "), "5.18"), (V2, "anon 1\n", "5.18"),
    (V2, "kernel 1\n", "5.9"), (V1, "total_shmem 1\ntotal_workingset_refault_anon 1\n", ""),
    (V1, "total_rss 1\n", "5.9"),
    (V1, "total_workingset_refault_anon 1\n", "4.13")])
def test_the_numbers_of_an_older_kernel_are_named(tree, mounts, text, since):
    """What is done without them, and the first kernel that has all."""
    folder = "/sys/fs/cgroup/a/b" if mounts == V2 else "/sys/fs/cgroup/memory/a/b"
    files = {**own_cgroup(), "/proc/self/mountinfo": mounts, f"{folder}/memory.stat": text}
    if mounts == V1:
        files["/proc/self/cgroup"] = "4:memory:/a/b\n"
    finding = doctor_machine.numbers(tree(files))
    assert (finding.verdict, since in finding.mend) == (WARN if since else OK, True)


def test_docs_name_what_doctor_says_of_kernels():
    """Every row of docs/kernels.md names a check of doctor's."""
    names = {check.__name__.replace("_", " ") for check in (*MACHINE_CHECKS, *LISTENER_CHECKS, *GUARD_CHECKS)}
    path = os.path.join(os.path.dirname(__file__), "..", "..", "docs", "kernels.md")
    with open(path, encoding="utf-8") as page:
        rows = [line.split("|") for line in page if line.startswith("| ") and line.split("|")[1].strip()[:1].isdigit()]
    assert len(rows) > 5
    assert {row[4].strip().strip("`") for row in rows} <= names
