"""Which files a name of rules stands for: one file, or a folder's oomguard.yaml, its rules.d and its device.yaml."""

from __future__ import annotations

import os
import stat
from typing import NamedTuple

from oomguard.decide.yaml_lines import YAML_MAX_BYTES
from oomguard.errors import ConfigError

MAIN = "oomguard.yaml"
DROP_INS = "rules.d"
DEVICE = "device.yaml"
SUFFIXES = (".yaml", ".yml")
FILES_MOST = 256            # a folder with more is a mistake, and each may hold 256 KiB


class RuleFiles(NamedTuple):
    """The files to be read, in order, and the one that says what device this is where none of them does."""

    rules: tuple[str, ...]
    device: str = ""


def files_of(path: str) -> RuleFiles:
    """Return the files that a path stands for. Raises ConfigError where a folder cannot be listed or holds too many."""
    if not os.path.isdir(path):
        return RuleFiles((path,))
    folder, device = os.path.join(path, DROP_INS), os.path.join(path, DEVICE)
    try:
        names = sorted(os.listdir(folder))
    except FileNotFoundError:
        names = []
    except OSError as error:
        raise ConfigError(f"cannot be listed: {error.strerror}", file=folder) from None
    names = [name for name in names if name.endswith(SUFFIXES) and not name.startswith(".")]
    if len(names) > FILES_MOST:
        raise ConfigError(f"{len(names)} files are more than {FILES_MOST}", file=folder)
    rules = (os.path.join(path, MAIN), *(os.path.join(folder, name) for name in names))
    return RuleFiles(rules, device if os.path.lexists(device) else "")


def read_text(path: str) -> str:
    """Return a file's text; one byte more than allowed shows that it is too large. Raises ConfigError."""
    try:
        with open(path, "rb", opener=_open_quickly) as stream:
            if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
                raise ConfigError("is not a regular file", file=path)
            data = stream.read(YAML_MAX_BYTES + 1)
        return data.decode("utf-8-sig")
    except (OSError, ValueError) as error:      # ValueError: not UTF-8, or a path with a NUL
        reason = error.strerror if isinstance(error, OSError) else error
        raise ConfigError(f"cannot be read: {reason}", file=path) from None


def _open_quickly(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK | os.O_CLOEXEC)      # a FIFO must not hang the start
