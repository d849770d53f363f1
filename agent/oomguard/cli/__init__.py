"""The command line: one module per verb; each says its NAME, HELP, EXAMPLES, arguments, and how it runs."""

from __future__ import annotations

import argparse
import importlib
import signal
import sys
from collections.abc import Sequence
from typing import Protocol, cast

from oomguard._version import __version__
from oomguard.errors import OomguardError, UsageError

VERBS = ("demo", "run", "exec", "check", "status", "top", "events", "replay", "explain", "record", "reload", "bundle",
         "install", "doctor", "bench", "learn", "manual")
EXIT_CODES = """\
exit codes: 0 fine · 1 a check failed or the answer is no · 2 usage · 3 bad configuration · 4 bad model or
signature · 5 no permission · 6 target gone · 70 internal"""
DESCRIPTION = (
    "A memory guard that sees an out-of-memory kill coming and asks the app to give memory back. It never kills."
)
# What the guard runs without, and how to get it where a verb needs it.
LIBRARIES = {"numpy": "pip install numpy, or on Debian apt install python3-numpy", "pyarrow": "pip install pyarrow"}
FIRST_STEPS = """\
examples:
  oomguard demo                                see an app killed without the guard, and alive with it
  oomguard exec --limit 256MiB -- node app.js  run an app in a memory cgroup, guarded
  oomguard run                                 guard the whole system, or this container
  oomguard doctor                              what works on this machine, and what does not
"""


class Verb(Protocol):
    """What a verb's module holds."""

    NAME: str
    HELP: str
    EXAMPLES: str

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Add what the verb takes."""

    def run(self, args: argparse.Namespace) -> int:
        """Do it; return the exit code."""


def verb_module(name: str) -> Verb:
    """Import a verb's module; only the verb that runs is paid for."""
    return cast("Verb", importlib.import_module(f"oomguard.cli.{name}"))


def build_parser(verbs: Sequence[str] = VERBS) -> argparse.ArgumentParser:
    """Return the parser with these verbs filled in."""
    parser = argparse.ArgumentParser(
        prog="oomguard",
        description=DESCRIPTION,
        epilog=f"{FIRST_STEPS}\n{EXIT_CODES}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"oomguard {__version__}")
    commands = parser.add_subparsers(dest="verb", metavar="COMMAND", required=True)
    for name in verbs:
        verb = verb_module(name)
        epilog = f"examples:\n{verb.EXAMPLES}\n{EXIT_CODES}"
        verb.add_arguments(commands.add_parser(
            verb.NAME, help=verb.HELP, description=verb.HELP[:1].upper() + verb.HELP[1:] + ".", epilog=epilog,
            formatter_class=argparse.RawDescriptionHelpFormatter))
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command line; return its exit code (DESIGN 4.10)."""
    argv = sys.argv[1:] if argv is None else list(argv)
    verbs = [argv[0]] if argv and argv[0] in VERBS else list(VERBS)
    args = build_parser(verbs).parse_args(argv)
    args.words = argv
    try:
        return verb_module(args.verb).run(args)
    except OomguardError as error:
        print(f"oomguard: {error}", file=sys.stderr)
        return error.exit_code
    except BrokenPipeError:             # `oomguard … | head`: the reader has seen enough
        sys.stderr.close()
        return 0
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    except Exception as error:  # noqa: BLE001  our own mistake: the traceback is shown, and the code says whose it is
        if isinstance(error, ModuleNotFoundError) and error.name in LIBRARIES:
            print(f"oomguard: {args.verb} needs {error.name}: {LIBRARIES[error.name]}", file=sys.stderr)
            return UsageError.exit_code
        sys.excepthook(*sys.exc_info())
        return OomguardError.exit_code
