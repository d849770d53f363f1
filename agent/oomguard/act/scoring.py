"""The daemon's end of a net: hands the helper its bytes, then rows of features, and takes in what it says of them.

Contract: nothing here waits, and at most TOGETHER messages are on their way at once, so that the channel never fills.
An asker has at most one row waiting, the newest. Whatever the helper refuses leaves the plain levels in charge.
"""

from __future__ import annotations

from binascii import b2a_base64
from collections.abc import Callable
from math import inf

from oomguard.act.link import Answer, Scored
from oomguard.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from oomguard.act.channel import Message
    from oomguard.net_scorer import Asker

PART_BYTES = 45_000     # 60,000 characters, in a message of at most 64 KiB
ROWS_MOST = 64          # in a message: 30,000 characters with 89 features
TOGETHER = 2
PATIENCE_S = 10.0       # to import onnxruntime takes 0.3 s (2026-11, the project's x86 machine), much more on a device


class Scoring:
    """One net in the helper, and who asks it."""

    __slots__ = ("_asked", "_expires_s", "_is_loaded", "_part_ticket", "_sent", "_take_ticket", "_tell", "_waiting",
                 "onnx", "problem")

    def __init__(self, onnx: bytes, take_ticket: Callable[[], int], tell: Callable[..., None]) -> None:
        """Say what is run.

        Args:
            take_ticket: returns a ticket that no other message carries.
            tell: told when the helper has loaded the net, or refused it.
        """
        self.onnx, self._take_ticket, self._tell = onnx, take_ticket, tell
        self._waiting: dict[Asker, tuple[int, bytes]] = {}
        self.problem = ""
        self._begin()

    def _begin(self) -> None:
        self._asked: dict[int, list[tuple[Asker, int]]] = {}    # by ticket: who asked, at which tick
        self._sent, self._part_ticket, self._is_loaded = 0, -1, False
        self._expires_s = inf

    def ask(self, asker: Asker, tick: int, row: bytes) -> None:
        """Note a row; `speak` sends it."""
        self._waiting[asker] = (tick, row)

    def forget(self, asker: Asker) -> None:
        """Tell this asker nothing more."""
        self._waiting.pop(asker, None)
        self._asked = {ticket: [pair for pair in pairs if pair[0] is not asker]
                       for ticket, pairs in self._asked.items()}

    def is_overdue(self, now_s: float) -> bool:
        """Return whether the helper owes an answer for too long."""
        return now_s >= self._expires_s

    def lost(self, why: str) -> None:
        """Take in that the helper is gone: the next one is handed the net anew."""
        self._begin()
        self.problem = f"the helper that runs the net is gone: {why}"

    def speak(self, send: Callable[[Message], None], now_s: float) -> None:
        """Send what may be sent now. Raises HelperError where that fails."""
        if self._part_ticket < 0 and self._sent < len(self.onnx):
            self._part_ticket = self._take_ticket()
            part = self.onnx[self._sent:self._sent + PART_BYTES]
            send({"ticket": self._part_ticket, "do": "net", "at": self._sent, "of": len(self.onnx),
                  "data": _text(part)})
            self._sent += len(part)
            self._expires_s = now_s + PATIENCE_S
        while self._is_loaded and self._waiting and len(self._asked) < TOGETHER:
            askers = list(self._waiting)[:ROWS_MOST]
            rows = [self._waiting.pop(asker) for asker in askers]
            ticket = self._take_ticket()
            send({"ticket": ticket, "do": "score", "rows": _text(b"".join(row for _tick, row in rows))})
            self._asked[ticket] = [(asker, tick) for asker, (tick, _row) in zip(askers, rows, strict=True)]
            self._expires_s = min(self._expires_s, now_s + PATIENCE_S)

    def hear(self, heard: Answer | Scored) -> bool:
        """Take in an answer; return False if it is none of ours."""
        if heard.ticket == self._part_ticket and isinstance(heard, Answer):
            self._part_ticket, self._expires_s = -1, inf
            self.problem = heard.why
            if not heard.ok:
                self._sent = len(self.onnx)         # refused: it would be again
                self._tell("net-refused", "warning", because=heard.why, what_follows="the plain levels hold")
            elif self._sent >= len(self.onnx):
                self._is_loaded = True
                self._tell("net-loaded", bytes=len(self.onnx), took_s=round(heard.duration_s, 3))
            return True
        pairs = self._asked.pop(heard.ticket, None)
        if pairs is None:
            return False
        self._expires_s = inf if not self._asked else self._expires_s
        self.problem = heard.why if isinstance(heard, Answer) else ""
        if isinstance(heard, Scored):
            for (asker, tick), classes in zip(pairs, heard.classes, strict=False):
                asker.answered(tick, classes)
        return True


def _text(data: bytes) -> str:
    return b2a_base64(data, newline=False).decode()
