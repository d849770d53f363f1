"""The ONNX graph of a network or a linear model: raw features in, probabilities of six classes out.

What a trainer does to its inputs is in the graph, so that the device hands it nothing but features: an unknown value
becomes the median and, where it was now and then unknown in training, an input of its own that says so; the rest is
centred on the median, divided by the distance between the quartiles, and squashed by x / (1 + |x|), since slopes and
seconds have tails that no scale fits.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from oomguard import features

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Layer = tuple[NDArray[np.float64], NDArray[np.float64]]     # weights [inputs, outputs], biases [outputs]

OPSET, IR = 13, 8               # what onnxruntime 1.10 and later read
LEAST_UNKNOWN_RATIO = 0.01      # of rows, on either side, for "is unknown" to be an input


@dataclass(frozen=True, slots=True)
class Scaling:
    """How features become inputs."""

    columns: NDArray[np.int64]          # features that were ever known in training
    centre: NDArray[np.float32]         # of each of them
    width: NDArray[np.float32]
    flagged: NDArray[np.int64]          # positions in `columns` whose being unknown is an input

    def inputs(self, rows: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return float64[n, columns + flagged], what the graph computes in float32."""
        known = rows[:, self.columns].astype(np.float64)
        is_unknown = np.isnan(known)
        scaled = (np.where(is_unknown, self.centre, known) - self.centre) / self.width
        return np.hstack([scaled / (1.0 + np.abs(scaled)), is_unknown[:, self.flagged]])


def scaling_of(rows: NDArray[np.float32], weight: NDArray[np.float32]) -> Scaling:
    """Return the scaling that training rows ask for: weighted quartiles of what is known."""
    shares = np.average(np.isnan(rows), axis=0, weights=weight)
    columns = np.flatnonzero(~np.isnan(rows).all(axis=0))
    quartiles = np.array([_quartiles(rows[:, at], weight) for at in columns])
    spread = quartiles[:, 2] - quartiles[:, 0]
    largest = np.array([np.nanmax(np.abs(rows[:, at] - middle))
                        for at, middle in zip(columns, quartiles[:, 1], strict=True)])
    width = np.where(spread > 0, spread, np.where(largest > 0, largest, 1.0))
    flagged = (shares[columns] >= LEAST_UNKNOWN_RATIO) & (shares[columns] <= 1.0 - LEAST_UNKNOWN_RATIO)
    return Scaling(columns, quartiles[:, 1].astype(np.float32), width.astype(np.float32), np.flatnonzero(flagged))


def _quartiles(values: NDArray[np.float32], weight: NDArray[np.float32]) -> list[float]:
    order = np.argsort(values, kind="stable")
    order = order[:int(np.isfinite(values).sum())]      # NaN sort last
    below = np.cumsum(weight[order], dtype=np.float64)
    return [float(values[order[np.searchsorted(below, share * below[-1])]]) for share in (0.25, 0.5, 0.75)]


def to_onnx(scaling: Scaling, layers: Sequence[Layer]) -> bytes:
    """Return the graph; between two layers stands a ReLU, after the last a softmax."""
    from onnx import TensorProto, checker, helper

    graph = _Graph()
    known = graph.add("Gather", ["features", graph.constant("columns", scaling.columns)], axis=1)
    is_unknown = graph.add("IsNaN", [known])
    centre = graph.constant("centre", scaling.centre)
    centred = graph.add("Sub", [graph.add("Where", [is_unknown, centre, known]), centre])
    inputs = graph.add("Softsign", [graph.add("Div", [centred, graph.constant("width", scaling.width)])])
    if len(scaling.flagged):
        flagged = graph.add("Gather", [is_unknown, graph.constant("flagged", scaling.flagged)], axis=1)
        inputs = graph.add("Concat", [inputs, graph.add("Cast", [flagged], to=TensorProto.FLOAT)], axis=1)
    for at, (weights, biases) in enumerate(layers):
        inputs = graph.add("Gemm", [inputs, graph.constant(f"weights{at}", weights.astype(np.float32)),
                                    graph.constant(f"biases{at}", biases.astype(np.float32))])
        if at < len(layers) - 1:
            inputs = graph.add("Relu", [inputs])
    graph.nodes.append(helper.make_node("Softmax", [inputs], ["probabilities"], axis=1))
    made = helper.make_graph(
        graph.nodes, "oomguard",
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["rows", features.COUNT])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["rows", len(layers[-1][1])])],
        graph.constants)
    model = helper.make_model(made, producer_name="oomguard", opset_imports=[helper.make_opsetid("", OPSET)])
    model.ir_version = IR
    checker.check_model(model)
    data: bytes = model.SerializeToString(deterministic=True)
    return data


class _Graph:
    """Nodes and constants as they are added; a node's output is called by its number."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def add(self, operator: str, inputs: list[str], **settings: Any) -> str:
        from onnx import helper

        name = f"n{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, inputs, [name], **settings))
        return name

    def constant(self, name: str, values: NDArray[Any]) -> str:
        from onnx import numpy_helper

        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(values), name))
        return name
