"""The drop-ins that `install` writes: an app's unit hears the guard, the guard's hooks may do more."""

from __future__ import annotations

import os
import re

from oomguard.errors import UsageError
from oomguard.tell.pressure import WATCH, WRITE

SYSTEM_UNITS = "/etc/systemd/system"
DROP_IN = "50-oomguard.conf"
HOOKS_UNIT = "oomguard-hooks.service"
OURS = re.compile(r"oomguard[\w@-]*\.(service|slice|socket)")
UNIT = re.compile(r"[A-Za-z0-9:_.\\@-]{1,240}\.service")      # as systemd.unit(5) has it
USER = re.compile(r"[a-z_][a-z0-9_-]{0,31}")
PLAIN_PATH = re.compile(r"[\w/.@:+-]+")

_HEAD = "# Written by `oomguard install --allow {word}`; with --remove it takes it away again.\n"
ALLOWED = {
    "signal": """\
# Hooks may signal processes of other users: only those that catch, ignore or block the signal are sent any.
[Service]
AmbientCapabilities=CAP_KILL
CapabilityBoundingSet=CAP_KILL
""",
    "reclaim": """\
# Hooks may write other units' memory.reclaim, which is root's: with this right files of any owner may be written,
# as far as ProtectSystem= and ProtectHome= let them be seen as writable.
[Service]
AmbientCapabilities=CAP_DAC_OVERRIDE
CapabilityBoundingSet=CAP_DAC_OVERRIDE
ProtectControlGroups=no
ProtectSystem=strict
ReadWritePaths=/sys/fs/cgroup
""",
}


def unit_name(text: str) -> str:
    """Return the unit's full name. Raises UsageError where it is none, or one of the guard's own."""
    name = text if text.endswith(".service") else f"{text}.service"
    if not UNIT.fullmatch(name):
        raise UsageError(f"{text!r} is not a service's name, such as player.service")
    if OURS.fullmatch(name):
        raise UsageError(f"{name} is the guard itself: it would wake itself for ever")
    return name


def listener_path(unit: str) -> str:
    """Return where the drop-in of an app's unit goes."""
    return f"{SYSTEM_UNITS}/{unit}.d/{DROP_IN}"


def listener(socket: str) -> str:
    """Return its text. Raises UsageError where the protocol's readers would refuse the socket's path."""
    if not socket.startswith("/") or os.path.normpath(socket) != socket or not PLAIN_PATH.fullmatch(socket):
        raise UsageError(f"{socket!r} is not an absolute, normalised path of plain characters")
    return f"""\
# Written by `oomguard install`; `oomguard install --unit … --remove` takes it away.
# The program hears oomguard's forecast where systemd would have given it the unit's own memory.pressure file.
[Unit]
Wants=oomguard-pressure.socket
After=oomguard-pressure.socket

[Service]
Environment={WATCH}={socket}
# systemd's own trigger means nothing on this socket.
UnsetEnvironment={WRITE}
"""


def right_path(word: str) -> str:
    """Return where the drop-in goes that gives a right to the hooks."""
    return f"{SYSTEM_UNITS}/{HOOKS_UNIT}.d/50-oomguard-{word.partition('=')[0]}.conf"


def right(word: str) -> str:
    """Return its text: `signal`, `reclaim` or `user=NAME`. Raises UsageError for anything else."""
    kind, _equals, name = word.partition("=")
    if word in ALLOWED:
        return _HEAD.format(word=word) + ALLOWED[word]
    if kind == "user" and USER.fullmatch(name):
        return _HEAD.format(word=word) + f"# Hooks run as this user.\n[Service]\nUser={name}\nGroup=\n"
    raise UsageError(f"--allow {word!r} is not {', '.join(ALLOWED)} or user=NAME")
