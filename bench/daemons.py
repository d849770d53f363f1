"""The daemon beside other guards: processor time, wake-ups, switches and weight, in the same minutes at one cadence.

None of them may kill here: they run as `nobody`, whom the kernel lets end nobody else's process, with a dry run or
with thresholds that are never reached. They are taken out of Debian's packages, not installed: no service starts.
"""

from __future__ import annotations

import os
import pwd
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path

from oomguard.measure import living
from peers import ENVIRONMENTS, interpreter

PACKAGES = ("earlyoom", "nohang", "systemd-oomd")
FOLDER = ENVIRONMENTS / "daemons"
CADENCE_S = 1.0
SPAN_S = 600.0                      # what figures are scaled to
SETTLE_S = 5.0
NEVER = {"soft_threshold_min_mem": "0 %", "hard_threshold_min_mem": "0 %", "soft_threshold_min_swap": "0 %",
         "hard_threshold_min_swap": "0 %", "min_sleep": "1", "max_sleep": "1"}
LISTENER = "import mempressure, signal; mempressure.start(interval=1.0); mempressure.subscribe(print); signal.pause()"
HOW = {
    "oomguard": "run --target system, the shipped model; cadence 1 s",
    "earlyoom": "--dryrun -r 0; it looks every second while memory is plenty",
    "nohang": "its default file with min_sleep = max_sleep = 1 and thresholds of 0",
    "libmempressure": "its Python binding with interval=1.0 and one subscriber; it reads PSI alone",
    "systemd-oomd": "--dry-run"}


def unpacked() -> Path:
    """Return where the peers' packages were unpacked; fetch them first where they are not there."""
    if not all((FOLDER / name).exists() for name in PACKAGES):
        FOLDER.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory() as folder:
            subprocess.run(["apt-get", "update", "-qq"], check=False, capture_output=True)
            subprocess.run(["apt-get", "download", "-qq", *PACKAGES], cwd=folder, check=True, capture_output=True)
            for package in Path(folder).glob("*.deb"):
                subprocess.run(["dpkg-deb", "-x", str(package), str(FOLDER / package.name.split("_")[0])], check=True)
    return FOLDER


def commands(folder: Path) -> dict[str, list[str]]:
    """Return how each peer is started; `folder` is ours to write and anybody's to read."""
    debs = unpacked()
    config = (debs / "nohang/etc/nohang/nohang.conf").read_text()
    for key, value in NEVER.items():
        config, count = re.subn(rf"^{key}\s*=.*$", f"{key} = {value}", config, flags=re.MULTILINE)
        if count != 1:
            raise ValueError(f"nohang.conf has {count} lines {key}")
    (folder / "nohang.conf").write_text(config)
    module = next((ENVIRONMENTS / "new").glob("lib/python*/site-packages/mempressure*.so"))
    for each in (debs / "earlyoom/usr/bin/earlyoom", debs / "nohang/usr/sbin/nohang", module,
                 debs / "systemd-oomd/lib/systemd/systemd-oomd"):
        shutil.copy(each, folder)       # where they are kept may be closed to `nobody`
    python = shutil.which("python3", path="/usr/bin:/bin") or sys.executable
    return {"earlyoom": [str(folder / "earlyoom"), "--dryrun", "-r", "0"],
            "nohang": [python, str(folder / "nohang"), "--config", str(folder / "nohang.conf"), "--monitor"],
            "libmempressure": [python, "-c", f"import sys; sys.path.insert(0, {str(folder)!r}); {LISTENER}"],
            "systemd-oomd": [str(folder / "systemd-oomd"), "--dry-run"]}


@contextmanager
def running(argv: list[str]):
    """Run a peer as nobody, its words thrown away; give its process. Raises ValueError where it does not stay."""
    nobody = pwd.getpwnam("nobody")
    with tempfile.TemporaryFile() as words:
        child = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=words, stderr=subprocess.STDOUT, cwd="/",
                                 user=nobody.pw_uid, group=nobody.pw_gid, extra_groups=[])
        try:
            time.sleep(1.0)
            if child.poll() is not None:
                words.seek(0)
                raise ValueError(words.read(500).decode(errors="replace").strip() or f"ended with {child.returncode}")
            yield child
        finally:
            if child.poll() is None:
                child.send_signal(signal.SIGTERM)
            child.wait()


def spent(pid: int) -> dict[str, float]:
    """Return what all threads of a process used so far."""
    total = dict.fromkeys(("cpu_s", "wake_ups", "switches"), 0.0)
    for thread in os.listdir(f"/proc/{pid}/task"):
        task = Path(f"/proc/{pid}/task/{thread}")
        total["cpu_s"] += int((task / "schedstat").read_text().split()[0]) / 1e9
        status = dict(line.split(":\t", 1) for line in (task / "status").read_text().splitlines() if ":\t" in line)
        total["wake_ups"] += int(status["voluntary_ctxt_switches"])
        total["switches"] += int(status["voluntary_ctxt_switches"]) + int(status["nonvoluntary_ctxt_switches"])
    return total


def measure(seconds: float) -> dict:
    """Return what each daemon used, scaled to ten minutes, and what it weighs; and who could not be had."""
    told, missing = {}, {}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="oomguard-peers-")))
        folder.chmod(0o755)
        interpreter("new")
        pids = {"oomguard": stack.enter_context(ours())}
        for name, argv in commands(folder).items():
            try:
                pids[name] = stack.enter_context(running(argv)).pid
            except (ValueError, OSError) as problem:
                missing[name] = str(problem)
        time.sleep(SETTLE_S)
        before, begin_s = {name: spent(pid) for name, pid in pids.items()}, time.monotonic()
        time.sleep(seconds)
        for name, pid in pids.items():
            now, scale = spent(pid), SPAN_S / (time.monotonic() - begin_s)
            weight = living.weight(pid)
            used = {key: round((now[key] - before[name][key]) * scale, 4) for key in now}
            told[name] = used | {
                "rss_mb": round(weight.rss_bytes / 1e6, 2), "pss_mb": round(weight.pss_bytes / 1e6, 2),
                "how": HOW[name]}
    return {"seconds": seconds, "cadence_s": CADENCE_S, "daemons": told, "missing": missing}


@contextmanager
def ours():
    """Run our own daemon over the whole system; give its pid."""
    with living._folder() as folder:
        argv = [sys.executable, "-m", "oomguard", "run", "--target", "system", "--runtime-dir", folder,
                "--log", os.path.join(folder, "log")]
        child = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            living.wait_for(lambda: living._samples(os.path.join(folder, "control.sock")) >= 1)
            yield child.pid
        finally:
            child.terminate()
            child.wait()


if __name__ == "__main__":
    import json

    sys.stdout.write(json.dumps(measure(float(sys.argv[1]) if sys.argv[1:] else 60.0), indent=1) + "\n")
