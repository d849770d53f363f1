"""The survey: every device, every arm, the same seed; what was seen is kept in one JSON file, run by run.

Each device boots once and carries out its arms one after another, `nothing` first; between two, swap is emptied and the
page cache dropped. A device that does not answer any more is a result of its arm; the next arm gets a fresh one.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from bench.lab.arms import ARMS, INSIDE, Arm
from bench.lab.device import CommandError, Device, PanicError, boot
from bench.lab.image import REPO, LabError, Say
from bench.lab.payload import build_deb
from bench.lab.site import RECIPES, SWAPS, Site, make_ready
from bench.lab.workload import phases

RESULTS = os.path.join(REPO, "bench", "results", "lab.json")
SEED = 1
SIZES_MIB = (256, 512)
SMOKE_SITE, SMOKE_ARMS = Site(256), ("nothing", "oomguard")
SLACK_S = 180.0             # a device without memory is slow to end its apps and to answer
FORMAT = 1
LAST_WORDS = 'for unit; do journalctl -b -u "$unit" -o cat --no-pager | tail -5; done'
Locked = Callable[[], contextlib.AbstractContextManager[Any]]


class BrokenError(Exception):
    """The survey itself failed: nothing is said of the arm."""


class Job(NamedTuple):
    """What is asked for."""

    sites: tuple[Site, ...]
    arms: tuple[str, ...]
    seed: int = SEED
    is_smoke: bool = False
    logs: str = ""          # the folder for what guards and apps said; none if empty


def whole(sizes_mib: tuple[int, ...] = SIZES_MIB, swaps: tuple[str, ...] = SWAPS, arms: tuple[str, ...] = (),
          suites: tuple[str, ...] = (Site(0).suite,), seed: int = SEED) -> Job:
    """Return the full survey, or the part of it that is named."""
    sites = tuple(Site(size, swap, suite) for suite in suites for size in sizes_mib for swap in swaps)
    return Job(sites, arms or tuple(name for name, arm in ARMS.items() if not arm.is_asked_for), seed)


def smoke() -> Job:
    """Return the smallest survey that shows something."""
    return Job((SMOKE_SITE,), SMOKE_ARMS, is_smoke=True)


def carry_out(job: Job, out: str, say: Say, lock: Locked = contextlib.nullcontext) -> list[dict[str, Any]]:
    """Run what is asked for; return what was seen.

    Args:
        out: the file of results, where each run is as soon as it is done; none if empty.
        lock: Held while a device boots and while an arm runs, where others boot devices on the same machine.

    """
    done = []
    with tempfile.TemporaryDirectory(prefix="oomguard-survey-") as folder:
        deb = build_deb(folder) if any(name.startswith("oomguard") for name in job.arms) else ""
        for site in job.sites:
            for run in on_site(job, site, deb, say, lock):
                if out:
                    keep(out, run)
                done.append(run)
    return done


def on_site(job: Job, site: Site, deb: str, say: Say, lock: Locked) -> Iterator[dict[str, Any]]:
    """Run the arms of one device; boot another where one was lost."""
    device: Device | None = None
    try:
        for name in job.arms:
            try:
                with lock():
                    device = device or ready(site, say)
                    run = on_device(device, site, ARMS[name], job, deb, say)
            except (BrokenError, CommandError, PanicError) as error:
                # The survey's fault or the emulator's: of the arm nothing is said, so it stands under Not run.
                say(f"survey: {site.name}, {name}: {error}")
                run = {"lost": ""}
            else:
                yield run
            if "lost" in run and device is not None:
                device.close(is_clean=False)
                device = None
    finally:
        if device is not None:
            device.close()


def on_device(device: Device, site: Site, arm: Arm, job: Job, deb: str, say: Say) -> dict[str, Any]:
    """Run one arm; a device that does not answer any more is a result. Raises CommandError, PanicError, BrokenError."""
    about = {"site": site._asdict(), "arm": arm.name, "seed": job.seed, "is_smoke": job.is_smoke, "tree": tree()}
    start_s = time.monotonic()
    try:
        seen = {"phases": run_arm(device, site, arm, job, deb)}
    except (CommandError, PanicError):
        raise
    except LabError as error:
        seen = {"lost": str(error).splitlines()[0]}
    took_s = round(time.monotonic() - start_s)
    say(f"survey: {site.name}, {arm.label}: {took_s} s; {brief(seen)}")
    return {**about, **seen, "took_s": took_s}


def ready(site: Site, say: Say) -> Device:
    """Boot a device with the survey's programs in it."""
    device = boot(site.memory_mib, say=say, recipe=RECIPES[site.suite])
    try:
        device.put(INSIDE, "/opt/survey")
    except LabError:
        device.close(is_clean=False)
        raise
    return device


def run_arm(device: Device, site: Site, arm: Arm, job: Job, deb: str) -> dict[str, Any]:
    """Bring the guard up, run the apps, take the guard away; return what was seen, phase by phase."""
    make_ready(device, site)
    arm.start(device, deb)
    todo = phases(site, job.seed, arm.hears, job.is_smoke)
    spec = {"guard": arm.cgroups, "journal": arm.journal, "kill_words": arm.kill_words, "phases": todo}
    device.sh('printf %s "$1" > /run/survey.json', json.dumps(spec))
    done = device.run("python3", "-I", "/opt/survey/inside/drive.py", "/run/survey.json",
                      timeout_s=sum(phase["seconds"] for phase in todo) + SLACK_S)
    if done.is_timed_out:
        raise LabError("the device did not end its apps in time")
    if done.status:
        raise BrokenError(done.err)
    seen: dict[str, Any] = json.loads(done.out)
    arm.stop(device)
    for name, phase in seen.items():
        keep_said(job, f"{site.memory_mib}-{site.swap}-{arm.name}-{job.seed}-{name}", phase.pop("said"))
        if idle := [app for app, told in phase["apps"].items() if not told["lives"]]:
            raise BrokenError(f"phase {name}: {', '.join(idle)} did not run: {device.sh(LAST_WORDS, *idle)}")
    return seen


def keep_said(job: Job, name: str, said: dict[str, str]) -> None:
    """Write what guard and apps said in one phase, each into a file of its own, where a folder is named."""
    if job.logs:
        os.makedirs(job.logs, exist_ok=True)
        for who, text in said.items():
            with open(os.path.join(job.logs, f"{name}-{who}.log"), "w", encoding="utf-8") as file:
                file.write(text)


def brief(seen: dict[str, Any]) -> str:
    """Return a run in a few words."""
    if "lost" in seen:
        return f"lost: {seen['lost']}"
    return "; ".join(
        f"{name}: {phase['kernel_kills']} kills by the kernel, {phase['guard_kills']} by the guard, hit ratio"
        f" {hit_ratio(phase):.2f}" for name, phase in seen["phases"].items())


def hit_ratio(phase: dict[str, Any]) -> float:
    """Return hits of all that was asked for, by people who found no app, too."""
    asked = sum(app["requests"] for app in phase["apps"].values())
    return sum(app["hits"] for app in phase["apps"].values()) / asked


def tree() -> str:
    """Return the commit that ran."""
    done = subprocess.run(["git", "-C", REPO, "rev-parse", "--short", "HEAD"], capture_output=True, text=True,
                          check=False)
    return done.stdout.strip()


def keep(out: str, run: dict[str, Any]) -> None:
    """Put a run into the file of results, in the place of an earlier one of the same kind."""
    kind = ("site", "arm", "seed", "is_smoke")
    runs = [other for other in load(out) if any(other[key] != run[key] for key in kind)]
    os.makedirs(os.path.dirname(os.path.abspath(out)), exist_ok=True)
    with open(f"{out}.new", "w", encoding="utf-8") as file:
        json.dump({"format": FORMAT, "runs": [*runs, run]}, file, indent=1)
        file.write("\n")
    os.rename(f"{out}.new", out)


def load(path: str) -> list[dict[str, Any]]:
    """Return the runs of a file of results; none where there is no file."""
    if not os.path.exists(path):
        return []
    with open(path, encoding="utf-8") as file:
        found: list[dict[str, Any]] = json.load(file)["runs"]
    return found
