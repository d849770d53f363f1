"""The compiled tree model: a forest file is data, flat arrays of perfect-depth trees, checked once when loaded.

It behaves exactly like the model it was compiled from, up to the order in which leaves are summed (float64, tree by
tree). File, native byte order: header of 64 bytes; base float64[classes]; class of each tree uint32[trees]; nodes
{float32 threshold, uint32 2 * feature + unknown-goes-right}[trees][2^depth - 1] level by level; leaves
float32[trees][2^depth][leaf_size]. A row goes left where x < threshold. `_kernel.c` walks it eight trees at a time.
"""

from __future__ import annotations

import struct
from array import array
from itertools import pairwise
from math import exp, inf, isfinite, nan

from oomguard import features
from oomguard.errors import BundleError
from oomguard.kernel import HAS_KERNEL, native
from oomguard.typed import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

HORIZONS_S = (60, 120, 180, 240, 300)
MIN_WINDOW_S = 5.0          # since the run, its constraint or a release began; as in _kernel.c
CLASSES = len(HORIZONS_S) + 1       # no kill within 300 s, then within 300, 240, 180, 120, 60 s
MAX_BYTES = 16 << 20
MAX_DEPTH, MAX_TREES, TOGETHER, MAX_KNOTS = 10, 4096, 8, 16
TRANSFORMS = ("softmax", "average")
_HEADER = struct.Struct("=8sIIIIIIIId16x")
_MAGIC, _VERSION, _BYTE_ORDER = b"OOMGFOR1", 1, 0x01020304

Knots = tuple[tuple[float, float], ...]     # one horizon's calibration: (probability said, probability meant)


class Trees(NamedTuple):
    """A forest as flat arrays, before it is packed: what compilers make and the reference walks."""

    depth: int
    leaf_size: int                  # 1: one class per tree; CLASSES: every leaf votes for all
    transform: str                  # softmax of scaled margins, or their scaled sums taken as probabilities
    scale: float
    base: Sequence[float]           # float64[CLASSES]
    tree_class: Sequence[int]       # [trees]
    thresholds: Sequence[float]     # float32[trees * (2^depth - 1)]
    at: Sequence[int]               # as above: 2 * feature + unknown-goes-right
    leaves: Sequence[float]         # float32[trees * 2^depth * leaf_size]


def pack(trees: Trees) -> bytes:
    """Return the forest file. Trees are padded to a multiple of eight with ones that say nothing."""
    count = len(trees.tree_class)
    padding = -count % TOGETHER
    inner = (1 << trees.depth) - 1
    nodes = bytearray(8 * inner * (count + padding))
    for i, (threshold, at) in enumerate(zip(trees.thresholds, trees.at, strict=True)):
        struct.pack_into("=fI", nodes, 8 * i, threshold, at)
    leaves = array("f", trees.leaves)
    leaves.extend([0.0] * (padding * (inner + 1) * trees.leaf_size))
    return b"".join((
        _HEADER.pack(_MAGIC, _VERSION, _BYTE_ORDER, count + padding, trees.depth, features.COUNT, CLASSES,
                     trees.leaf_size, TRANSFORMS.index(trees.transform), trees.scale),
        array("d", trees.base).tobytes(), array("I", [*trees.tree_class, *[0] * padding]).tobytes(),
        bytes(nodes), leaves.tobytes()))


def unpack(data: bytes) -> Trees:
    """Return the arrays of a forest file, every index checked.

    Raises:
        BundleError: it is foreign, truncated, of another feature table, or an index is out of bounds.
    """
    if len(data) < _HEADER.size or len(data) > MAX_BYTES:
        raise BundleError(f"forest: {len(data)} bytes is no forest file")
    magic, version, order, count, depth, width, classes, leaf_size, transform, scale = _HEADER.unpack_from(data)
    if magic != _MAGIC or version != _VERSION or order != _BYTE_ORDER:
        raise BundleError("forest: not a forest file of this version and byte order")
    if width != features.COUNT or classes != CLASSES:
        raise BundleError(f"forest: made for {width} features and {classes} classes, "
                          f"not {features.COUNT} and {CLASSES}")
    if not (0 < count <= MAX_TREES and count % TOGETHER == 0 and 1 <= depth <= MAX_DEPTH
            and leaf_size in (1, CLASSES) and transform < len(TRANSFORMS) and isfinite(scale)):
        raise BundleError("forest: its header is out of bounds")
    inner = (1 << depth) - 1
    parts = _cut(data, (8 * CLASSES, 4 * count, 8 * count * inner, 4 * count * (inner + 1) * leaf_size))
    base, tree_class, leaves = array("d", parts[0]), array("I", parts[1]), array("f", parts[3])
    nodes = [*struct.iter_unpack("=fI", parts[2])]
    if (any(c >= CLASSES for c in tree_class) or any(at >= 2 * width or t != t for t, at in nodes)
            or not all(map(isfinite, leaves)) or not all(map(isfinite, base))):
        raise BundleError("forest: an index or a number is out of bounds")
    return Trees(depth, leaf_size, TRANSFORMS[transform], scale, base, tree_class,
                 [node[0] for node in nodes], [node[1] for node in nodes], leaves)


def _cut(data: bytes, sizes: tuple[int, ...]) -> list[bytes]:
    if len(data) != _HEADER.size + sum(sizes):
        raise BundleError(f"forest: {len(data)} bytes where its header promises {_HEADER.size + sum(sizes)}")
    parts, at = [], _HEADER.size
    for size in sizes:
        parts.append(data[at:at + size])
        at += size
    return parts


def reference_margins(trees: Trees, row: Sequence[float]) -> list[float]:
    """Return the float64 sums of leaves per class for one row of features; the kernel gives the same bits."""
    margins = list(trees.base)
    inner = (1 << trees.depth) - 1
    for tree, tree_class in enumerate(trees.tree_class):
        at = 0
        for _ in range(trees.depth):
            threshold, which = trees.thresholds[tree * inner + at], trees.at[tree * inner + at]
            x = row[which // 2]
            if x != x:
                x = inf if which % 2 else -inf
            at = 2 * at + (1 if x < threshold else 2)
        leaf = (tree * (inner + 1) + at - inner) * trees.leaf_size
        if trees.leaf_size == 1:
            margins[tree_class] += trees.leaves[leaf]
        else:
            for k in range(CLASSES):
                margins[k] += trees.leaves[leaf + k]
    return margins


def class_probabilities(trees: Trees, margins: Sequence[float]) -> list[float]:
    """Return the probability of each class from the summed leaves."""
    scaled = [margin * trees.scale for margin in margins]
    if trees.transform == "average":
        return scaled
    top = max(scaled)
    powers = [exp(x - top) for x in scaled]
    total = 0.0
    for power in powers:
        total += power
    return [power / total for power in powers]


def cumulated(probabilities: Sequence[float], calibration: Sequence[Knots]) -> tuple[float, ...]:
    """Return p60…p300 from the classes' probabilities: summed, calibrated, and never falling with the horizon."""
    total = most = 0.0
    forecast = []
    for i, knots in enumerate(calibration):
        total += probabilities[CLASSES - 1 - i]
        meant = calibrated(knots, total)
        most = max(most, meant)
        forecast.append(min(most, 1.0))
    return tuple(forecast)


def calibrated(knots: Knots, said: float) -> float:
    """Return the probability meant by the one said: piecewise linear between at most 16 rising knots."""
    if not knots:
        return said
    if said <= knots[0][0]:
        return knots[0][1]
    for (x0, y0), (x1, y1) in pairwise(knots):
        if said <= x1:
            return y0 + (y1 - y0) * ((said - x0) / (x1 - x0))
    return knots[-1][1]


def check_calibration(calibration: Sequence[Knots]) -> None:
    """Raise BundleError unless there is one curve per horizon, of at most 16 knots that rise within 0…1."""
    if len(calibration) != len(HORIZONS_S):
        raise BundleError(f"calibration: {len(calibration)} curves for {len(HORIZONS_S)} horizons")
    for curve in calibration:
        is_rising = all(a[0] < b[0] and a[1] <= b[1] for a, b in pairwise(curve))
        if len(curve) > MAX_KNOTS or not is_rising or not all(0 <= x <= 1 and 0 <= y <= 1 for x, y in curve):
            raise BundleError("calibration: at most 16 knots, rising within 0..1, are allowed")


class Forest:
    """A forest that is ready to score windows: by the kernel where it is built, else by the readable reference."""

    __slots__ = ("_calibration", "_high", "_low", "_trees", "compiled")

    def __init__(self, data: bytes, low: Sequence[float], high: Sequence[float], calibration: Sequence[Knots],
                 *, is_reference: bool = not HAS_KERNEL) -> None:
        """Load and check a forest file.

        Args:
            is_reference: walk it readably even where the kernel is built.
            data: the file's bytes.
            low, high: float32[COUNT], the range of each feature in training; outside it the model abstains.
            calibration: one curve per horizon, 60…300 s.

        Raises:
            BundleError: anything in it does not fit this version or is out of bounds.
        """
        if len(low) != features.COUNT or len(high) != features.COUNT:
            raise BundleError(f"ranges: {len(low)} and {len(high)} values for {features.COUNT} features")
        check_calibration(calibration)
        self._low, self._high, self._calibration = array("f", low), array("f", high), calibration
        self._trees: Trees | None = None
        self.compiled: native.Forest | None = None     # what the kernel walks; None without one
        if is_reference:
            self._trees = unpack(data)
            return
        try:
            self.compiled = native.Forest(data, self._low, self._high, _knot_table(calibration))
        except ValueError as problem:
            raise BundleError(f"forest: {problem}") from None

    def score(self, window_buffer: memoryview, facts: array[float]) -> tuple[float, ...] | None:
        """Return p60…p300 for the window, or None where the model abstains."""
        if self.compiled is not None:
            return self.compiled.score(window_buffer, facts)
        return self.reference_score(window_buffer, facts)

    def reference_score(self, window_buffer: memoryview, facts: array[float]) -> tuple[float, ...] | None:
        """Do what `score` does, readably."""
        if self._trees is None or abstention(window_buffer):
            return None
        row = features.reference_of(window_buffer, facts)
        if self.unfamiliar(row):
            return None
        return cumulated(class_probabilities(self._trees, reference_margins(self._trees, row)), self._calibration)

    def unfamiliar(self, row: Sequence[float]) -> list[str]:
        """Return the features that lie outside the ranges the model was trained on."""
        return [name for name, x, low, high in zip(features.NAMES, row, self._low, self._high, strict=True)
                if x < low or x > high]


def abstention(window_buffer: memoryview) -> str:
    """Say why a window is too short or too gappy for any model; empty if it is neither."""
    length_s, third_age_s = features.reach(window_buffer)
    if length_s < MIN_WINDOW_S:
        return f"the window holds {int(length_s)} s, the model needs {MIN_WINDOW_S:.0f}"
    if not third_age_s <= 30:
        return "the last 30 s hold fewer than three readings"
    return ""


def _knot_table(calibration: Sequence[Knots]) -> array[float]:
    table = array("d", [nan] * (len(HORIZONS_S) * MAX_KNOTS * 2))
    for horizon, curve in enumerate(calibration):
        for i, (x, y) in enumerate(curve):
            table[(horizon * MAX_KNOTS + i) * 2], table[(horizon * MAX_KNOTS + i) * 2 + 1] = x, y
    return table
