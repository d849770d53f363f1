"""The lines of the control protocol, version 1: one JSON object a line, hostile until parsed."""

from __future__ import annotations

from collections.abc import Mapping

from oomguard.errors import OomguardError
from oomguard.lean_json import decoder, encoder, no_constant

VERSION = 1
REQUEST_MAX_BYTES = 64 * 1024
REPLY_MAX_BYTES = 1 << 20       # `status` of 1,000 targets takes about 0.4 MB

Message = dict[str, object]


class WireError(OomguardError):
    """A line is not of this protocol; the text goes back to whoever sent it."""

    exit_code = 1


_decode = decoder(parse_constant=no_constant)
_encode = encoder(allow_nan=False, separators=(",", ":"))


def decode(line: bytes) -> Message:
    """Return the object in one line (without its newline).

    Raises:
        WireError: Not UTF-8, not JSON, too deep (the interpreter's recursion limit), or not an object.
    """
    try:
        message = _decode(line.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise WireError(f"not UTF-8 at byte {error.start}") from None
    except RecursionError:
        raise WireError("JSON nested too deep") from None
    except ValueError as error:
        raise WireError(f"not JSON: {str(error)[:200]}") from None
    if not isinstance(message, dict):
        raise WireError(f"a message is a JSON object, this is a {type(message).__name__}")
    return message


def encode(message: Mapping[str, object]) -> bytes:
    """Return the message as one ASCII line, newline included; NaN and infinity become null.

    Raises:
        WireError: The line would be longer than REPLY_MAX_BYTES.
        TypeError: The message holds what JSON does not know.
    """
    try:
        text = _encode(message)
    except ValueError:                      # an unknown number; rare, so only then is the message walked
        text = _encode(_without_nan(message))
    if len(text) >= REPLY_MAX_BYTES:
        raise WireError(f"the answer takes {len(text)} bytes, more than {REPLY_MAX_BYTES}: ask for less")
    return text.encode("ascii") + b"\n"


def refusal(why: str, ident: object = None) -> bytes:
    """Return the line that says no, and why."""
    return encode({"v": VERSION, "id": ident, "ok": False, "error": why})


def _without_nan(value: object) -> object:
    if isinstance(value, float):
        return value if value - value == 0 else None        # inf - inf and NaN - NaN are NaN
    if isinstance(value, Mapping):
        return {key: _without_nan(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_nan(each) for each in value]
    return value


class Lines:
    """Cuts a byte stream into lines and holds at most `max_bytes` of an unfinished one."""

    __slots__ = ("_max_bytes", "_rest")

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes, self._rest = max_bytes, bytearray()

    @property
    def pending_bytes(self) -> int:
        """How much of an unfinished line is held."""
        return len(self._rest)

    def feed(self, chunk: bytes) -> list[bytes]:
        """Take the next bytes and return the lines they end, without newlines.

        Raises:
            WireError: A line is longer than allowed; nothing is held any more.
        """
        self._rest += chunk
        whole: list[bytes] = []
        if b"\n" in chunk:
            *ended, self._rest = self._rest.split(b"\n")
            whole = [bytes(line) for line in ended]
        if len(self._rest) > self._max_bytes or any(len(line) > self._max_bytes for line in whole):
            self._rest = bytearray()
            raise WireError(f"a line is longer than {self._max_bytes} bytes")
        return whole
