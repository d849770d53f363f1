"""Completion for bash, zsh and fish."""

from __future__ import annotations

from collections.abc import Callable

from oomguard.cli.manual_tree import Command, Option

_MADE = "# Made by `oomguard manual`; do not edit."
_BASH_HEAD = """\
_oomguard() {
    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]} path=oomguard i
    for ((i = 1; i < COMP_CWORD; i++)); do
        if [[ ${COMP_WORDS[i]} == -- ]]; then
            COMPREPLY=($(compgen -c -- "$cur") $(compgen -f -- "$cur"))
            return
        fi
        case "$path ${COMP_WORDS[i]}" in"""
_BASH_FILES = {"files": 'compopt -o filenames; COMPREPLY=($(compgen -f -- "$cur"))',
               "folders": 'compopt -o filenames; COMPREPLY=($(compgen -d -- "$cur"))',
               "command": 'COMPREPLY=($(compgen -c -- "$cur"))', "other": "COMPREPLY=()"}
_ZSH_VALUES = {"files": "_files", "folders": "_files -/", "other": " ", "command": "_normal"}


def bash(root: Command) -> str:
    """Return a bash completion: the path of commands so far says which options, values and commands may follow."""
    commands = root.walk()
    lines = [_MADE, _BASH_HEAD]
    lines.append(f"            {'|'.join(_quoted(' '.join(each.path)) for each in commands[1:])})")
    lines += ['                path="$path ${COMP_WORDS[i]}";;', "        esac", "    done",
              '    case "$path $prev" in']
    for command in commands:
        for option in command.options:
            if option.takes != "nothing":
                places = "|".join(_quoted(f"{' '.join(command.path)} {word}") for word in option.words)
                lines.append(f"        {places}) {_bash_values(option)}; return;;")
    lines += ["    esac", '    case "$path" in']
    for command in commands:
        words = [word for option in command.options for word in option.words]
        lines += [f"        {_quoted(' '.join(command.path))})",
                  "            if [[ $cur == -* ]]; then",
                  f"                COMPREPLY=($(compgen -W {_quoted(' '.join(words))} -- \"$cur\"))",
                  f"            else {_bash_rest(command)}", "            fi;;"]
    return "\n".join([*lines, "    esac", "}", "complete -F _oomguard oomguard"]) + "\n"


def _bash_values(option: Option) -> str:
    if option.takes == "words":
        return f'COMPREPLY=($(compgen -W {_quoted(" ".join(option.choices))} -- "$cur"))'
    return _BASH_FILES[option.takes]


def _bash_rest(command: Command) -> str:
    if command.commands:
        return f'COMPREPLY=($(compgen -W {_quoted(" ".join(each.path[-1] for each in command.commands))} -- "$cur"))'
    return _bash_values(command.arguments[0]) if command.arguments else "COMPREPLY=()"


def zsh(root: Command) -> str:
    """Return a zsh completion: one function for each command, each with what `_arguments` wants to know."""
    functions = [line for command in root.walk() for line in _zsh_function(command)]
    return "\n".join(["#compdef oomguard", _MADE, *functions, '_oomguard "$@"']) + "\n"


def _zsh_function(command: Command) -> list[str]:
    lines = [f"{_zsh_name(command)}() {{", "    local context state state_descr line", "    typeset -A opt_args",
             "    _arguments -C -s \\"]
    for option in command.options:
        for word in option.words:
            value = f":{_zsh_text(option.metavar)}:{_zsh_values(option)}" if option.metavar else ""
            lines.append(f"        {_quoted(f'*{word}[{_zsh_text(option.help)}]{value}')} \\")
    if command.commands:
        told = " ".join(f"{each.path[-1]}\\:{_double(_zsh_text(each.help))}" for each in command.commands)
        lines += [f"        {_quoted(f'1:command:(({told}))')} \\", "        '*::argument:->argument'",
                  "    case $state in argument) case $words[1] in"]
        lines += [f"        {each.path[-1]}) {_zsh_name(each)};;" for each in command.commands]
        return [*lines, "    esac;; esac", "}"]
    for place, argument in enumerate(command.arguments, 1):
        where = "*:" if argument.is_rest else str(place)
        lines.append(f"        {_quoted(f'{where}:{_zsh_text(argument.metavar)}:{_zsh_values(argument)}')} \\")
    return [*lines[:-1], lines[-1].removesuffix(" \\"), "}"]


def _zsh_values(option: Option) -> str:
    return f"({' '.join(option.choices)})" if option.takes == "words" else _ZSH_VALUES[option.takes]


def _zsh_name(command: Command) -> str:
    return "_" + "_".join(command.path)


def _zsh_text(text: str) -> str:
    return "".join(f"\\{each}" if each in "[]:\\" else each for each in text)


def _double(text: str) -> str:
    return '"' + "".join(f"\\{each}" if each in '"$`' else each for each in text) + '"'


def fish(root: Command) -> str:
    """Return a fish completion: one line for each command and each option."""
    lines = [_MADE, "complete -c oomguard -f"]
    for command in root.walk():
        here = _fish_condition(command)
        for sub in command.commands:
            known = " ".join(each.path[-1] for each in command.commands)
            none_yet = f"{here}; and not __fish_seen_subcommand_from {known}"
            lines.append(f"complete -c oomguard -n {_fish(none_yet)} -a {sub.path[-1]} -d {_fish(sub.help)}")
        for option in command.options:
            names = " ".join(f"-l {word[2:]}" if word.startswith("--") else f"-s {word[1:]}" for word in option.words)
            lines.append(f"complete -c oomguard -n {_fish(here)} {names}{_fish_values(option)} -d {_fish(option.help)}")
        lines += [f"complete -c oomguard -n {_fish(here)}{_fish_values(argument).replace(' -r', '')}"
                  for argument in command.arguments[:1] if argument.takes not in ("other", "nothing")]
    return "\n".join(lines) + "\n"


def _fish_condition(command: Command) -> str:
    seen = [f"__fish_seen_subcommand_from {name}" for name in command.path[1:]]
    return "; and ".join(seen) or "true"


def _fish_values(option: Option) -> str:
    return {"nothing": "", "words": f" -x -a {_fish(' '.join(option.choices))}", "files": " -r -F",
            "folders": " -x -a '(__fish_complete_directories)'", "other": " -x",
            "command": " -a '(__fish_complete_command)'"}[option.takes]


def _quoted(text: str) -> str:
    """Return the text in single quotes, as bash and zsh read them."""
    return "'" + text.replace("'", "'\\''") + "'"


def _fish(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


SHELLS: dict[str, Callable[[Command], str]] = {"bash": bash, "zsh": zsh, "fish": fish}
