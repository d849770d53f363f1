"""The man page and completions: all that the parser knows is in them, and the programs they are for take them."""

from __future__ import annotations

import argparse
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from oomguard import cli
from oomguard.cli.manual_page import roff
from oomguard.cli.manual_tree import Command, tree_of

KINDS = ("man", "bash", "zsh", "fish")


def known(parser: argparse.ArgumentParser, path: str = "oomguard") -> list[tuple[str, str]]:
    """Return (command, option or name of a command) as argparse itself lists them."""
    found = []
    for action in parser._actions:
        found += [(path, word) for word in action.option_strings]
        if isinstance(action, argparse._SubParsersAction):
            for name, sub in action.choices.items():
                found += [(path, name), *known(sub, f"{path} {name}")]
    return found


@pytest.fixture
def printed(capsys: pytest.CaptureFixture[str]) -> Callable[[str], str]:
    """Return what `oomguard manual KIND` prints."""
    def output(kind: str) -> str:
        assert cli.main(["manual", kind]) == 0
        return capsys.readouterr().out

    return output


def need(program: str) -> None:
    """Skip where a program is not installed."""
    if shutil.which(program) is None:
        pytest.skip(f"{program} is not installed")


def run(*argv: str, text: str = "") -> subprocess.CompletedProcess[str]:
    """Run a program; none may wait for a terminal."""
    return subprocess.run(argv, input=text, capture_output=True, text=True, timeout=60)


def test_the_tree_is_the_parser() -> None:
    """Every verb and option of argparse is in the tree, and nothing else is."""
    parser = cli.build_parser()
    tree = [(" ".join(each.path), word) for each in tree_of(parser).walk()
            for word in [*(word for option in each.options for word in option.words),
                         *(sub.path[-1] for sub in each.commands)]]
    assert sorted(tree) == sorted(known(parser))
    assert {command for path, command in tree if path == "oomguard" and command[0] != "-"} == set(cli.VERBS)


def test_the_man_page_holds_every_verb_and_option(printed: Callable[[str], str]) -> None:
    """Each command has its section, and each of its options stands in that section."""
    page = printed("man")
    sections = {section.split("\n", 1)[0].replace("\\-", "-"): section for section in page.split("\n.SS ")[1:]}
    for path, word in known(cli.build_parser()):
        if path == "oomguard":
            assert word in sections or word.startswith("-")
        elif word.startswith("-"):
            assert f"\\fB{roff(word)}\\fR" in sections[path.removeprefix("oomguard ")], (path, word)
    assert all(f".B {code}\n" in page for code in (0, 1, 2, 3, 4, 5, 6, 70))


@pytest.mark.parametrize("kind", ["bash", "zsh", "fish"])
def test_each_completion_holds_every_verb_and_option(printed: Callable[[str], str], kind: str) -> None:
    """By name: `--rules` (fish: `-l rules`)."""
    text = printed(kind)
    for _path, word in known(cli.build_parser()):
        shown = {"--": "-l ", "-": "-s "}.get(word[:2] if word[:2] == "--" else word[:1], "") if kind == "fish" else ""
        assert (shown + word.lstrip("-") if shown else word) in text, word


@pytest.mark.parametrize("argv", [["mandoc", "-T", "lint", "-W", "warning"], ["groff", "-man", "-ww", "-z", "-Tutf8"]])
def test_the_man_page_has_no_mistake(printed: Callable[[str], str], argv: list[str]) -> None:
    """mandoc's lint and groff's warnings have nothing to say."""
    need(argv[0])
    done = run(*argv, text=printed("man"))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_text_is_never_a_request() -> None:
    """Dots, quotes, backslashes and what is not ASCII stand in the page as they were written."""
    assert roff(".TH \\fB -x ·") == "\\&.TH \\efB \\-x \\[u00B7]"
    assert roff("'quoted'") == "\\&'quoted'"
    need("mandoc")
    shown = run("mandoc", "-T", "utf8", text=f'.TH X 1 2026-01-01\n.SH A\n{roff(".TH a-b ·")}\n').stdout
    assert ".TH a-b ·" in shown


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_shell_takes_it(printed: Callable[[str], str], shell: str, tmp_path: Path) -> None:
    """No mistake in its form."""
    need(shell)
    path = tmp_path / "completion"
    path.write_text(printed(shell))
    done = run(shell, "-n", str(path))
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(("words", "expected"), [
    (["st"], ["status"]), (["status", "--so"], ["--socket"]), (["record", "e"], ["export"]), (["--v"], ["--version"]),
    (["top", "--sort", "le"], ["level"]), (["manual", "z"], ["zsh"]), (["status", "--json", "--s"], ["--socket"]),
    (["run", "--rules", "ru"], ["rules.yaml"]), (["run", "--metrics-http", "x"], []), (["run", "ru"], ["rules.yaml"]),
    (["exec", "--", "ru"], ["rules.yaml"])])
def test_bash_completes(printed: Callable[[str], str], words: list[str], expected: list[str], tmp_path: Path) -> None:
    """In a real bash: commands, options of the command at hand, values, files."""
    need("bash")
    (tmp_path / "completion").write_text(printed("bash"))
    (tmp_path / "rules.yaml").write_text("")
    listed = " ".join(f"'{word}'" for word in ["oomguard", *words])
    script = (f"PATH=/nonexistent; compopt() {{ :; }}; . ./completion; COMP_WORDS=({listed}); COMP_CWORD={len(words)};"
              ' _oomguard; printf "%s\\n" "${COMPREPLY[@]}"')
    done = subprocess.run(["bash", "--norc", "-c", script], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert (done.stdout.split(), done.stderr) == (expected, "")


@pytest.mark.parametrize(("line", "expected"), [("oomguard st", "status"), ("oomguard status --so", "--socket"),
                                                ("oomguard record e", "export"), ("oomguard top --sort le", "level")])
def test_fish_completes(printed: Callable[[str], str], line: str, expected: str, tmp_path: Path) -> None:
    """In a real fish."""
    need("fish")
    (tmp_path / "completion").write_text(printed("fish"))
    done = run("fish", "--no-config", "-c", f"source {tmp_path}/completion; complete -C '{line}'")
    assert [each.split("\t")[0] for each in done.stdout.splitlines()] == [expected], done.stderr


def test_zsh_completes(printed: Callable[[str], str], tmp_path: Path) -> None:
    """In a real zsh, in a real terminal: a verb, then an option of it."""
    need("zsh")
    need("tmux")
    (tmp_path / "_oomguard").write_text(printed("zsh"))
    tmux = ("tmux", "-S", str(tmp_path / "tmux"), "-f", "/dev/null")
    assert run(*tmux, "new-session", "-d", "-x", "80", "-y", "24", "-s", "t", "zsh -f").returncode == 0
    try:
        run(*tmux, "send-keys", "-t", "t", f"PS1='> '; fpath=({tmp_path} $fpath); autoload -Uz compinit;"
            " compinit -u -D; clear; echo rea''dy", "Enter")
        sees(tmux, "ready")
        run(*tmux, "send-keys", "-t", "t", "oomguard statu", "Tab", "--sock", "Tab")
        sees(tmux, "> oomguard status --socket")
        run(*tmux, "send-keys", "-t", "t", "C-u", "oomguard top --sort lev", "Tab")
        sees(tmux, "> oomguard top --sort level")
    finally:
        run(*tmux, "kill-server")


def sees(tmux: tuple[str, ...], text: str) -> None:
    """Wait until the terminal shows the text."""
    give_up_s = time.monotonic() + 20
    while text not in (shown := run(*tmux, "capture-pane", "-p", "-t", "t").stdout):
        assert time.monotonic() < give_up_s, shown
        time.sleep(0.05)


def test_the_tree_names_what_a_shell_can_complete() -> None:
    """Files, folders, words and commands are told by the metavar; a flag takes nothing."""
    verbs: dict[str, Command] = {each.path[-1]: each for each in tree_of(cli.build_parser()).walk()}
    takes = {option.words[-1]: option.takes for option in verbs["run"].options}
    assert takes["--rules"] == "files" and takes["--runtime-dir"] == "folders" and takes["--dry-run"] == "nothing"
    assert takes["--target"] == "other"
    assert verbs["exec"].arguments[0].takes == "command" and verbs["manual"].arguments[0].takes == "words"
