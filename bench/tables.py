"""A result's tables in markdown: for the page, README.md and docs/latency.md. A result that lacks a part says so."""

from __future__ import annotations

HEADING = ("{cpu}, {cores} cores{virtual}, {mhz}, {caches}; Linux {kernel}, {libc}, Python {python}; "
           "model {model}; {measured}; load average {load_average}; a look at the clock costs {clock_us:.3f} µs "
           "and is in every figure")
ABSENT = "not measured\n"
LINE_BYTES = 64
CHAPTERS = (("Budgets", "budget"), ("Every stage", "stages"), ("Peers: one row, the same trees", "peers"),
            ("Peers that are daemons", "daemons"), ("On a saturated machine", "load"),
            ("Instructions", "instructions"), ("How cost grows", "growth"))


def heading(result: dict) -> str:
    """Return the machine's facts in a line."""
    machine = result["machine"]
    facts = {"mhz": "" if machine.get("mhz") is None else f"{machine['mhz']:.0f} MHz", "caches": "", "libc": ""}
    return HEADING.format(**facts | {key: value for key, value in machine.items() if key not in ("mhz",)},
                          virtual=" (virtual)" if machine.get("is_virtual") else "", measured=result["measured"])


def _table(columns: str, rows: list[list[str]]) -> str:
    names = columns.split("|")
    left = {0}
    rule = "|".join("---" if at in left or not name.strip().endswith(".") else "---:" for at, name in enumerate(names))
    head = "| " + " | ".join(name.strip().removesuffix(".") for name in names) + " |"
    return "\n".join([head, f"|{rule}|", *("| " + " | ".join(row) + " |" for row in rows)]) + "\n"


def _number(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,.0f}".replace(",", " ") if abs(value) >= 1000 else f"{value:.3g}"


def budget(result: dict) -> str:
    """Return every figure with its budget beside it."""
    rows = []
    for name, one in result["figures"].items():
        allowed = f"≤ {one['at_most']:g}" if one["at_most"] is not None else \
            f"≥ {one['at_least']:g}" if one["at_least"] is not None else ""
        verdict = {True: "kept", False: "over", None: ""}[one["is_kept"]]
        rows.append([name, f"{_number(one['value'])} {one['unit']}".strip(), allowed, verdict, one["how"]])
    rows.sort(key=lambda row: not row[2])       # those with a budget first
    return _table("what|measured.|budget.||how", rows)


def stages(result: dict) -> str:
    """Return every stage's quantiles."""
    if "stages" not in result:
        return ABSENT
    rows = [[name, *(_number(one[key]) for key in ("p50_us", "p90_us", "p99_us", "p999_us", "max_us", "n"))]
            if "skipped" not in one else [name, one["skipped"], *[""] * 5] for name, one in result["stages"].items()]
    return _table("stage, µs|p50.|p90.|p99.|p99.9.|max.|calls.", rows)


def peers(result: dict) -> str:
    """Return each peer's call for one row beside ours, with intervals, and how it was used."""
    if "peers" not in result:
        return ABSENT
    rows = []
    for name, one in result["peers"]["peers"].items():
        near, turn = one["near"]["over_score"], one["in_turn"]["over_score"]
        rows.append([f"{name} {one['version']}", f"{one['near']['p50_us']:.2f} µs", _interval(near),
                     f"{one['in_turn']['p50_us']:.2f} µs", _interval(turn),
                     "" if one["c_loop_us"] is None else f"{one['c_loop_us']:.2f} µs", one["advice"]])
    told = _table("|near, p50.|× ours [95 %].|in turn, p50.|× ours [95 %].|its C interface.|used as", rows)
    missing = "".join(f"\n{name}: not had: {why}.\n" for name, why in result["peers"]["missing"].items())
    return told + missing


def _interval(ratio: dict) -> str:
    return f"{_number(ratio['ratio'])} [{_number(ratio['low'])}, {_number(ratio['high'])}]"


def daemons(result: dict) -> str:
    """Return what each daemon used in ten minutes."""
    if "daemons" not in result:
        return ABSENT
    told = result["daemons"]
    rows = [[name, f"{one['cpu_s']:.3f} s", _number(one["wake_ups"]), _number(one["switches"]),
             f"{one['rss_mb']:.1f} MB", f"{one['pss_mb']:.1f} MB", one["how"]] for name, one in told["daemons"].items()]
    missing = "".join(f"\n{name}: not had: {why}.\n" for name, why in told["missing"].items())
    return (_table("|processor time.|wake-ups.|switches.|RSS.|PSS.|started as", rows) +
            f"\nWatched for {told['seconds']:g} s together, scaled to ten minutes; a look a second each.\n" + missing)


def load(result: dict) -> str:
    """Return lateness, ticks and scores under load."""
    if "load" not in result:
        return ABSENT
    rows = []
    for kind, ways in result["load"].items():
        for way, one in ways.items():
            if "late_us" in one:
                late = [_number(one["late_us"][key] / 1000) for key in ("p50_us", "p99_us", "max_us")]
                took = [_number(one[what].get(key)) for what in ("took_us", "score_us") if what in one
                        for key in ("p50_us", "p99_us")]
                rows.append([kind, way, *late, *took])
    return _table("load||late p50, ms.|p99, ms.|max, ms.|tick p50, µs.|p99, µs.|score p50, µs.|p99, µs.", rows)


def instructions(result: dict) -> str:
    """Return instructions, misses and bytes of one call."""
    if "instructions" not in result:
        return ABSENT
    rows = []
    for name, one in result["instructions"]["shipped"].items():
        missed = one["D1mr"] + one["D1mw"]
        rows.append([f"{name}, the shipped model", _number(one["Ir"]), _number(one["Dr"] + one["Dw"]), _number(missed),
                     f"{_number(missed * LINE_BYTES / 1000)} KB", _number(one["Bcm"])])
    rows += [[name.replace("python_", "from Python, made model: "), _number(one["Ir"]), "", "", "", ""]
             for name, one in result["instructions"]["python"].items()]
    rows += [[f"on aarch64 (clang, emulated), made model: {name}", _number(one["Ir"]), "", "", "", ""]
             for name, one in result["instructions"].get("aarch64", {}).items()]
    return _table("one call of|instructions.|reads, writes.|misses of 32 KB.|fetched.|branches mispredicted.", rows)


def growth(result: dict) -> str:
    """Return how instructions and time grow."""
    if "growth" not in result:
        return ABSENT
    rows = [[what, _number(point["x"]), _number(point["instructions"]), f"{point['us']:.2f} µs"]
            for what, points in result["growth"].items() for point in points]
    return _table("with|at.|instructions.|time.", rows)


def readme(result: dict) -> str:
    """Return the README's short table; only what was measured has a line."""
    figures = result["figures"]

    def value(name: str, digits: int = 2) -> str:
        return f"{figures[name]['value']:.{digits}g}"
    rows = []
    if "score from Python" in figures:
        beside = (f"{value('score from Python / C loop', 3)} × the same kernel in a loop of C "
                  f"({value('score in a C loop')} µs); {value('score from Python, 4,096 windows in turn')} µs where "
                  "each window comes out of the last cache")
        rows.append(["a score: window to forecast, from Python", f"{value('score from Python')} µs", beside])
    if "forest walk in C" in figures:
        rows.append(["of that the walk of the trees", f"{value('forest walk in C')} µs", ""])
    near = {name: one["near"]["over_score"]["ratio"] for name, one in result.get("peers", {}).get("peers", {}).items()
            if not name.startswith("oomguard")}
    if near:
        each = "; ".join(f"{name} {_number(ratio)} ×" for name, ratio in sorted(near.items(), key=lambda one: one[1]))
        rows.append(["peers' own call for one row, same trees",
                     f"{_number(min(near.values()))} to {_number(max(near.values()))} × as long",
                     f"{each}; their features not counted, ours are"])
    if "tick of one cgroup, p50" in figures:
        cold = result.get("stages", {}).get("tick_cgroup_cold", {}).get("p50_us")
        once = "" if cold is None else f"; {cold:.0f} µs with cold caches, as once a second"
        rows.append(["a whole tick of one cgroup", f"{value('tick of one cgroup, p50')} µs",
                     f"p99 {value('tick of one cgroup, p99')} µs{once}"])
    for name, label, digits in (("CPU of one core at 1 Hz, 10 cgroups", "CPU at 1 Hz, ten cgroups", 2),
                                ("daemon RSS over bare", "memory of the daemon over a bare interpreter", 2),
                                ("start to first forecast", "start to first forecast", 3)):
        if name in figures:
            rows.append([label, f"{value(name, digits)} {figures[name]['unit']}", figures[name]["how"]])
    return _table("what|measured.|", rows) + \
        f"\nOn {heading(result)}.\n"


MADE = {"budget": budget, "stages": stages, "peers": peers, "daemons": daemons, "load": load,
        "instructions": instructions, "growth": growth, "readme": readme, "heading": heading}
