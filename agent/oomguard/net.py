"""A model that is no tree: an ONNX graph, from features to the probabilities of the six classes.

The daemon only holds its bytes and knows when it must not be asked; the helper, replay and learning run it, through
onnxruntime on one thread. The scaling of features and unknown values are the graph's business.
"""

from __future__ import annotations

from oomguard import features
from oomguard.errors import BundleError
from oomguard.forest import CLASSES, Forest, Knots, Trees, check_calibration, pack
from oomguard.typed import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

MAX_BYTES = 4 << 20
STALE_TICKS = 3         # a forecast of more ticks ago than this is none: the plain levels hold


class Net:
    """An ONNX model with what the device adds to it."""

    __slots__ = ("_session", "calibration", "gate", "onnx")

    def __init__(self, onnx: bytes, low: Sequence[float], high: Sequence[float], calibration: Sequence[Knots]) -> None:
        """Take the graph's bytes; what is in them is looked at by whoever runs it.

        Args:
            onnx: the file's bytes.
            low, high: float32[COUNT], the range of each feature in training; outside it the model abstains.
            calibration: one curve per horizon, 60…300 s.

        Raises:
            BundleError: the size, the ranges or the calibration are out of bounds.
        """
        if not 0 < len(onnx) <= MAX_BYTES:
            raise BundleError(f"model.onnx: {len(onnx)} bytes, {MAX_BYTES} are allowed")
        check_calibration(calibration)
        self.onnx, self.calibration = onnx, calibration
        # A forest that says nothing, and says it exactly where a forest of these ranges would: the kernel's own check
        # of window and ranges, in a microsecond.
        nothing = Trees(1, 1, "softmax", 1.0, [0.0] * CLASSES, [0], [0.0], [0], [0.0, 0.0])
        self.gate = Forest(pack(nothing), low, high, calibration)
        self._session: Any = None

    def load(self) -> None:
        """Get ready to be asked.

        Raises:
            BundleError: onnxruntime is not installed, or the bytes are no graph from our features to our classes.
        """
        self._session = open_session(self.onnx)

    def classes(self, rows: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return float64[n, CLASSES] of float32[n, F]; NaN where the graph gives no number. Raises as `load`."""
        import numpy as np

        if self._session is None:
            self.load()
        said = self._session.run(None, {self._session.get_inputs()[0].name: rows})[0]
        return np.asarray(said, np.float64)


    def classes_in(self, rows: bytes) -> list[list[float]]:
        """Return `classes` of the rows in these bytes: as plain numbers, for who has no numpy."""
        import numpy as np

        found: list[list[float]] = self.classes(np.frombuffer(rows, np.float32).reshape(-1, features.COUNT)).tolist()
        return found


def open_session(onnx: bytes) -> Any:
    """Return the onnxruntime session of a graph that has been tried. Raises BundleError, see Net.load."""
    try:
        import numpy as np
        import onnxruntime
    except ImportError as missing:
        raise BundleError(f"model.onnx needs {missing.name or missing}: pip install 'oomguard[onnx]'") from None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.enable_cpu_mem_arena = False        # megabytes, for rows of 400 bytes
    options.log_severity_level = 4
    try:
        session = onnxruntime.InferenceSession(onnx, options, providers=["CPUExecutionProvider"])
        tried = session.run(None, {session.get_inputs()[0].name: np.full((2, features.COUNT), np.nan, np.float32)})
    except Exception as problem:  # noqa: BLE001  onnxruntime raises classes of its own for whatever bytes hold
        raise BundleError(f"model.onnx: {type(problem).__name__}: {str(problem)[:200]}") from None
    if len(tried) != 1 or getattr(tried[0], "shape", ()) != (2, CLASSES):
        raise BundleError(f"model.onnx: it gives no [rows, {CLASSES}] for [rows, {features.COUNT}]")
    return session
