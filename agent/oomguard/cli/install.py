"""`oomguard install --unit X`: let a service's program hear the guard, by a drop-in of systemd's."""

from __future__ import annotations

import argparse
import os
import re
import sys
from contextlib import suppress

from oomguard.errors import NotPermittedError, UsageError
from oomguard.tell.paths import PRESSURE_SOCKET
from oomguard.tell.pressure import WATCH, WRITE

NAME = "install"
HELP = "let a service hear the guard: write the drop-in that sets MEMORY_PRESSURE_WATCH for its unit"
EXAMPLES = """\
  oomguard install --unit player.service --dry-run     show the drop-in
  oomguard install --unit player.service               write it
  systemctl daemon-reload && systemctl restart player  and from then on it is told
  oomguard install --unit player.service --remove      take it away again
"""
SYSTEM_UNITS = "/etc/systemd/system"
DROP_IN = "50-oomguard.conf"
OURS = re.compile(r"oomguard[\w@-]*\.(service|slice|socket)")
UNIT = re.compile(r"[A-Za-z0-9:_.\\@-]{1,240}\.service")      # as systemd.unit(5) has it


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what `install` takes."""
    parser.add_argument("--unit", metavar="UNIT", required=True, help="whose program is to hear the guard")
    parser.add_argument("--socket", metavar="PATH", default=PRESSURE_SOCKET,
                        help="where the guard's pressure socket is (default: %(default)s)")
    action = parser.add_mutually_exclusive_group()
    action.add_argument("--dry-run", action="store_true", help="print the drop-in and write nothing")
    action.add_argument("--remove", action="store_true", help="take the drop-in away")
    parser.add_argument("--root", metavar="DIR", default="/", help="the system's root, as of an image being built")


def run(args: argparse.Namespace) -> int:
    """Print, write or remove the drop-in."""
    unit = unit_name(args.unit)
    path = os.path.join(args.root, SYSTEM_UNITS.lstrip("/"), f"{unit}.d", DROP_IN)
    if args.dry_run:
        print(f"# {path}\n{drop_in(args.socket)}", end="")
        return 0
    if args.remove:
        return _remove(path, unit)
    _write(path, drop_in(args.socket))
    print(f"wrote {path}\nnow run: systemctl daemon-reload && systemctl restart {unit}")
    if args.root == "/" and not os.path.exists(args.socket):
        print(f"oomguard: there is no {args.socket} yet: enable oomguard-pressure.socket before the unit starts, or"
              " its program will not listen", file=sys.stderr)
    return 0


def unit_name(text: str) -> str:
    """Return the unit's full name. Raises UsageError where it is none, or one of the guard's own."""
    name = text if text.endswith(".service") else f"{text}.service"
    if not UNIT.fullmatch(name):
        raise UsageError(f"{text!r} is not a service's name, such as player.service")
    if OURS.fullmatch(name):
        raise UsageError(f"{name} is the guard itself: it would wake itself for ever")
    return name


def drop_in(socket: str) -> str:
    """Return the drop-in's text. Raises UsageError where the protocol's readers would refuse the path."""
    if not socket.startswith("/") or os.path.normpath(socket) != socket or not re.fullmatch(r"[\w/.@:+-]+", socket):
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


def _write(path: str, text: str) -> None:
    """Write it whole or not at all."""
    making = f"{path}.{os.getpid()}"
    try:
        os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
        with open(making, "w", encoding="utf-8") as file:
            file.write(text)
        os.chmod(making, 0o644)
        os.rename(making, path)
    except OSError as error:
        with suppress(OSError):
            os.unlink(making)
        raise NotPermittedError(f"cannot write {path}: {error.strerror}; run as root, or see --dry-run") from None


def _remove(path: str, unit: str) -> int:
    try:
        os.unlink(path)
    except FileNotFoundError:
        print(f"there is no {path}")
        return 0
    except OSError as error:
        raise NotPermittedError(f"cannot remove {path}: {error.strerror}; run as root") from None
    with suppress(OSError):         # others have drop-ins there
        os.rmdir(os.path.dirname(path))
    print(f"removed {path}\nnow run: systemctl daemon-reload && systemctl restart {unit}")
    return 0
