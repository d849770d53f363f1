"""`oomguard doctor`: what of the guard works on this machine, what is lost, and how to mend it."""

from __future__ import annotations

import argparse
import json
import textwrap

from oomguard.cli.doctor_findings import FAIL, Check, Finding, Site
from oomguard.cli.doctor_guard import GUARD_CHECKS
from oomguard.cli.doctor_listeners import LISTENER_CHECKS
from oomguard.cli.doctor_machine import MACHINE_CHECKS
from oomguard.tell.log import escaped
from oomguard.tell.paths import socket_path

NAME = "doctor"
HELP = "check what works on this machine, and say how to mend what does not"
EXAMPLES = """\
  oomguard doctor
  oomguard doctor --json | jq '.checks[] | select(.verdict != "ok")'
"""

WIDTH = 80
_INDENT = " " * 22


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what `doctor` takes."""
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--socket", metavar="PATH", default="", help="the control socket of a running guard")


def run(args: argparse.Namespace) -> int:
    """Run every check; return 0 when this machine can be guarded, 1 when something that is needed fails."""
    site = Site(socket=args.socket or socket_path())
    findings = [examine(check, site) for check in (*MACHINE_CHECKS, *LISTENER_CHECKS, *GUARD_CHECKS)]
    can_guard = all(finding.verdict != FAIL for finding in findings)
    if args.json:
        checks = [finding._asdict() for finding in findings]
        print(json.dumps({"can_guard": can_guard, "checks": checks}, indent=2))
    else:
        print("\n".join(text(finding) for finding in findings))
        print("\nThis machine can be guarded." if can_guard else "\nThis machine cannot be guarded as it is.")
    return 0 if can_guard else 1


def examine(check: Check, site: Site) -> Finding:
    """Run one check. One that breaks is a failure with its name: the others still run."""
    try:
        return check(site)
    except Exception as error:  # noqa: BLE001  said in the finding, by name
        name = check.__name__.replace("_", " ")
        why = f"the check itself failed: {type(error).__name__}: {error}"
        return Finding(name, FAIL, why, "report this at the project's issue tracker")


def text(finding: Finding) -> str:
    """Return a finding as lines of at most 80 columns: verdict, check, finding, and the mend below."""
    head = f"{finding.verdict:<5}{finding.check:<17}"
    lines = _wrapped(finding.finding, head, _INDENT)
    if finding.mend:
        lines += _wrapped(finding.mend, _INDENT + "-> ", _INDENT + "   ")
    return "\n".join(lines)


def _wrapped(words: str, first: str, rest: str) -> list[str]:
    return textwrap.wrap(escaped_plain(words), WIDTH, initial_indent=first, subsequent_indent=rest,
                         break_long_words=False, break_on_hyphens=False)


def escaped_plain(value: str) -> str:
    """Return text for a terminal; quotes stay as they are."""
    return escaped(value).replace('\\"', '"')
