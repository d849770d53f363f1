"""The survey's page, docs/lab.md: made from the file of results alone, with what was not run named."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from bench.lab.arms import ARMS
from bench.lab.site import Site
from bench.lab.survey import SEED, hit_ratio, whole

Run = dict[str, Any]
PEERS = ("pressure", "earlyoom", "systemd-oomd")
HEAD = """\
# The lab: virtual devices, with and without a guard

Made by `make lab` from [bench/results/lab.json](../bench/results/lab.json) alone; do not edit. How:
[below](#how-it-is-done).

![kills and hit ratio, arm by arm](lab.png)
"""
COLUMNS = ("guard", "kills: own limits", "kills: machine", "app-minutes survived", "given back", "cache hit ratio",
           "worst stall", "longest silence", "guard's RSS", "guard's CPU")
LEGEND = """\
*Kills*: processes of the device killed, `by the kernel + by the guard itself`; in phase *own limits* two services
with `MemoryMax` each, in phase *machine* two without, which together want more than there is. *App-minutes survived*:
from each app's start to the first time it was started again, both phases added up, of all. *Given back*: what apps
and redis evicted on being asked. *Cache hit ratio*: hits of all that people asked for, by those, too, who found the
app dead or too slow. *Worst stall*: the largest share of ten seconds in which some task waited for memory (PSI
*some*). *Longest silence*: between two looks of a watcher that looks once a second. *RSS*: the most that all the
guard's processes held together, pages they share counted in each. *CPU*: the guard's share of all processor time
spent.
"""
HOW = """\
## How it is done

Debian with systemd as PID 1 under QEMU's plain emulation, two processors. Each device boots once and carries out its
arms one after another, with empty swap and no page cache; a device that no longer answers counts as lost, and the
next arm gets a fresh one. oomguard comes as its Debian package by one `dpkg --install`, its service as the package
has it; the arm adds `oomguard install --unit` for the apps and a rule file that names them and redis' hook. *Rules
only* is the same with `model: none`. zram is half of the memory, as zram-generator makes it.

The apps are the same in every arm, with the same seed and at the same rates: a picture browser with a leak beside its
cache, a worker with bursts beside its cache, and redis as the cache of a web shop whose goods change half-way, so
that it is refilled. Whoever is killed is started again by systemd a second later, with an empty cache, and without
what it had leaked. Browser and worker speak [systemd's memory-pressure protocol](https://systemd.io/PRESSURE/). In
`nothing` they hear nobody; in `systemd's own pressure`, `earlyoom` and `systemd-oomd` the kernel, by their unit's
`memory.pressure`, as systemd sets it up by default; under oomguard, oomguard. Redis has no `maxmemory`, as it is
installed. A limit (`MemoryMax`) comes with `MemorySwapMax=0`, as container hosts set it.

earlyoom runs as Debian ships it (10 % of memory and of swap). systemd-oomd as well, with
`ManagedOOMMemoryPressure=kill` and `ManagedOOMSwap=kill` on the slice of the apps: as shipped it watches users'
sessions only, and would do nothing.

Emulation slows the clock: a device's processor is some twenty times slower than real ones, more where the host is
busy, while its seconds are real ones. So what is shown are counts and ratios; a CPU share says how the guard compares
with the apps around it, not what it takes of a real core. One run each: a kill more or less between two arms may be
chance, and so may a hundredth or two of hit ratio. The host, of two cores, had other work beside, up to a second
device; how much, differs from arm to arm, least between oomguard's two, which ran one right after the other. A phase
lasts 100 s: what takes hours elsewhere happens within the model's five minutes from the start on, so that it sees a
kill coming all the time.
"""


def page(runs: list[Run]) -> str:
    """Return docs/lab.md."""
    again = [run for run in runs if not run["is_smoke"] and run["seed"] != SEED]
    runs = main_runs(runs)
    parts = [HEAD, verdict(runs)]
    parts += [f"## {site.name}\n\n{table(found)}\n" for site, found in by_site(runs)]
    return "\n".join([*parts, LEGEND, *([other_seeds(again)] if again else []), missing(runs), HOW])


def main_runs(runs: Iterable[Run]) -> list[Run]:
    """Return what tables and picture show: no smoke runs, and of the seeds the first."""
    return [run for run in runs if not run["is_smoke"] and run["seed"] == SEED]


def other_seeds(runs: list[Run]) -> str:
    """Return the runs of other seeds, in short."""
    lines = ["## Other seeds", "", "| device | seed | guard | kills: own limits | kills: machine | cache hit ratio |",
             "| --- | --- | --- | --- | --- | --- |"]
    for seed in sorted({run["seed"] for run in runs}):
        for site, found in by_site(run for run in runs if run["seed"] == seed):
            for name, run in found.items():
                cells = row(ARMS[name].label, run)
                kept = (*cells[1:3], cells[COLUMNS.index("cache hit ratio")])
                lines.append(f"| {site.name} | {seed} | {cells[0]} | {' | '.join(kept)} |")
    return "\n".join([*lines, ""])


def by_site(runs: Iterable[Run]) -> list[tuple[Site, dict[str, Run]]]:
    """Return each device's runs by arm, both in their own order."""
    found: dict[Site, dict[str, Run]] = {}
    for run in runs:
        found.setdefault(Site(**run["site"]), {})[run["arm"]] = run
    return [(site, {name: found[site][name] for name in ARMS if name in found[site]})
            for site in sorted(found, key=lambda site: (site.suite != Site(0).suite, site.memory_mib, site.swap))]


def table(runs: dict[str, Run]) -> str:
    """Return one device's table."""
    rows = [COLUMNS, ("---",) * len(COLUMNS), *(row(ARMS[name].label, run) for name, run in runs.items())]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in rows)


def row(label: str, run: Run) -> tuple[str, ...]:
    """Return one arm's cells."""
    if "lost" in run:
        return (label, "**device lost**", *("-",) * (len(COLUMNS) - 2))
    phases = run["phases"].values()
    apps = [app for phase in phases for app in phase["apps"].values()]
    lasted_s = sum(phase["seconds"] * len(phase["apps"]) for phase in phases)
    survived_s = sum(app["survived_s"] if phase["restarts"].get(name) else phase["seconds"]
                     for phase in phases for name, app in phase["apps"].items())
    evicted = sum(app["evicted_bytes"] for app in apps) + sum(phase["redis_evicted_bytes"] for phase in phases)
    rss = max(phase["guard_rss_bytes"] for phase in phases)
    cpu = sum(phase["guard_cpu_s"] for phase in phases) / sum(phase["busy_s"] for phase in phases)
    return (label, kills_of(run["phases"].get("limits")), kills_of(run["phases"].get("machine")),
            f"{survived_s / 60:.1f} of {lasted_s / 60:.1f}", f"{evicted / 1e6:.0f} MB",
            f"{ratio(run):.2f}", f"{max(phase['stall_worst_ratio'] for phase in phases):.0%}",
            f"{max(phase['silent_worst_s'] for phase in phases):.1f} s",
            f"{rss / 1e6:.0f} MB" if rss else "-", f"{cpu:.1%}" if rss else "-")


def kills_of(phase: Run | None) -> str:
    """Return kills by the kernel and by the guard."""
    if phase is None:
        return "-"
    return f"{phase['kernel_kills']} + {phase['guard_kills']}" if phase["guard_kills"] else str(phase["kernel_kills"])


def kills(run: Run) -> int:
    """Return all kills of a run."""
    return sum(phase["kernel_kills"] + phase["guard_kills"] for phase in run["phases"].values())


def ratio(run: Run) -> float:
    """Return the hit ratio over all phases."""
    both = {f"{name}/{app}": told for name, phase in run["phases"].items() for app, told in phase["apps"].items()}
    return hit_ratio({"apps": both})


def verdict(runs: list[Run]) -> str:
    """Return what the tables show, device by device, whichever way it went."""
    lines = []
    for site, found in by_site(runs):
        ours, rules = found.get("oomguard"), found.get("oomguard-rules")
        peers = [found[name] for name in PEERS if name in found]
        if ours is None or "lost" in ours or not peers:
            lines.append(f"- **{site.name}**: " + ("the device was lost under oomguard." if ours and "lost" in ours
                                                   else "too little was run to compare."))
            continue
        lost = [ARMS[peer["arm"]].label for peer in peers if "lost" in peer]
        least = min((kills(peer) for peer in peers if "lost" not in peer), default=None)
        lines.append(f"- **{site.name}**: {count(kills(ours))} under oomguard"
                     + ("" if least is None else f", {least} under the best of its peers")
                     + (f", the device lost under {' and '.join(lost)}" if lost else "")
                     + (f"; hit ratio {ratio(ours):.2f}, with rules only {ratio(rules):.2f}"
                        if rules and "lost" not in rules else "") + ".")
    return "\n".join(lines) + "\n" if lines else "Nothing has been run yet.\n"


def count(number: int) -> str:
    """Return so many kills in words."""
    return f"{number or 'no'} kill{'' if number == 1 else 's'}"


def missing(runs: list[Run]) -> str:
    """Name what of the full survey was not run."""
    job, done = whole(), dict(by_site(runs))
    gaps = [(site, [ARMS[name].label for name in job.arms if name not in done.get(site, {})]) for site in job.sites]
    lines = [f"- {site.name}: {'every arm' if len(labels) == len(job.arms) else ', '.join(labels)}"
             for site, labels in gaps if labels]
    asked_for = "Only on request: nohang (`--arm nohang`), 1024 MB (`--memory 1024`), Debian 12 (`--suite bookworm`)."
    built = "Not built:\narm64, which would need its own image and package."
    gone = "\n".join(lines) or "Of the full survey, nothing is missing."
    return f"## Not run\n\n{gone}\n\n{asked_for} {built}\n"
