"""The structured log: one line per event; it never blocks, never raises, and no input can forge a line."""

from __future__ import annotations

import _socket
import errno
import os
import stat
import time
from collections.abc import Mapping
from select import POLLOUT, poll

from oomguard.lean_json import encoder

LINE_MAX_BYTES = 4096       # PIPE_BUF: a pipe takes such a line whole or not at all
VALUE_MAX_CHARS = 1024
PRIORITIES = {"debug": 7, "info": 6, "notice": 5, "warning": 4, "error": 3, "critical": 2}     # syslog(3)
_RESERVE_BYTES = 64         # room for ` dropped=… truncated=true`
_quoted = encoder()         # ASCII only: every odd character is escaped


def is_journal(fd: int, environ: Mapping[str, str]) -> bool:
    """Return whether what is written to the descriptor goes to journald (JOURNAL_STREAM names it)."""
    try:
        status = os.fstat(fd)
    except OSError:
        return False
    return environ.get("JOURNAL_STREAM", "") == f"{status.st_dev}:{status.st_ino}"


class Log:
    """Writes one line per event to a descriptor it does not own.

    Where the reader is slow, gone or the disk is full, the line is dropped and counted; the next line that
    gets through says `dropped=N`. The descriptor's own flags are not touched: it is shared with others.
    """

    __slots__ = ("_fd", "_is_cut", "_is_journal", "_is_json", "_must_ask", "_socket", "dropped")

    def __init__(self, fd: int, is_json: bool = False, is_journal: bool = False) -> None:
        """Prepare to write.

        Args:
            fd: Where lines go, usually 2.
            is_json: One JSON object a line instead of logfmt.
            is_journal: Begin lines with `<4>` and leave the time to journald.
        """
        self._is_json, self._is_journal, self.dropped, self._is_cut = is_json, is_journal, 0, False
        self._fd, self._socket, self._must_ask = _own_descriptor(fd)

    def event(self, name: str, /, severity: str = "info", **fields: object) -> None:
        """Write one event.

        Args:
            name: What happened: `start`, `level`, `decision` …
            severity: A key of PRIORITIES. It is not called level: that word means 0…5 here.
            fields: Strings, numbers, booleans, None, or flat sequences of these. NaN is written as null.
        """
        line = self._line(name, severity, fields)
        try:
            written = self._write((b"\n" if self._is_cut else b"") + line)
        except OSError:             # full, closed, blocked: the guard goes on; the count tells later
            written = 0
        if written >= len(line):
            self.dropped, self._is_cut = 0, False
        else:
            self.dropped, self._is_cut = self.dropped + 1, self._is_cut or written > 0

    def close(self) -> None:
        """Close what was opened here; the caller's descriptor stays open."""
        if self._socket is not None:
            self._socket.close()
        elif self._fd >= 0:
            os.close(self._fd)
        self._fd, self._socket = -1, None

    def _write(self, line: bytes) -> int:
        if self._socket is not None:
            return self._socket.send(line, _socket.MSG_DONTWAIT | _socket.MSG_NOSIGNAL)
        if self._must_ask and not _is_writable(self._fd):
            return 0
        return os.write(self._fd, line)

    def _line(self, name: str, severity: str, fields: Mapping[str, object]) -> bytes:
        head: dict[str, object] = {} if self._is_journal else {"time": time.strftime("%Y-%m-%dT%H:%M:%S%z")}
        head["severity"], head["event"] = severity, name
        prefix = f"<{PRIORITIES.get(severity, 6)}>".encode() if self._is_journal else b""
        parts = [self._part(key, value) for key, value in head.items()]
        parts += [self._part(key if key.isidentifier() else "_", value) for key, value in fields.items()
                  if key not in head]
        kept = _fitting(parts, LINE_MAX_BYTES - _RESERVE_BYTES)
        if len(kept) < len(parts):
            kept.append(self._part("truncated", True))
        if self.dropped:
            kept.append(self._part("dropped", self.dropped))
        if self._is_json:
            return prefix + b"{" + b",".join(kept) + b"}\n"
        return prefix + b" ".join(kept) + b"\n"

    def _part(self, key: str, value: object) -> bytes:
        if self._is_json:
            return f"{_quoted(key)}:{_json_value(value)}".encode("ascii")
        return f"{key}={logfmt_value(value)}".encode("utf-8", "backslashreplace")


def logfmt_value(value: object) -> str:
    """Return a value as it stands after `key=`: bare where it can, else in quotes with escapes."""
    if isinstance(value, (tuple, list)):
        value = ",".join(_scalar(each) for each in value)
    text = _scalar(value)[:VALUE_MAX_CHARS]
    if text and text.isprintable() and not any(mark in text for mark in ' "=\\'):
        return text
    return f'"{escaped(text)}"'


def escaped(text: str) -> str:
    """Return the text with everything that could forge or hide output escaped.

    What `str.isprintable` refuses: control characters (ESC, newline, C1), line separators, characters that
    turn the reading direction, lone surrogates.
    """
    return "".join(_escaped_character(each) for each in text)


def _escaped_character(character: str) -> str:
    if character in '"\\':
        return "\\" + character
    if character.isprintable():
        return character
    known = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}.get(character)
    return known or (f"\\u{ord(character):04x}" if ord(character) < 0x10000 else f"\\U{ord(character):08x}")


def _scalar(value: object) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        if value - value != 0:              # NaN, infinity
            return "null"
        return str(int(value)) if value.is_integer() and abs(value) < 1e15 else f"{value:.6g}"
    return str(value)


def _json_value(value: object) -> str:
    if isinstance(value, (tuple, list)):
        return "[" + ",".join(_json_value(each) for each in value[:64]) + "]"
    if value is None or isinstance(value, (bool, int, float)):
        return _scalar(value)
    return _quoted(str(value)[:VALUE_MAX_CHARS])


def _fitting(parts: list[bytes], limit_bytes: int) -> list[bytes]:
    """Return the first parts that stay within the limit together."""
    size_bytes = 0
    for index, part in enumerate(parts):
        size_bytes += len(part) + 1
        if size_bytes > limit_bytes:
            return parts[:index]
    return list(parts)


def _is_writable(fd: int) -> bool:
    asked = poll()
    asked.register(fd, POLLOUT)
    return any(events & POLLOUT for _fd, events in asked.poll(0))


def _own_descriptor(fd: int) -> tuple[int, _socket.socket | None, bool]:
    """Return a descriptor that does not block, or a socket, and whether poll must be asked before a write.

    O_NONBLOCK belongs to the open file, which is shared with the shell and the app. So a pipe or a terminal
    is opened once more; a socket is told with every send; a file keeps its shared offset and does not block.
    """
    try:
        mode = os.fstat(fd).st_mode
        if stat.S_ISSOCK(mode):
            return -1, _socket.socket(fileno=os.dup(fd)), False
        if stat.S_ISFIFO(mode) or stat.S_ISCHR(mode):
            try:
                flags = os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
                return os.open(f"/proc/self/fd/{fd}", flags), None, False
            except OSError:         # another user's pipe, no /proc: ask poll, right for a single writer
                return os.dup(fd), None, True
        return os.dup(fd), None, False
    except OSError as error:
        if error.errno not in (errno.EBADF, errno.EMFILE, errno.ENFILE):
            raise
        return -1, None, False      # no descriptor: every line is dropped and counted
