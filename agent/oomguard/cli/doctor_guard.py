"""The checks of `doctor` on the guard itself: its parts, its rights, its helper."""

from __future__ import annotations

import ctypes
import os
import platform
import resource
import select

from oomguard.act.link import HelperLink
from oomguard.cli.doctor_findings import FAIL, OK, WARN, Check, Finding, Site
from oomguard.clock import now_s
from oomguard.errors import OomguardError
from oomguard.tell.client import NobodyListensError, ask
from oomguard.tell.paths import runtime_dir
from oomguard.units import format_bytes

MEMORY_TO_LOCK_BYTES = 64 << 20     # the unit's MemoryMax
DESCRIPTORS_WANTED = 1024           # a target takes about ten; 100 targets
HELPER_TIMEOUT_S = 10.0
_MCL_ONFAULT, _MCL_CURRENT = 4, 1   # mlockall(2)


def python(_site: Site) -> Finding:
    """Look at the interpreter."""
    found = f"{platform.python_implementation()} {platform.python_version()}"
    if platform.python_implementation() != "CPython":
        return Finding("python", WARN, f"{found}: the C kernel does not load, scoring is slower",
                       "use CPython")
    return Finding("python", OK, found)


def scorer(_site: Site) -> Finding:
    """Look whether features and forest run in C."""
    try:
        from oomguard import _kernel
    except ImportError as error:
        return Finding("scorer", WARN, f"in Python, slower: the C kernel does not load ({error})",
                       "install the wheel made for this machine, or a C compiler and then oomguard again")
    return Finding("scorer", OK, f"C kernel ({os.path.basename(_kernel.__file__ or 'built in')})")


def model(_site: Site) -> Finding:
    """Look whether the model inside the package can be trusted."""
    try:
        from oomguard.trust.bundle import load_shipped

        bundle = load_shipped()
    except (ImportError, OomguardError) as error:
        return Finding("model", WARN, f"{error}: plain thresholds decide", "reinstall oomguard")
    return Finding("model", OK, f"{bundle.model_id}, unaltered")


def runtime_folder(site: Site) -> Finding:
    """Look whether windows and sockets have a place, without making it."""
    folder = site.runtime or runtime_dir()
    there = folder
    while not os.path.exists(there):
        there = os.path.dirname(there)
    if not os.path.isdir(there) or not os.access(there, os.W_OK | os.X_OK):
        return Finding("runtime folder", FAIL, f"{folder}: {there} may not be written",
                       "set RUNTIME_DIRECTORY to a folder of your own, on tmpfs")
    free_bytes = os.statvfs(there).f_bavail * os.statvfs(there).f_frsize
    if free_bytes < 1 << 20:
        return Finding("runtime folder", FAIL, f"{folder}: {format_bytes(free_bytes)} free",
                       f"make room on {there}")
    return Finding("runtime folder", OK, f"{folder} ({'there' if there == folder else 'can be made'})")


def lock_memory(_site: Site) -> Finding:
    """Try to lock memory, so that the guard itself is not swapped out when it counts."""
    library = ctypes.CDLL(None, use_errno=True)
    if library.mlockall(_MCL_CURRENT | _MCL_ONFAULT) == 0:
        library.munlockall()
        return Finding("lock memory", OK, "allowed")
    soft_bytes, _hard = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    why = f"{os.strerror(ctypes.get_errno())} (RLIMIT_MEMLOCK {format_bytes(soft_bytes)})"
    return Finding("lock memory", WARN, f"{why}: the guard may be swapped out under pressure",
                   f"LimitMEMLOCK=infinity in the unit, or `ulimit -l {MEMORY_TO_LOCK_BYTES >> 10}`")


def descriptors(_site: Site) -> Finding:
    """Look how many targets can be kept open."""
    soft, _hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= DESCRIPTORS_WANTED:
        return Finding("descriptors", OK, "no limit" if soft == resource.RLIM_INFINITY else f"{soft} allowed")
    return Finding("descriptors", WARN, f"{soft} allowed: with many targets files are opened anew every tick",
                   f"`ulimit -n {DESCRIPTORS_WANTED}`, or LimitNOFILE= in the unit")


def helper(_site: Site) -> Finding:
    """Start the process that runs hooks, and hear it say hello."""
    link = HelperLink()
    mend = "command, signal and reclaim hooks cannot run; look at limits on processes (TasksMax, ulimit -u)"
    start_s = now_s()
    try:
        link.start(start_s)
        while not link.is_ready and now_s() - start_s < HELPER_TIMEOUT_S:
            if select.select([link.fd], [], [], HELPER_TIMEOUT_S)[0]:
                link.receive()
        is_ready, took_s = link.is_ready, now_s() - start_s
    except OomguardError as error:
        return Finding("helper", WARN, str(error), mend)
    finally:
        link.close()
    if not is_ready:
        return Finding("helper", WARN, f"no word from it in {HELPER_TIMEOUT_S:.0f} s", mend)
    return Finding("helper", OK, f"started in {took_s * 1000:.0f} ms")


def control(site: Site) -> Finding:
    """Look whether a guard runs."""
    try:
        status = ask(site.socket, {"op": "status"}, timeout_s=2.0)
    except NobodyListensError:
        return Finding("running guard", OK, f"none at {site.socket}")
    except OomguardError as error:
        return Finding("running guard", WARN, str(error), "run doctor as root, or join the guard's group")
    targets = status.get("targets")
    count = len(targets) if isinstance(targets, list) else 0
    version = status.get("agent_version", "?")
    return Finding("running guard", OK, f"version {version}, targets: {count}, at {site.socket}")


GUARD_CHECKS: tuple[Check, ...] = (
    python, scorer, model, runtime_folder, lock_memory, descriptors, helper, control)
