"""The loop of the view: waits for keys, the guard and signals, and paints when something changed."""

from __future__ import annotations

import copy
import os
import select
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from oomguard.top.link import Link
from oomguard.top.page import Ui, page
from oomguard.top.scene import SORTS, Scene
from oomguard.top.screen import Screen

CLOCK_S = 1.0                   # what is shown ages, so it is painted at least so often
HISTORIES_PER_WAKE = 16         # the guard takes 50 requests at once, then 200 a second, from one client
_PAGE_ROWS = 10
_ENDS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Top:
    """Scene, link, screen, and what the user does."""

    def __init__(self, path: str, every_s: float, ui: Ui, screen: Screen) -> None:
        """Args: path: the control socket. every_s: between two looks at the guard."""
        self.ui = ui
        self._link, self._screen = Link(path, every_s), screen
        self._scene = Scene()
        self._frozen: tuple[Scene, float] | None = None
        self._unasked: list[str] = []           # targets whose past is still to be asked for
        self._is_over = False

    def run(self) -> None:
        """Show until the user has seen enough or the terminal is gone; the terminal is always given back."""
        with _signals() as (wake_fd, seen):
            self._screen.open()
            self.ui.is_ascii = self.ui.is_ascii or self._screen.is_ascii
            try:
                self._loop(wake_fd, seen)
            except EOFError:
                pass                            # the terminal is gone, nobody looks any more
            finally:
                self._screen.close()
                self._link.close()

    def _loop(self, wake_fd: int, seen: list[int]) -> None:
        while not self._is_over:
            t_s = time.monotonic()
            self._link.tick(t_s)
            self._scene.is_old = not self._link.is_there
            self._ask_histories()
            self._paint(t_s)
            ready = self._wait(wake_fd, t_s)
            if wake_fd in ready:
                os.read(wake_fd, 512)
                self._heed(seen)
            if 0 in ready:
                for key in self._screen.pressed():
                    self._press(key)
            if self._link.fileno() in ready:
                self._hear()

    def _wait(self, wake_fd: int, t_s: float) -> set[int]:
        poll = select.poll()
        for fd in (0, wake_fd, self._link.fileno()):
            if fd >= 0:
                poll.register(fd, select.POLLIN)
        wait_s = min(max(self._link.due_s() - t_s, 0.0), CLOCK_S)
        return {fd for fd, _events in poll.poll(wait_s * 1000 + 1)}

    def _hear(self) -> None:
        t_s, at = time.monotonic(), time.time()
        for message in self._link.read(t_s):
            self._unasked += self._scene.take(message, t_s, at)
            if message.get("event") in ("level", "release", "kill"):
                self._link.ask_status(t_s)

    def _ask_histories(self) -> None:
        now, self._unasked = self._unasked[:HISTORIES_PER_WAKE], self._unasked[HISTORIES_PER_WAKE:]
        for name in now:
            self._link.send({"op": "history", "id": "history", "target": name})

    def _paint(self, t_s: float) -> None:
        scene, t_s = self._frozen or (self._scene, t_s)
        self._screen.paint(page(scene, self.ui, self._link.trouble, self._screen.size(), t_s))

    def _heed(self, seen: list[int]) -> None:
        while seen:
            number = seen.pop()
            if number == signal.SIGWINCH:
                self._screen.resize()
            elif number == signal.SIGCONT:
                self._screen.redraw()
            else:
                self._is_over = True

    def _press(self, key: str) -> None:
        ui = self.ui
        if ui.is_help and key != "q":
            ui.is_help = False
        elif key in ("q", "Q"):
            self._is_over = True
        elif key in ("?", "h"):
            ui.is_help = True
        elif key in ("s", "S"):
            ui.sort = SORTS[(SORTS.index(ui.sort) + (1 if key == "s" else -1)) % len(SORTS)]
        elif key in ("p", " "):
            ui.is_paused = not ui.is_paused
            self._frozen = (copy.deepcopy(self._scene), time.monotonic()) if ui.is_paused else None
        elif key == "^L":
            self._screen.redraw()
        else:
            self._move(key)

    def _move(self, key: str) -> None:
        tracks = (self._frozen[0] if self._frozen else self._scene).sorted_tracks(self.ui.sort)
        steps = {"KEY_UP": -1, "k": -1, "KEY_DOWN": 1, "j": 1, "KEY_PPAGE": -_PAGE_ROWS, "KEY_NPAGE": _PAGE_ROWS,
                 "KEY_HOME": -len(tracks), "g": -len(tracks), "KEY_END": len(tracks), "G": len(tracks)}
        if key in steps and tracks:
            names = [track.name for track in tracks]
            place = names.index(self.ui.chosen) if self.ui.chosen in names else 0
            self.ui.chosen = names[min(max(place + steps[key], 0), len(names) - 1)]


@contextmanager
def _signals() -> Iterator[tuple[int, list[int]]]:
    """Note signals instead of being interrupted by them: yields a descriptor that wakes, and what was seen."""
    seen: list[int] = []
    read_fd, write_fd = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    numbers = (*_ENDS, signal.SIGWINCH, signal.SIGCONT)
    before = {number: signal.signal(number, lambda number, _frame: seen.append(number)) for number in numbers}
    waker = signal.set_wakeup_fd(write_fd, warn_on_full_buffer=False)
    try:
        yield read_fd, seen
    finally:
        signal.set_wakeup_fd(waker)
        for number, handler in before.items():
            with suppress(TypeError):           # None: it was not set by Python
                signal.signal(number, handler)
        os.close(read_fd)
        os.close(write_fd)
