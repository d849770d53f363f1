"""The messages between the daemon and its helper: a JSON object per SOCK_SEQPACKET record, up to 64 KiB.

Contract: whatever bytes arrive, reading them gives a message or raises HelperError. Plain os.read and
os.write keep the boundaries of a SOCK_SEQPACKET socket (a read gives one record), so the helper needs no
`socket` module, 1.4 MB of RSS (measured). An empty record is never sent: it reads as the end.
"""

from __future__ import annotations

import math
import os

from oomguard.errors import HelperError
from oomguard.lean_json import decoder, encoder

VERSION = 2             # 2: a command says whose it is; a helper of 1 would run it with its own rights
MESSAGE_MAX_BYTES = 64 * 1024

Message = dict[str, object]

_encode, _decode = encoder(allow_nan=False, separators=(",", ":")), decoder()


def encode(message: Message) -> bytes:
    """Return the record of a message. Raises HelperError when it is too long or holds what JSON cannot."""
    try:
        data = _encode(message).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise HelperError(f"a message cannot be written: {error}") from error
    if len(data) > MESSAGE_MAX_BYTES:
        raise HelperError(f"a message of {len(data)} bytes is longer than {MESSAGE_MAX_BYTES}")
    return data


def decode(data: bytes) -> Message:
    """Return the message in a record. Raises HelperError for anything else."""
    if len(data) > MESSAGE_MAX_BYTES:
        raise HelperError(f"a message is longer than {MESSAGE_MAX_BYTES} bytes")
    try:
        message = _decode(data.decode())
    except (ValueError, RecursionError) as error:   # UnicodeDecodeError is a ValueError
        raise HelperError(f"a message is not JSON: {error}") from error
    if type(message) is not dict:
        raise HelperError(f"a message is {type(message).__name__}, not an object")
    return message


def send(fd: int, message: Message) -> None:
    """Send a message. Raises HelperError when the other end is gone, or does not read (non-blocking)."""
    data = encode(message)
    try:
        os.write(fd, data)
    except BlockingIOError:
        raise HelperError("the other end does not read its messages") from None
    except OSError as error:
        raise HelperError(f"the other end is gone ({error.strerror})") from error


def receive(fd: int) -> Message | None:
    """Return the next message, None at the end. Raises BlockingIOError while there is none, HelperError."""
    try:
        data = os.read(fd, MESSAGE_MAX_BYTES + 1)
    except BlockingIOError:
        raise
    except OSError:
        return None     # reset: the same as gone
    return decode(data) if data else None


def whole(message: Message, key: str) -> int:
    """Return a field that must be a whole number from 0. Raises HelperError."""
    value = message.get(key)
    if type(value) is not int or value < 0:
        raise HelperError(_wrong(key, value, "a whole number from 0"))
    return value


def number(message: Message, key: str) -> float:
    """Return a field that must be a finite number from 0. Raises HelperError."""
    value = message.get(key)
    if type(value) is int or type(value) is float:
        try:
            known = float(value)
        except OverflowError:
            known = math.inf
        if 0 <= known < math.inf:
            return known
    raise HelperError(_wrong(key, value, "a number from 0"))


def text(message: Message, key: str) -> str:
    """Return a field that must be text. Raises HelperError."""
    value = message.get(key)
    if type(value) is not str:
        raise HelperError(_wrong(key, value, "text"))
    return value


def flag(message: Message, key: str) -> bool:
    """Return a field that must be true or false. Raises HelperError."""
    value = message.get(key)
    if type(value) is not bool:
        raise HelperError(_wrong(key, value, "true or false"))
    return value


def texts(message: Message, key: str) -> list[str]:
    """Return a field that must be a list of texts without NUL, at least one. Raises HelperError."""
    value = message.get(key)
    if type(value) is list and value and all(type(item) is str and "\0" not in item for item in value):
        return value
    raise HelperError(_wrong(key, value, "a list of texts"))


def tables(message: Message, key: str) -> list[list[float]]:
    """Return a field that must be a list of lists of numbers within 0…1. Raises HelperError."""
    value = message.get(key)
    if type(value) is list and all(type(row) is list and all(_is_share(item) for item in row) for row in value):
        return value
    raise HelperError(_wrong(key, value, "a list of lists of numbers within 0..1"))


def _is_share(item: object) -> bool:
    return type(item) is float and 0 <= item <= 1


def _wrong(key: str, value: object, what: str) -> str:
    shown = type(value).__name__ if isinstance(value, (dict, list)) else repr(value)[:60]   # repr may recurse
    return f"{key}: {shown} is not {what}"
