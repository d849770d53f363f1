"""The terminal: put into full-screen mode and back, painted, its keys read; by curses."""

from __future__ import annotations

import contextlib
import locale
import os
from collections.abc import Sequence

from oomguard.errors import UsageError
from oomguard.top.text import Line, cells

try:
    import curses
except ImportError:                     # some Pythons are built without it
    curses = None                       # type: ignore[assignment]

FALLBACKS = ("xterm-256color", "xterm", "vt100")        # a terminal newer than this machine's terminfo
ESCAPE_MS = 25                          # how long ESC may be the beginning of a key: more is felt, less breaks over ssh
EMPTY_READS_MAX = 20                    # reads without a key although one was announced: the terminal is gone


class Screen:
    """A terminal in full-screen mode between `open` and `close`; `close` may be called at any time, and twice."""

    def __init__(self, fd: int = 1) -> None:
        """Args: fd: of the terminal."""
        self._fd, self._is_open, self._empty_reads = fd, False, 0
        self._styles: dict[str, int] = {}
        self.is_ascii = False

    def open(self) -> None:
        """Take the terminal. Raises UsageError where there is none that can be drawn on."""
        if curses is None:
            raise UsageError("this Python was built without curses: use `oomguard status`")
        if not (os.isatty(0) and os.isatty(self._fd)):
            raise UsageError("top needs a terminal: use `oomguard status`, or `oomguard status --json`")
        with contextlib.suppress(locale.Error):
            locale.setlocale(locale.LC_ALL, "")
        self.is_ascii = (locale.nl_langinfo(locale.CODESET).upper() != "UTF-8"
                         or os.environ.get("TERM", "").startswith(("linux", "vt")))
        self._set_terminal()
        self._window = curses.initscr()
        self._is_open = True
        curses.noecho()
        curses.cbreak()
        self._window.keypad(True)
        self._window.nodelay(True)
        curses.set_escdelay(ESCAPE_MS)
        with contextlib.suppress(curses.error):         # a terminal that cannot hide it
            curses.curs_set(0)
        self._set_styles()

    def close(self) -> None:
        """Give the terminal back as it was."""
        if self._is_open:
            self._is_open = False
            with contextlib.suppress(curses.error):     # gone, as after an ssh that broke
                curses.endwin()

    def size(self) -> tuple[int, int]:
        """Return width and height in cells."""
        height, width = self._window.getmaxyx()
        return width, height

    def resize(self) -> None:
        """Take up the terminal's new size."""
        with contextlib.suppress(OSError, curses.error):
            size = os.get_terminal_size(self._fd)
            curses.resizeterm(max(size.lines, 1), max(size.columns, 1))
            self._window.clear()

    def redraw(self) -> None:
        """Draw every cell anew at the next paint: something else wrote to the terminal."""
        self._window.clear()

    def paint(self, lines: Sequence[Line]) -> None:
        """Show these lines; only what changed goes to the terminal."""
        width, height = self.size()
        self._window.erase()
        for row, line in enumerate(lines[:height]):
            column = 0
            for text, style in line:
                with contextlib.suppress(curses.error):     # the last cell of the last line cannot be written alone
                    self._window.addstr(row, column, text, self._styles.get(style, 0))
                column += cells(text)
                if column >= width:
                    break
        self._window.refresh()

    def pressed(self) -> list[str]:
        """Return the keys pressed since. Raises EOFError when the terminal is gone."""
        found = []
        while (code := self._window.getch()) != -1:
            found.append(curses.keyname(code).decode("ascii", "replace"))
        self._empty_reads = 0 if found else self._empty_reads + 1
        if self._empty_reads > EMPTY_READS_MAX:
            raise EOFError
        return found

    def _set_terminal(self) -> None:
        for name in (os.environ.get("TERM") or "dumb", *FALLBACKS):
            try:
                curses.setupterm(name, self._fd)
            except curses.error:
                continue
            if not curses.tigetstr("cup"):
                raise UsageError(f"the terminal {name} cannot be drawn on: use `oomguard status`")
            os.environ["TERM"] = name
            return
        raise UsageError("no terminal is known here (TERM, terminfo): use `oomguard status`")

    def _set_styles(self) -> None:
        plain = {"title": curses.A_BOLD, "head": curses.A_BOLD, "dim": curses.A_DIM, "chosen": curses.A_REVERSE,
                 "warn": curses.A_BOLD, "alarm": curses.A_BOLD, "chosen-alarm": curses.A_REVERSE | curses.A_BOLD}
        self._styles = plain
        with contextlib.suppress(curses.error):         # no colours: bold and reverse say it
            curses.start_color()
            curses.use_default_colors()
            colours = (("warn", curses.COLOR_YELLOW), ("alarm", curses.COLOR_RED), ("chosen-alarm", curses.COLOR_RED),
                       ("title", curses.COLOR_CYAN))
            for pair, (name, colour) in enumerate(colours, 1):
                curses.init_pair(pair, colour, -1)
                self._styles[name] = plain[name] | curses.color_pair(pair)
