"""The metrics, in Prometheus' text format: made when somebody asks, a slice at a time, from what the guards hold.

Names follow the field's conventions (prometheus.io/docs/practices/naming): base units, `_total` for what only
grows, one family in one piece. What is unknown is left out, never written as zero. Everything is called `oomguard_…`,
the daemon's own weight too: `process_…` would be node_exporter's own in a textfile that it reads.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence

from oomguard._version import __version__
from oomguard.clock import now_s
from oomguard.forecast import time_to_limit_s
from oomguard.typed import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from oomguard.act.hooks import Hook
    from oomguard.guard import TargetGuard

TARGETS_MAX = 1024              # of each kind, so that no rule file and no client makes a scrape without end
HOOKS_MAX = 1024
LABEL_MAX_CHARS = 256
SLICE_CHARS = 16 * 1024         # about 0.2 ms of work (measured): a tick waits for one slice at most
LATE_BUCKETS_S = (0.001, 0.005, 0.02, 0.1, 0.5, 1.0, 5.0)

# Families of one sample: name after oomguard_target_, type, field of Sample, unit of the field in the metric's, help.
_OF_SAMPLE = (
    ("used_bytes", "gauge", "used_bytes", 1.0, "Memory of the binding constraint that the kernel cannot reclaim"),
    ("limit_bytes", "gauge", "limit_bytes", 1.0, "Limit of the binding constraint"),
    ("headroom_bytes", "gauge", "headroom_bytes", 1.0, "What is left below the limit, with what swap can still take"),
    ("charged_bytes", "gauge", "charged_bytes", 1.0, "Memory charged to the binding constraint, page cache included"),
    ("kernel_bytes", "gauge", "kernel_bytes", 1.0, "Kernel memory of the target"),
    ("swap_used_bytes", "gauge", "swap_used_bytes", 1.0, "Swap that the target uses"),
    ("evictable_bytes", "gauge", "evictable_bytes", 1.0, "What the hooks say they could give back"),
    ("pressure_waiting_seconds_total", "counter", "psi_some_us", 1e-6, "Time in which some task waited for memory"),
    ("pressure_stalled_seconds_total", "counter", "psi_full_us", 1e-6, "Time in which all tasks waited for memory"),
    ("major_faults_total", "counter", "major_faults", 1.0, "Page faults that had to read from disk"),
    ("refaults_total", "counter", "refaults", 1.0, "Pages that came back soon after they were reclaimed"),
)
_OF_HOOK = (
    ("calls_total", "counter", "calls", "Requests to the hook that ended"),
    ("failures_total", "counter", "failures", "Requests that failed, and claims that the samples refuted"),
    ("cost", "gauge", "cost_now", "Relative cost of a byte: as measured, else as declared"),
    ("yield_bytes", "gauge", "yield_bytes", "What a release gave in the samples, moving average"),
    ("latency_seconds", "gauge", "latency_s", "How long the hook took, moving average"),
    ("evictable_bytes", "gauge", "evictable_bytes", "What the hook says it could give back"),
)

Lines = Iterator[str]


class Facts(NamedTuple):
    """What the daemon knows at the moment it is asked."""

    guards: Sequence[TargetGuard]
    missing: Sequence[str]              # names of targets that are not there
    hooks: Sequence[Hook]
    model: tuple[str, str] | None       # id, digest
    rules: tuple[str, str]              # source, digest
    is_dry_run: bool
    skipped_ticks: int
    clients: int
    subscribers: int
    warnings: int


class Metrics:
    """What is counted as it happens; everything else is read when somebody asks."""

    __slots__ = ("_events", "_facts", "_late_counts", "_late_sum_s", "_ticked_at", "_ticks")

    def __init__(self, facts: Callable[[], Facts]) -> None:
        self._facts = facts
        self._late_counts = [0] * len(LATE_BUCKETS_S)
        self._late_sum_s, self._ticks, self._ticked_at = 0.0, 0, 0.0
        self._events: dict[tuple[str, str], int] = {}

    def tick(self, late_s: float) -> None:
        """Take in a tick."""
        self._ticks += 1
        self._late_sum_s += late_s
        self._ticked_at = time.time()
        for index, edge_s in enumerate(LATE_BUCKETS_S):
            if late_s <= edge_s:
                self._late_counts[index] += 1
                break

    def count(self, event: str, severity: str) -> None:
        """Take in an event of the log."""
        self._events[event, severity] = self._events.get((event, severity), 0) + 1

    def slices(self) -> Iterator[bytes]:
        """Yield the whole text in pieces of about 16 KiB; each costs its work only when it is asked for."""
        facts, piece, size = self._facts(), [], 0
        for line in self._lines(facts):
            piece.append(line)
            size += len(line)
            if size >= SLICE_CHARS:
                yield "".join(piece).encode("utf-8", "backslashreplace")
                piece, size = [], 0
        yield "".join(piece).encode("utf-8", "backslashreplace")

    def _lines(self, facts: Facts) -> Lines:
        guards = [(guard, f'target="{escaped_label(guard.name)}"') for guard in facts.guards[:TARGETS_MAX]]
        yield from _lines_of_guard(facts)
        yield from self._lines_of_daemon()
        yield from _family("target_up", "gauge", "Whether the target is there and read",
                           [*((labels, 1) for _guard, labels in guards),
                            *((f'target="{escaped_label(name)}"', 0) for name in facts.missing[:TARGETS_MAX])])
        yield from _lines_of_targets(guards)
        seen = [(guard, labels) for guard, labels in guards if guard.reading is not None and not guard.notes.is_blind]
        for name, kind, field, scale, words in _OF_SAMPLE:
            yield from _family(f"target_{name}", kind, words, (
                (labels, getattr(guard.reading.sample, field) * scale) for guard, labels in seen if guard.reading))
        yield from _lines_of_forecasts(seen)
        yield from _lines_of_hooks(facts.hooks)

    def _lines_of_daemon(self) -> Lines:
        yield _head("tick_lateness_seconds", "histogram", "How late ticks were against their schedule")
        below = 0
        for edge_s, count in zip(LATE_BUCKETS_S, self._late_counts, strict=True):
            below += count
            yield f'oomguard_tick_lateness_seconds_bucket{{le="{edge_s:g}"}} {below}\n'
        yield f'oomguard_tick_lateness_seconds_bucket{{le="+Inf"}} {self._ticks}\n'
        yield f"oomguard_tick_lateness_seconds_sum {self._late_sum_s!r}\n"
        yield f"oomguard_tick_lateness_seconds_count {self._ticks}\n"
        yield from _family("last_tick_timestamp_seconds", "gauge", "When the last tick was, seconds since 1970",
                           [("", round(self._ticked_at, 3))])
        yield from _family("events_total", "counter", "Events of the log, by name and severity", (
            (f'event="{escaped_label(event)}",severity="{severity}"', count)
            for (event, severity), count in sorted(self._events.items())))
        user_s, system_s, *_others = os.times()
        yield from _family("cpu_seconds_total", "counter", "CPU time of the daemon", [("", user_s + system_s)])
        yield from _family("resident_memory_bytes", "gauge", "Resident memory of the daemon", [("", _rss_bytes())])
        yield from _family("open_fds", "gauge", "Descriptors that the daemon has open",
                           [("", len(os.listdir("/proc/self/fd")) - 1)])


def _lines_of_guard(facts: Facts) -> Lines:
    """Yield what is running: versions, model, rules, who listens."""
    python = ".".join(str(part) for part in sys.version_info[:3])
    yield from _family("build_info", "gauge", "Version of the guard; always 1",
                       [(f'version="{__version__}",python="{python}"', 1)])
    if facts.model is not None:
        yield from _family("model_info", "gauge", "The model that scores; always 1",
                           [(_named("model", facts.model), 1)])
    yield from _family("rules_info", "gauge", "The rules that hold; always 1", [(_named("source", facts.rules), 1)])
    omitted = (max(len(facts.guards) - TARGETS_MAX, 0) + max(len(facts.missing) - TARGETS_MAX, 0)
               + max(len(facts.hooks) - HOOKS_MAX, 0))
    for name, kind, words, value in (
        ("dry_run", "gauge", "Whether hooks are only named, never called", int(facts.is_dry_run)),
        ("warnings", "gauge", "What an operator should mend, as `oomguard status` says it", facts.warnings),
        ("control_clients", "gauge", "Clients of the control socket", facts.clients),
        ("control_subscribers", "gauge", "Clients that hear events", facts.subscribers),
        ("ticks_skipped_total", "counter", "Ticks that were missed, as in a standby", facts.skipped_ticks),
        ("metrics_omitted", "gauge", f"Targets and hooks beyond {TARGETS_MAX} that are not shown here", omitted),
    ):
        yield from _family(name, kind, words, [("", value)])


def _lines_of_targets(guards: list[tuple[TargetGuard, str]]) -> Lines:
    """Yield what holds of every target that is there, read or not."""
    yield from _family("target_blind", "gauge", "Whether the target could not be read for some ticks", (
        (labels, int(guard.notes.is_blind)) for guard, labels in guards))
    yield from _family("target_samples_total", "counter", "Samples since the run of the target began", (
        (labels, guard.window.samples_total) for guard, labels in guards))
    yield from _family("target_kills_total", "counter", "Kills by the kernel within the target", (
        (labels, guard.notes.kills) for guard, labels in guards if guard.notes.kills >= 0))
    yield from _family("target_releases_total", "counter", "Releases that ended and were measured", (
        (labels, guard.releases.count) for guard, labels in guards))
    yield from _family("target_freed_bytes_total", "counter", "What releases gave, as the samples showed", (
        (labels, guard.releases.bytes_total) for guard, labels in guards))
    yield from _family("target_last_freed_bytes", "gauge", "What the last release gave", (
        (labels, guard.releases.last_freed_bytes) for guard, labels in guards))


def _lines_of_forecasts(seen: list[tuple[TargetGuard, str]]) -> Lines:
    readings = [(guard.reading, labels) for guard, labels in seen if guard.reading is not None]
    yield from _family("target_level", "gauge", "Level 0 to 5: how near a kill is", (
        (labels, reading.level) for reading, labels in readings))
    yield from _family("target_constraint_info", "gauge", "The constraint that binds now; always 1", (
        (f'{labels},constraint="{escaped_label(reading.sample.constraint)}"', 1) for reading, labels in readings))
    yield from _family("target_has_forecast", "gauge", "Whether the model speaks; 0: plain thresholds decide", (
        (labels, int(reading.forecast is not None)) for reading, labels in readings))
    forecasts = [(reading.forecast, labels) for reading, labels in readings if reading.forecast is not None]
    yield from _family("target_kill_probability", "gauge", "Probability of a kill within so many seconds", (
        (f'{labels},within="{name[1:]}"', probability) for forecast, labels in forecasts
        for name, probability in zip(forecast._fields, forecast, strict=True)))
    yield from _family("target_time_to_limit_seconds", "gauge", "When a kill becomes likelier than not", (
        (labels, time_to_limit_s(forecast)) for forecast, labels in forecasts))


def _lines_of_hooks(hooks: Sequence[Hook]) -> Lines:
    by_labels = {f'target="{escaped_label(",".join(hook.targets))}",hook="{escaped_label(hook.name)}"': hook
                 for hook in hooks[:HOOKS_MAX]}         # one line for each set of labels, or a scraper refuses them all
    for name, kind, attribute, words in _OF_HOOK:
        yield from _family(f"hook_{name}", kind, words, (
            (labels, getattr(hook, attribute)) for labels, hook in by_labels.items()))
    t_s = now_s()
    yield from _family("hook_on_hold", "gauge", "Whether repeated failure keeps the hook from being asked", (
        (labels, int(hook.is_on_hold(t_s))) for labels, hook in by_labels.items()))


def _family(name: str, kind: str, words: str, samples: Iterable[tuple[str, float | None]]) -> Lines:
    """Yield a family: its head, then a line for each (labels, value) whose value is known; nothing where none is."""
    is_headed = False
    for labels, value in samples:
        if value is None or value - value != 0:         # NaN, infinity
            continue
        if not is_headed:
            is_headed = True
            yield _head(name, kind, words)
        yield f"oomguard_{name}{{{labels}}} {_number(value)}\n" if labels else f"oomguard_{name} {_number(value)}\n"


def _head(name: str, kind: str, words: str) -> str:
    return f"# HELP oomguard_{name} {words}\n# TYPE oomguard_{name} {kind}\n"


def _named(label: str, named: tuple[str, str]) -> str:
    return f'{label}="{escaped_label(named[0])}",digest="{escaped_label(named[1])}"'


def _number(value: float) -> str:
    """Return whole numbers without a fraction: bytes are read by people too."""
    return str(int(value)) if isinstance(value, int) or value.is_integer() else repr(value)


def escaped_label(text: str) -> str:
    """Return a label's value as the format wants it: backslash, quote and line feed escaped, at most 256 characters.

    Other control characters are legal there, but not on the terminal of whoever reads the text: they become `?`.
    """
    text = text[:LABEL_MAX_CHARS]
    if text.isascii() and text.isprintable() and '"' not in text and "\\" not in text:
        return text
    text = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return "".join(each if each.isprintable() else "?" for each in text)


def _rss_bytes() -> float:
    with open("/proc/self/statm", "rb") as file:
        return float(int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE"))
