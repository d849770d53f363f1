"""The checks of `doctor` on who can hear the guard, and who can wake it."""

from __future__ import annotations

import importlib.util
import os

from oomguard.cli.doctor_findings import OK, WARN, Check, Finding, Site
from oomguard.clock import now_s
from oomguard.sense.files import below
from oomguard.tell.monitor.link import bus_problem
from oomguard.tell.source import TRIGGER, open_source
from oomguard.tell.watched import watched

POLICIES = ("/usr/share/dbus-1/system.d", "/etc/dbus-1/system.d")
POLICY = "org.freedesktop.LowMemoryMonitor.conf"


def triggers(site: Site) -> Finding:
    """Set the triggers that wake the guard between two ticks, and take them away again."""
    try:
        what = watched(os.environ, site.root)
    except ValueError as error:
        return Finding("early wake", WARN, f"{error}: only ticks see pressure", "mend the variable, or unset it")
    sources = [open_source(each, now_s()) for each in what]
    for source in sources:
        source.close()
    weak = [f"{source.path}: {source.because or source.how}" for source in sources if source.how != TRIGGER]
    if not sources:
        return Finding("early wake", OK, "MEMORY_PRESSURE_WATCH switches it off")
    if len(weak) == len(sources):
        return Finding("early wake", WARN, f"no trigger, only ticks see pressure ({'; '.join(weak)})",
                       "boot with psi=1; in a unit set MemoryPressureWatch=on, in a container mount cgroup2 writable")
    return Finding("early wake", OK, f"triggers: {len(sources) - len(weak)} of {len(sources)}"
                                     + (f" ({'; '.join(weak)})" if weak else ""))


def low_memory_monitor(site: Site) -> Finding:
    """Look whether GLib's GMemoryMonitor apps could hear the guard."""
    loss = "GLib apps do not hear the guard"
    problem = bus_problem(os.environ)
    if problem:
        return Finding("LowMemoryMonitor", OK, f"{problem}; nobody is there to hear")
    if importlib.util.find_spec("jeepney") is None:
        return Finding("LowMemoryMonitor", WARN, f"jeepney is not installed: {loss}",
                       "pip install 'oomguard[dbus]', or apt install python3-jeepney")
    if not any(os.path.exists(below(site.root, f"{folder}/{POLICY}")) for folder in POLICIES):
        return Finding("LowMemoryMonitor", WARN, f"no policy lets us have the name on the bus: {loss}",
                       f"put deploy/{POLICY} into {POLICIES[0]}")
    return Finding("LowMemoryMonitor", OK, "can be had on the system bus")


LISTENER_CHECKS: tuple[Check, ...] = (triggers, low_memory_monitor)
