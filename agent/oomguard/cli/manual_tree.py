"""The command line as data: what argparse was told, walked once, for the man page and the completions."""

from __future__ import annotations

import argparse
from typing import NamedTuple


class Option(NamedTuple):
    """One option or argument of a command."""

    words: tuple[str, ...]          # --json; empty for an argument
    metavar: str                    # what its value is called; empty for a flag
    help: str
    choices: tuple[str, ...]
    is_rest: bool                   # takes all that follows

    @property
    def takes(self) -> str:
        """What kind of value a shell can complete: words, files, folders, command, other, or nothing."""
        if not self.metavar:
            return "nothing"
        if self.choices:
            return "words"
        name = self.metavar.lower()
        if self.is_rest and name == "cmd":
            return "command"
        if name in ("dir", "folder"):
            return "folders"
        is_file = name in ("file", "path", "recording", "recordings", "recipe", "model") or name.endswith("file")
        return "files" if is_file else "other"


class Command(NamedTuple):
    """A command with its options; `oomguard` itself is the outermost."""

    path: tuple[str, ...]           # ("oomguard", "record", "start")
    help: str
    usage: str
    description: str
    epilog: str
    options: tuple[Option, ...]
    arguments: tuple[Option, ...]
    commands: tuple[Command, ...]

    def walk(self) -> list[Command]:
        """Return this command and all below it, depth first."""
        return [self, *(each for command in self.commands for each in command.walk())]


def tree_of(parser: argparse.ArgumentParser, path: tuple[str, ...] = ("oomguard",), words: str = "") -> Command:
    """Return a parser as a tree. argparse has no public way to look into it: the names below are stable since 2.7."""
    formatter = parser._get_formatter()
    options: list[Option] = []
    arguments: list[Option] = []
    commands: list[Command] = []
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            told = {choice.dest: choice.help or "" for choice in action._choices_actions}
            commands = [tree_of(sub, (*path, name), told.get(name, "")) for name, sub in action.choices.items()]
        elif action.help != argparse.SUPPRESS:
            found = _option(action, formatter)
            (options if found.words else arguments).append(found)
    usage = " ".join(parser.format_usage().removeprefix("usage:").split())
    return Command(path, words, usage, parser.description or words, parser.epilog or "",
                   tuple(options), tuple(arguments), tuple(commands))


def _option(action: argparse.Action, formatter: argparse.HelpFormatter) -> Option:
    metavar = action.metavar if isinstance(action.metavar, str) else action.dest.upper()
    is_flag = bool(action.option_strings) and action.nargs == 0
    return Option(tuple(action.option_strings), "" if is_flag else metavar,
                  formatter._expand_help(action) if action.help else "",
                  tuple(str(each) for each in action.choices or ()), action.nargs in ("*", "+", argparse.REMAINDER))
