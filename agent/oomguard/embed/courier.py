"""Calls what the app gave us, in order, on a thread of its own: it may raise or block and no tick is late."""

from __future__ import annotations

import threading
from collections.abc import Callable
from queue import Empty, SimpleQueue

from oomguard.clock import now_s

WAITING_MOST = 256          # calls that wait behind one that blocks; the oldest go first
BLOCKED_AFTER_S = 5.0
FAREWELL_S = 1.0            # how long `join` waits for the calls that are left

Complain = Callable[[str, str], None]       # (event, because)
_Call = tuple[Callable[..., object], tuple[object, ...]]


class Courier:
    """The thread and the calls that wait for it."""

    __slots__ = ("_busy_since_s", "_calls", "_complain", "_has_complained", "_is_closed", "_thread", "dropped")

    def __init__(self, complain: Complain) -> None:
        """Start nothing yet. Args: complain: told of calls that raise or block; must do neither."""
        self._complain = complain
        self._calls: SimpleQueue[_Call | None] = SimpleQueue()
        self._busy_since_s = 0.0            # 0: not in a call
        self._has_complained = self._is_closed = False
        self._thread: threading.Thread | None = None
        self.dropped = 0

    def start(self) -> None:
        """Start the thread while memory is plenty."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="oomguard-calls", daemon=True)
            self._thread.start()

    def post(self, call: Callable[..., object], *arguments: object) -> None:
        """Have `call(*arguments)` called soon. Never blocks."""
        if self._is_closed:
            return
        self.start()
        if self._calls.qsize() >= WAITING_MOST:
            self._drop_oldest()
        self._calls.put((call, arguments))

    def look(self) -> None:
        """Complain, once, of a call that has been blocking; the guard's thread asks at every tick."""
        since_s = self._busy_since_s
        if since_s and now_s() - since_s >= BLOCKED_AFTER_S and not self._has_complained:
            self._has_complained = True
            self._complain("callback-blocks", f"a callback has not returned for {now_s() - since_s:.0f} s; "
                                              "those after it wait, the guard goes on")

    def close(self) -> None:
        """Take no more calls; the thread makes those that wait, then ends."""
        self._is_closed = True
        if self._thread is not None:
            self._calls.put(None)

    def join(self) -> None:
        """Wait for the calls that are left; one that blocks is left to itself."""
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(FAREWELL_S)

    def _drop_oldest(self) -> None:
        try:
            self._calls.get_nowait()
            self.dropped += 1
        except Empty:               # the thread took it meanwhile
            return

    def _run(self) -> None:
        while (each := self._calls.get()) is not None:
            call, arguments = each
            self._busy_since_s = now_s()
            try:
                call(*arguments)
            except BaseException as error:  # noqa: BLE001  the app's code: what it raised is told, and the guard goes on
                self._complain("callback-failed", f"{_name(call)} raised {_words(error)}")
            self._busy_since_s, self._has_complained = 0.0, False
            del each, call, arguments       # hold nothing of the app's while waiting


def _name(call: Callable[..., object]) -> str:
    return str(getattr(call, "__qualname__", None) or type(call).__name__)


def _words(error: BaseException) -> str:
    try:
        return f"{type(error).__name__}: {error}"[:500]
    except BaseException as worse:  # noqa: BLE001  even an error's own text is the app's code
        return f"{type(error).__name__} (its text raised {type(worse).__name__})"
