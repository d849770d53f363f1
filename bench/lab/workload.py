"""What the survey's devices do: real services with caches, sized for the device, the same for every arm.

Phase `limits`: two services, each with a limit of its own. Phase `machine`: two without, so that the whole machine
runs out. All rates follow from the planned time: a kill is due at about six tenths of it where nobody acts.
"""

from __future__ import annotations

from typing import Any

from bench.lab.site import Site

MIB = 1 << 20
INSIDE = "/opt/survey/inside"
REPORTS = "/var/tmp"
# Of 256 MiB a Debian 13 that does nothing leaves 159; the watcher takes 10, the shop's web tier 12, oomguard 20 to 30.
# With limits, a fifth of the machine stays free besides: the limits are to bind, not the machine.
KEPT_FOR_LIMITS_MIB = 180
KEPT_FOR_MACHINE_MIB = 118
REQUESTS = 3000         # an app's, within the planned time
PICTURES_SEEN = 616     # of 4096, so many are asked for by then (Zipf, 1.2)
GOODS_SEEN = 1740       # twice what is asked for in half the time (Zipf, 0.8): half-way the goods change
INTERPRETER_MIB = 9
WHOLE_S, SMOKE_S = {"limits": 100.0, "machine": 100.0}, {"limits": 50.0}
# What each arm lets its apps hear; systemd's own is the unit's memory.pressure (its default from 254 on).
HEARS = {"nothing": "MemoryPressureWatch=off", "kernel": "MemoryPressureWatch=on", "guard": ""}


def phases(site: Site, seed: int, hears: str, is_smoke: bool) -> list[dict[str, Any]]:
    """Return what drive.py is to run."""
    makers = {"limits": limits, "machine": machine}
    return [makers[name](site, seed, HEARS[hears], planned_s)
            for name, planned_s in (SMOKE_S if is_smoke else WHOLE_S).items()]


def limits(site: Site, seed: int, hears: str, planned_s: float) -> dict[str, Any]:
    """A leak beside a cache, and bursts beside a cache, each up to its own limit."""
    room_mib = site.memory_mib - KEPT_FOR_LIMITS_MIB
    browser_mib, worker_mib = 0.53 * room_mib, 0.47 * room_mib
    rate = REQUESTS / planned_s
    units = {
        "browser": unit(cacher("browser", 0.7 * browser_mib / PICTURES_SEEN, browser_mib / 12, rate, seed,
                               leak_mib_per_s=(0.74 * browser_mib - INTERPRETER_MIB) / planned_s), hears, browser_mib),
        "worker": unit(cacher("worker", 0.7 * worker_mib / PICTURES_SEEN, worker_mib / 12, rate, seed + 1,
                              burst_mib=0.3 * worker_mib, burst_every_s=planned_s / 4), hears, worker_mib),
    }
    return {"name": "limits", "seconds": planned_s, "units": units, "redis_value_bytes": 0,
            "reports": {name: report(name, rate) for name in units}}


def machine(site: Site, seed: int, hears: str, planned_s: float) -> dict[str, Any]:
    """Two apps without limits that together want more than the machine has: a leak, and a cache that is refilled."""
    room_mib = site.memory_mib - KEPT_FOR_MACHINE_MIB
    rate = REQUESTS / planned_s
    value_bytes = int(0.95 * room_mib * MIB / GOODS_SEEN) // 64 * 64
    units = {
        "browser": unit(cacher("browser", 0.8 * room_mib / PICTURES_SEEN, room_mib / 24, rate, seed + 2,
                               leak_mib_per_s=0.12 * room_mib / planned_s), hears),
        "store": unit("/usr/bin/redis-server --port 6379 --bind 127.0.0.1 --save '' --appendonly no", hears),
        "shop": unit(f"/usr/bin/python3 -I {INSIDE}/shop.py --value {value_bytes} --rate {rate:.2f} --seed {seed + 3}"
                     f" --change-after {planned_s / 2} --report {REPORTS}/shop", hears),
    }
    return {"name": "machine", "seconds": planned_s, "units": units, "redis_value_bytes": value_bytes,
            "reports": {"browser": report("browser", rate),
                        "store": {**report("shop", rate), "unit": "store", "is_client": True}}}


def cacher(name: str, picture_mib: float, smallest_mib: float, rate: float, seed: int, leak_mib_per_s: float = 0.0,
           burst_mib: float = 0.0, burst_every_s: float = 0.0) -> str:
    """Return the command line of an app with a cache."""
    return (f"/usr/bin/python3 -I {INSIDE}/cacher.py --picture {max(1, int(picture_mib * 256)) * 4096}"
            f" --smallest {smallest_mib * MIB:.0f} --rate {rate:.2f} --seed {seed} --report {REPORTS}/{name}"
            f" --leak-per-s {leak_mib_per_s * MIB:.0f} --burst {burst_mib * MIB:.0f} --burst-every {burst_every_s:.1f}")


def unit(command: str, hears: str, limit_mib: float = 0.0) -> str:
    """Return a unit that is started again whenever it ends; its limit is hard, without swap, as container hosts do."""
    limit = f"MemoryMax={limit_mib * MIB:.0f}\nMemorySwapMax=0" if limit_mib else ""
    return (f"[Unit]\nStartLimitIntervalSec=0\n[Service]\nSlice=apps.slice\nRestart=always\nRestartSec=1s\n"
            f"{hears}\n{limit}\nExecStart={command}\n")


def report(name: str, rate: float) -> dict[str, Any]:
    """Return where an app reports to, and what is asked of it."""
    return {"path": f"{REPORTS}/{name}", "rate": rate, "unit": name, "is_client": False}
