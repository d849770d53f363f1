"""Where recordings are kept when nobody names a folder."""

from __future__ import annotations

import os
from collections.abc import Mapping

SYSTEM_DIR = "/var/lib/oomguard"


def state_dir(environ: Mapping[str, str] | None = None) -> str:
    """Return the folder of what outlives a boot; it need not exist yet.

    `$STATE_DIRECTORY` (set by systemd for the unit), else /var/lib/oomguard for root, else
    `$XDG_STATE_HOME/oomguard`, else ~/.local/state/oomguard.
    """
    environ = os.environ if environ is None else environ
    given = environ.get("STATE_DIRECTORY", "").split(":")[0]
    if given.startswith("/"):
        return given
    if os.geteuid() == 0:
        return SYSTEM_DIR
    base = environ.get("XDG_STATE_HOME", "")
    return os.path.join(base if base.startswith("/") else os.path.expanduser("~/.local/state"), "oomguard")


def journal_dir(state: str) -> str:
    """Return the folder of the service's journal."""
    return os.path.join(state, "journal")


def recording_dir(state: str, name: str) -> str:
    """Return the folder of one target's own journal: `record start` and `exec` keep out of the service's."""
    safe = "".join(c if c.isascii() and (c.isalnum() or c in "-_") else f"%{ord(c):x}%" for c in name)
    return os.path.join(state, "recordings", safe[:100])
