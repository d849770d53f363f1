"""`oomguard install`: the guard as a service of systemd's; services that hear it; rights for its hooks."""

from __future__ import annotations

import argparse
import os
import sys

from oomguard.cli.install_drop_ins import ALLOWED, HOOKS_UNIT, listener, listener_path, right, right_path, unit_name
from oomguard.cli.install_service import install, uninstall
from oomguard.cli.install_site import Site
from oomguard.errors import UsageError
from oomguard.tell.paths import PRESSURE_SOCKET

NAME = "install"
HELP = "install the guard as a service, let a service hear it, or give its hooks a right"
EXAMPLES = """\
  oomguard install --systemd                           units, users and /etc/oomguard; and start it
  oomguard install --systemd --uninstall               take them away again; what you changed stays
  oomguard install --unit player.service --dry-run     show the drop-in that lets player hear the guard
  oomguard install --unit player.service               write it; from its next start it is told
  oomguard install --unit player.service --uninstall   take it away again
  oomguard install --allow signal --allow reclaim      hooks may signal others' processes and reclaim others' memory
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what `install` takes."""
    parser.add_argument("--systemd", action="store_true", help="the guard itself: units, users, /etc/oomguard")
    parser.add_argument("--unit", metavar="UNIT", default="",
                        help="whose program is to hear the guard: the drop-in that sets MEMORY_PRESSURE_WATCH for it")
    parser.add_argument("--allow", metavar="RIGHT", action="append", default=[],
                        help=f"what hooks may do beyond what any user may: {', '.join(ALLOWED)}, or user=NAME to run"
                             " as; again for more")
    parser.add_argument("--socket", metavar="PATH", default=PRESSURE_SOCKET,
                        help="where the guard's pressure socket is (default: %(default)s)")
    parser.add_argument("--python", metavar="PATH", default=sys.executable,
                        help="the interpreter that the units call (default: this one, %(default)s)")
    action = parser.add_mutually_exclusive_group()
    action.add_argument("--dry-run", action="store_true", help="say what would be done, and do nothing")
    action.add_argument("--uninstall", "--remove", dest="remove", action="store_true", help="take it away again")
    parser.add_argument("--root", metavar="DIR", default="/", help="the system's root, as of an image being built")


def run(args: argparse.Namespace) -> int:
    """Do what is asked for, and say each thing that is done."""
    if not (args.systemd or args.unit or args.allow):
        raise UsageError("nothing to install is named: --systemd, --unit UNIT or --allow RIGHT")
    unit = unit_name(args.unit) if args.unit else ""
    drop_ins = {listener_path(unit): listener(args.socket)} if unit else {}
    drop_ins |= {right_path(word): right(word) for word in args.allow}
    site = Site(args.root, args.dry_run)
    if args.systemd and not args.remove:
        install(site, args.python)
    for path, text in drop_ins.items():
        _drop_in(site, path, text, args.remove)
    if args.systemd and args.remove:
        uninstall(site)
    if drop_ins and not args.dry_run:
        units = [*([unit] if unit else []), *([HOOKS_UNIT] if args.allow else [])]
        print(f"now run: systemctl daemon-reload && systemctl restart {' '.join(units)}")
    if unit and args.root == "/" and not args.remove and not args.dry_run and not os.path.exists(args.socket):
        print(f"oomguard: there is no {args.socket} yet: enable oomguard-pressure.socket before the unit starts, or"
              " its program will not listen", file=sys.stderr)
    return 0


def _drop_in(site: Site, path: str, text: str, is_removed: bool) -> None:
    if is_removed and not site.has(path):
        print(f"there is no {site.path(path)}")
    elif is_removed:
        site.remove(path)
    elif site.is_dry_run:
        print(f"# {site.path(path)}\n{text}", end="")
    else:
        site.write(path, text)
