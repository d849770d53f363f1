"""The man page, in man(7)'s macros, which groff and mandoc both read."""

from __future__ import annotations

import os
import time

from oomguard._version import __version__
from oomguard.cli.manual_tree import Command, Option

ENVIRONMENT = (
    ("OOMGUARD_SOCKET", "The control socket: where a guard listens, and where other commands look for it."),
    ("RUNTIME_DIRECTORY", "Where a guard keeps windows and its socket, as systemd sets it for a unit."),
    ("STATE_DIRECTORY", "Where a guard records, as systemd sets it for a unit."),
)


def page(root: Command) -> str:
    """Return the page of the whole command line: each command is a section of COMMANDS."""
    stamp = time.gmtime(int(os.environ.get("SOURCE_DATE_EPOCH") or time.time()))
    lines = [f'.TH OOMGUARD 1 "{time.strftime("%Y-%m-%d", stamp)}" "oomguard {__version__}" "User Commands"',
             ".SH NAME", f"oomguard \\- {roff(root.description).rstrip('.')}",
             ".SH SYNOPSIS", *_usage(root),
             ".SH DESCRIPTION", roff(root.description), ".PP", "Options of the command itself:",
             *_options(root.options),
             ".SH COMMANDS"]
    for command in root.walk()[1:]:
        lines += [f".SS {roff(' '.join(command.path[1:]))}", *_usage(command), ".PP", roff(command.description)]
        lines += _options((*command.arguments, *command.options))
        lines += [".PP", *_verbatim(_without_codes(command.epilog))] if len(command.path) == 2 else []
    examples, _, codes = root.epilog.partition("exit codes:")
    lines += [".SH EXIT STATUS"]
    for code in " ".join(codes.split()).split(" · "):
        number, _, words = code.partition(" ")
        lines += [".TP", f".B {roff(number)}", roff(words)]
    lines += [".SH ENVIRONMENT"]
    for name, words in ENVIRONMENT:
        lines += [".TP", f".B {name}", roff(words)]
    lines += [".SH EXAMPLES", *_verbatim(examples.strip().removeprefix("examples:"))]
    return "\n".join(lines) + "\n"


def roff(text: str) -> str:
    """Return the text as it stands in a line of the page: nothing in it is a request or an escape."""
    text = text.replace("\\", "\\e").replace("-", "\\-")
    text = "".join(each if each.isascii() else f"\\[u{ord(each):04X}]" for each in text)
    return f"\\&{text}" if text.startswith((".", "'")) else text


def _usage(command: Command) -> list[str]:
    name = " ".join(command.path)
    return [f".B {roff(name)}", roff(command.usage.removeprefix(name).strip()) or "\\&"]


def _options(options: tuple[Option, ...]) -> list[str]:
    lines = []
    for option in options:
        words = ", ".join(f"\\fB{roff(word)}\\fR" for word in option.words)
        value = f"\\fI{roff(option.metavar)}\\fR" if option.metavar else ""
        allowed = f" (one of {', '.join(option.choices)})" if option.choices else ""
        told = roff((option.help + allowed).strip()) or "\\&"
        lines += [".TP", " ".join(part for part in (words, value) if part), told]
    return lines


def _verbatim(text: str) -> list[str]:
    rows = text.strip("\n").split("\n")
    return [".nf", ".RS 0", *(roff(row) or "\\&" for row in rows), ".RE", ".fi"] if text.strip() else []


def _without_codes(epilog: str) -> str:
    return epilog.partition("exit codes:")[0].rstrip()
