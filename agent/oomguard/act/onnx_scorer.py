"""The helper's end of a net: puts its bytes together, loads it, and says the classes of rows.

Only a helper that is handed a net imports this, and with it numpy and onnxruntime: the daemon never does.
"""

from __future__ import annotations

import sys
from binascii import Error, a2b_base64

import oomguard.features
from oomguard.act import channel
from oomguard.errors import BundleError, HelperError
from oomguard.forest import HORIZONS_S
from oomguard.net import MAX_BYTES, Net

ROW_BYTES = 4 * oomguard.features.COUNT


class OnnxScorer:
    """One net, or the part of it that has come."""

    __slots__ = ("_data", "_net")

    def __init__(self) -> None:
        self._data = b""
        self._net: Net | None = None

    def take(self, message: channel.Message) -> None:
        """Take a part of the net; with the last one it is loaded. Raises HelperError that says why it is not."""
        at, whole = channel.whole(message, "at"), channel.whole(message, "of")
        if at == 0:
            self._data, self._net = b"", None
        if at != len(self._data) or not 0 < whole <= MAX_BYTES:
            raise HelperError(f"a part of a net at {at} of {whole} bytes, where {len(self._data)} have come")
        self._data += _bytes(message, "data")
        if len(self._data) < whole:
            return
        data, self._data = self._data, b""
        _find_packages()
        everywhere = [-float("inf")] * oomguard.features.COUNT, [float("inf")] * oomguard.features.COUNT
        try:
            net = Net(data, *everywhere, [()] * len(HORIZONS_S))        # ranges and calibration are the daemon's part
            net.load()
        except BundleError as error:
            raise HelperError(str(error)) from None
        self._net = net

    def score(self, message: channel.Message) -> list[list[float]]:
        """Return the classes of each row; an empty list for a row of which the net says no number.

        Raises:
            HelperError: there is no net, or these are no rows.
        """
        data = _bytes(message, "rows")
        if self._net is None or not data or len(data) % ROW_BYTES:
            raise HelperError("there is no net" if self._net is None else f"{len(data)} bytes are no rows")
        return [row if all(0 <= share <= 1 for share in row) else [] for row in self._net.classes_in(data)]  # NaN: not


def _bytes(message: channel.Message, key: str) -> bytes:
    try:
        return a2b_base64(channel.text(message, key), strict_mode=True)
    except (Error, ValueError) as error:
        raise HelperError(f"{key}: {error}") from None


def _find_packages() -> None:
    """Do what `site` does at a usual start: the helper is started without it, and finds the standard library alone."""
    if "site" not in sys.modules:
        import site

        site.main()
