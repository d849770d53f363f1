"""The one feature table: what the model sees of a window and a device profile, with the readable reference.

`_kernel.c` computes the same numbers in the same order of operations, so both give the same bits; the order of
the rows in `_table` is the order of the statements there, and tests/test_kernel.py holds the two against each
other. All features are scale-free: ratios of the binding constraint's limit, rates per second, seconds.
Unknown is NaN; a span that holds fewer than two blocks gives NaN. Spans end where the constraint changed, and at a
release: what our own action gave back is no fall in demand, and the teeth it leaves are not the app's.
"""

from __future__ import annotations

from array import array
from math import log2, nan, sqrt

from oomguard import ring
from oomguard.kernel import HAS_KERNEL, native
from oomguard.profile import BOUND_KINDS
from oomguard.typed import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from oomguard.profile import Profile

SPANS_S = (5, 10, 30, 60, 120, 300)
COUNTER_SPANS_S = (10, 60, 300)
FAR_S = 3600.0              # "not in sight": straight-line times and times in a phase are capped here
SINCE_RELEASE_CAP_S = 300.0
PAGE_BYTES = 4096.0


class Feature(NamedTuple):
    """One row of the table."""

    name: str
    unit: str
    formula: str


def _table() -> tuple[Feature, ...]:
    rows = [Feature(*row) for row in (
        ("headroom_ratio", "1", "headroom / limit"),
        ("used_ratio", "1", "used / limit"),
        ("charged_ratio", "1", "charged / limit"),
        ("kernel_ratio", "1", "kernel / limit"),
        ("available_ratio", "1", "machine's available / RAM"),
        ("swap_free_ratio", "1", "what swap can still take / limit"),
        ("evictable_ratio", "1", "bytes the hooks hold / limit"),
    )]
    for span in SPANS_S:
        rows += [
            Feature(f"slope_{span}s", "1/s", "least-squares slope of headroom / limit"),
            Feature(f"straight_line_{span}s", "s", f"headroom / -slope, 0…{FAR_S:.0f}; {FAR_S:.0f} if not falling"),
            Feature(f"spread_{span}s", "1", "standard deviation around that line / limit"),
            Feature(f"below_high_{span}s", "1", "(highest headroom in the span - headroom) / limit"),
            Feature(f"above_low_{span}s", "1", "(headroom - least headroom in the span) / limit"),
        ]
    rows += [Feature(f"acceleration_{a}s_{b}s", "1/s", f"slope_{a}s - slope_{b}s")
             for a, b in ((5, 30), (10, 60), (30, 120), (60, 300))]
    rows += [Feature("straight_line_half", "s",
                     "as straight_line, over the later half of the window: start-up left behind"),
             Feature("mean_of_last_three", "1", "(mean headroom of the last three blocks - headroom) / limit"),
             Feature("mean_10s_minus_60s", "1", "(mean headroom over 10 s - over 60 s) / limit: two moving averages")]
    for span in COUNTER_SPANS_S:
        rows += [
            Feature(f"psi_some_{span}s", "1", "share of the span in which some task stalled on memory"),
            Feature(f"psi_full_{span}s", "1", "share of the span in which all tasks stalled on memory"),
            Feature(f"refaults_{span}s", "1/s", "refaulted bytes per second / limit"),
            Feature(f"major_faults_{span}s", "1/s", "major page faults per second"),
        ]
    rows += [Feature(*row) for row in (
        ("used_growth_30s", "1/s", "(used now - used then) / elapsed / limit"),
        ("used_growth_120s", "1/s", "the same over 120 s"),
        ("charged_growth_30s", "1/s", "the same of charged"),
        ("charged_growth_120s", "1/s", "the same of charged over 120 s"),
        ("kernel_growth_120s", "1/s", "the same of kernel over 120 s"),
        ("late_s", "s", "greatest lateness of a tick in the newest second"),
        ("since_release_s", "s",
         f"time since the last release, at most {SINCE_RELEASE_CAP_S:.0f}; NaN if none; no span reaches behind it"),
        ("phase", "id", "the app's phase"),
        ("in_phase_s", "s", f"time in that phase, at most {FAR_S:.0f}"),
        ("log2_ram", "log2 B", "RAM of the device"),
        ("log2_limit", "log2 B", "limit of the binding constraint"),
        ("cores", "1", "cores of the device"),
        ("swap_to_ram", "1", "swap / RAM"),
        ("cache_capacity_ratio", "1", "the app's own cap on its cache / limit"),
        ("buffer_capacity_ratio", "1", "the app's own cap on its buffers / limit"),
        ("heap_limit_ratio", "1", "the app's own cap on its heap / limit"),
        ("bound_kind", "id", "at its bound the app 0 evicts, 1 refuses, 2 aborts"),
        ("bound_room_ratio", "1", "(smaller of cache and heap cap - used) / limit"),
        ("straight_line_to_bound_s", "s", "room under that cap / -slope_60s of headroom, as straight_line"),
    )]
    return tuple(rows)


TABLE = _table()
NAMES = tuple(row.name for row in TABLE)
COUNT = len(TABLE)


def table_hash() -> str:
    """Return the sha256 of the table. A bundle made for another one is refused.

    Names, units and formulas all count: whoever changes what a feature means must change its row.
    """
    from hashlib import sha256  # only when a bundle is made or checked

    return sha256(repr((TABLE, SPANS_S, COUNTER_SPANS_S, ring.COLUMNS)).encode()).hexdigest()


def statics(profile: Profile) -> array[float]:
    """Return the profile as the float64[7] that kernel and reference read; unknown or absurd facts are NaN."""
    known = [number if 0 < number < 1e18 else nan for number in (
        profile.ram_bytes, profile.cores, profile.cache_capacity_bytes, profile.buffer_capacity_bytes,
        profile.heap_limit_bytes)]
    swap_bytes = profile.swap_bytes if 0 <= profile.swap_bytes < 1e18 else nan
    kind = float(BOUND_KINDS.index(profile.bound_kind)) if profile.bound_kind in BOUND_KINDS else nan
    return array("d", [known[0], swap_bytes, *known[1:], kind])


class _Span(NamedTuple):
    """Sums over the blocks of one span; x is time and y headroom, both against the newest block."""

    n: float
    x: float
    xx: float
    y: float
    xy: float
    yy: float
    low: float
    high: float
    oldest: int     # slot of the oldest block in the span


def of(window_buffer: memoryview, static: array[float]) -> array[float]:
    """Return float32[COUNT]: the features of a window, by the kernel where it is built.

    Raises:
        ValueError: the window is empty.
    """
    if not HAS_KERNEL:
        return reference_of(window_buffer, static)
    out = array("f", bytes(4 * COUNT))
    native.features(window_buffer, static, out)
    return out


def reference_of(window_buffer: memoryview, static: array[float]) -> array[float]:
    """Do what `of` does, written to be read; the kernel gives the same bits."""
    if not ring.head_of(window_buffer)[2]:
        raise ValueError("an empty window has no features")
    return _Reference(window_buffer).features(static)


def reach(window_buffer: memoryview) -> tuple[float, float]:
    """Return the age in seconds of the oldest block that counts, and of the third newest (NaN if there is none)."""
    if not ring.head_of(window_buffer)[2]:
        return 0.0, nan
    view = _Reference(window_buffer)
    ages_s = [view.t_s - view.wide("t_s", slot) for slot in view.slots]
    return ages_s[-1], ages_s[2] if len(ages_s) > 2 else nan


class _Reference:
    """The window's columns by name, and the formulas over them."""

    def __init__(self, buffer: memoryview) -> None:
        self._doubles, self._floats, self._words = buffer.cast("d"), buffer.cast("f"), buffer.cast("I")
        base, which, count = ring.head_of(buffer)
        self.newest = (base + 1 + which) % ring.CAPACITY
        slots = [self.newest] + [(base - back) % ring.CAPACITY for back in range(count - 1)]
        segment = self._words[ring.word_of("segment", self.newest)]
        released_t_s = self._doubles[ring.RELEASED_AT // 8]
        self.slots = [slot for slot in slots if self._words[ring.word_of("segment", slot)] == segment
                      and (slot == self.newest or not self.wide("t_s", slot) <= released_t_s)]
        self.t_s = self.wide("t_s", self.newest)
        self.limit = self.narrow("limit_bytes", self.newest)
        self.headroom = self.narrow("headroom_bytes", self.newest)

    def wide(self, column: str, slot: int) -> float:
        return self._doubles[ring.wide_of(column, slot)]

    def narrow(self, column: str, slot: int) -> float:
        return self._floats[ring.word_of(column, slot)]

    def features(self, static: array[float]) -> array[float]:
        ram, swap, cores, cache, buffers, heap, bound_kind = static
        per_limit = 1.0 / self.limit
        out = [self.headroom * per_limit,
               *(self.narrow(name, self.newest) * per_limit
                 for name in ("used_bytes", "charged_bytes", "kernel_bytes")),
               self.narrow("available_bytes", self.newest) / ram,
               self.narrow("swap_free_bytes", self.newest) * per_limit,
               self.narrow("evictable_bytes", self.newest) * per_limit]
        spans, half = self._spans()
        slopes = {}
        for span_s, span in zip(SPANS_S, spans, strict=True):
            slopes[span_s] = slope = _slope(span)
            out += [slope * per_limit, _straight_line_s(self.headroom, slope), _spread(span, slope) * per_limit,
                    span.high * per_limit if span.n > 1 else nan, -span.low * per_limit if span.n > 1 else nan]
        out += [(slopes[a] - slopes[b]) * per_limit for a, b in ((5, 30), (10, 60), (30, 120), (60, 300))]
        out += [_straight_line_s(self.headroom, _slope(half)),
                self._mean_of_last_three() * per_limit, (_mean(spans[1]) - _mean(spans[3])) * per_limit]
        for at in (1, 3, 5):
            out += [self._rate("psi_some_us", spans[at]) * 1e-6, self._rate("psi_full_us", spans[at]) * 1e-6,
                    self._rate("refaults", spans[at]) * PAGE_BYTES * per_limit, self._rate("major_faults", spans[at])]
        out += [self._growth(name, spans[at]) * per_limit for name, at in (
            ("used_bytes", 2), ("used_bytes", 4), ("charged_bytes", 2), ("charged_bytes", 4), ("kernel_bytes", 4))]
        out += [self.narrow("late_s", self.newest), self._since(ring.RELEASED_AT, SINCE_RELEASE_CAP_S),
                self.narrow("phase", self.newest), self._in_phase()]
        out += [log2(ram) if ram == ram else nan, log2(self.limit), cores, swap / ram,
                cache * per_limit, buffers * per_limit, heap * per_limit, bound_kind]
        bound = heap if cache != cache or heap < cache else cache
        room = bound - self.narrow("used_bytes", self.newest)
        out += [room * per_limit, _straight_line_s(room, slopes[60])]
        return array("f", out)

    def _spans(self) -> tuple[list[_Span], _Span]:
        """Sum each span from the newest block back; return the spans, and the later half of the window.

        Four interleaved lanes per stretch between two span edges, each stretch then added to what came before:
        that is how the kernel adds, and floating-point sums depend on the order.
        """
        total = [0.0] * 6
        low = high = 0.0
        half_s = 0.5 * (self.t_s - self.wide("t_s", self.slots[-1]))
        done, found = 0, {}
        for span_s in sorted({*SPANS_S, half_s}):
            within = done
            while within < len(self.slots) and self.t_s - self.wide("t_s", self.slots[within]) <= span_s:
                within += 1
            lanes = [[0.0] * 4 for _ in range(5)]
            for at in range(done, within):
                slot = self.slots[at]
                x = self.wide("t_s", slot) - self.t_s
                y = self.narrow("headroom_bytes", slot) - self.headroom
                for sums, term in zip(lanes, (x, x * x, y, x * y, y * y), strict=True):
                    sums[(at - done) % 4] += term
                low = min(low, self.narrow("least_headroom_bytes", slot) - self.headroom)
                high = max(high, y)
            for at, (a, b, c, d) in enumerate(lanes, 1):
                total[at] += (a + b) + (c + d)
            total[0] = float(within)
            done = within
            n, x, xx, y, xy, yy = total
            found[span_s] = _Span(n, x, xx, y, xy, yy, low, high, self.slots[within - 1])
        return [found[span_s] for span_s in SPANS_S], found[half_s]

    def _mean_of_last_three(self) -> float:
        last = [self.narrow("headroom_bytes", slot) - self.headroom for slot in self.slots[:3]]
        return (last[1] + last[2]) / 3.0 if len(last) == 3 else nan

    def _rate(self, counter: str, span: _Span) -> float:
        """Return how fast a cumulative counter rose over the span, per second; NaN if it fell (it was reset)."""
        rise = self.wide(counter, self.newest) - self.wide(counter, span.oldest)
        elapsed_s = self.t_s - self.wide("t_s", span.oldest)
        return rise / elapsed_s if elapsed_s > 0 and rise >= 0 else nan

    def _growth(self, column: str, span: _Span) -> float:
        elapsed_s = self.t_s - self.wide("t_s", span.oldest)
        rise = self.narrow(column, self.newest) - self.narrow(column, span.oldest)
        return rise / elapsed_s if elapsed_s > 0 else nan

    def _since(self, at: int, cap_s: float) -> float:
        since_s = self.t_s - self._doubles[at // 8]
        return cap_s if since_s > cap_s else since_s

    def _in_phase(self) -> float:
        is_known = self.narrow("phase", self.newest) == self.narrow("phase", self.newest)
        return self._since(ring.PHASE_BEGAN_AT, FAR_S) if is_known else nan


def _slope(span: _Span) -> float:
    """Least-squares slope of headroom, bytes per second (the textbook normal equations, times centred on now)."""
    spread = span.n * span.xx - span.x * span.x
    return (span.n * span.xy - span.x * span.y) / spread if span.n > 1 and spread > 0 else nan


def _straight_line_s(room: float, slope: float) -> float:
    """Return when the line reaches the end of the room; a straight line's figure, no time to limit."""
    if slope != slope or room != room:
        return nan
    if not slope < 0:
        return FAR_S
    seconds = (room if room > 0 else 0.0) / -slope
    return FAR_S if seconds > FAR_S else seconds


def _spread(span: _Span, slope: float) -> float:
    if slope != slope:
        return nan
    mean_y = span.y / span.n
    variance = (span.yy - mean_y * span.y - slope * (span.xy - span.x * mean_y)) / span.n
    return sqrt(variance) if variance > 0 else 0.0


def _mean(span: _Span) -> float:
    return span.y / span.n if span.n > 1 else nan
