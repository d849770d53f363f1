"""Ctrl-C between two turns of a loop, never within one: a cgroup half made belongs to nobody yet.

Nor within an import of compiled code, some of which ends the process when its set-up is interrupted (DuckDB's does).
"""

from __future__ import annotations

import signal
import threading
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from types import FrameType


class CtrlC:
    """Holds SIGINT back while it is entered. A second one is not held back: the turn may hang."""

    def __init__(self) -> None:
        """Nothing changes yet."""
        self._came = False
        self._before: Any = None

    def __enter__(self) -> CtrlC:
        """Hold it back; only the main thread gets signals."""
        if threading.current_thread() is threading.main_thread():
            self._before = signal.signal(signal.SIGINT, self._note)
        return self

    def __exit__(self, kind: type[BaseException] | None, *_rest: object) -> None:
        """Let it through again, with one that came and was not asked for yet."""
        if self._before is not None:
            signal.signal(signal.SIGINT, self._before)
        if kind is None:
            self.check()

    def check(self) -> None:
        """Raise KeyboardInterrupt if it came since."""
        if self._came:
            self._came = False
            raise KeyboardInterrupt

    def _note(self, _number: int, _frame: FrameType | None) -> None:
        if self._came:
            raise KeyboardInterrupt
        self._came = True
