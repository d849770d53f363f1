"""Reads a password from its file, at the moment it is needed: it is in no plan, message, note or log."""

from __future__ import annotations

import os

from oomguard.act.servers.ask import ServerError

SECRET_MAX_BYTES = 4096


def read_secret(path: str) -> str:
    """Return the first line of a file. Raises ServerError."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            data = os.read(fd, SECRET_MAX_BYTES + 1)
        finally:
            os.close(fd)
        secret = data.split(b"\n", 1)[0].rstrip(b"\r").decode()
    except (OSError, UnicodeDecodeError) as error:
        raise ServerError(f"password_file {path}: {error}") from error
    if not secret or len(data) > SECRET_MAX_BYTES:
        raise ServerError(f"password_file {path}: its first line is no password")
    return secret
