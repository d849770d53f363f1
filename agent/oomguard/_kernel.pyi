"""Types of the C kernel; what each entry point computes is said where its readable reference stands."""

from array import array
from collections.abc import Sequence

from typing_extensions import Buffer

from oomguard.forecast import Forecast
from oomguard.sense.sample import Sample

WINDOW_BYTES: int
FEATURES: int
SERIES_ROWS: int

def numbers(fd: int, labels: tuple[bytes, ...], mark: bytes = b"", /) -> tuple[float, ...]:
    """Read and parse a table in one call: `sense.fields.reference_numbers`. Takes 1 to 24 labels; releases the GIL.

    Raises OSError where the descriptor cannot be read.
    """

def push(window: Buffer, sample: Sample, segment: int, phase_id: float, /) -> bool:
    """Add one sample to the ring: `ring.reference_push`."""

def features(window: Buffer, facts: array[float], out: Buffer, /) -> None:
    """Write float32[FEATURES] into `out`: `features.reference_of`. Raises ValueError for an empty window."""

def series(rows: Buffer, facts: Buffer, out: Buffer, forest: Forest | None = None, /) -> int:
    """Push a run sample by sample; write features (float32[n][FEATURES]), or with a forest forecasts (float64[n][5]).

    `rows` is float64[SERIES_ROWS][n]: a Sample's numbers in order, then phase id, segment, time of the last release.
    Rows that the window refused, or where the model abstains, are NaN. Releases the GIL. Returns how many were refused.
    """

class Forest:
    """A checked forest: `forest.Forest` keeps it."""

    def __new__(cls, data: Buffer, low: Buffer, high: Buffer, knots: Buffer, /) -> Forest: ...
    def bind(self, window: Buffer, facts: Buffer, forecast_type: type[Forecast], /) -> Bound:
        """Return what scores this window from now on; it holds both buffers until `release`."""

    def score(self, window: Buffer, facts: Buffer, /) -> tuple[float, ...] | None:
        """Return p60…p300 or None: `forest.Forest.reference_score`."""

    def score_batch(self, windows: Sequence[Buffer], facts: Sequence[Buffer], out: Buffer, /) -> None:
        """Score N windows in one call into float64[N][5], NaN where the model abstains. Releases the GIL."""

    def margins(self, rows: Buffer, out: Buffer, /) -> None:
        """Write float64[n][classes], the summed leaves of float32[n][FEATURES]. Releases the GIL."""

class Bound:
    """A forest with one window at hand."""

    def score(self) -> Forecast | None:
        """Return the forecast for the window as it is now, or None. Raises ValueError after release."""

    def release(self) -> None:
        """Let the window go, so that it can be closed."""
