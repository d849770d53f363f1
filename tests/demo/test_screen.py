"""What is seen while the demo runs, and at its end."""

import io

import pytest

from demo.stories import MIB, guarded, unguarded
from oomguard.demo.screen import Screen, state
from oomguard.demo.story import Spoken, Story
from oomguard.demo.table import table


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        """Say so."""
        return True


@pytest.fixture(autouse=True)
def _plain_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("NO_COLOR", "1")


def running() -> tuple[Story, Story]:
    """Both arms after 40 s."""
    one, other = unguarded(), guarded()
    one.ended = other.ended = ""
    one.used, other.used = one.used[:40], other.used[:40]
    other.levels, other.evictions = other.levels[:1], other.evictions[:1]
    return one, other


def test_bars_are_drawn_in_the_same_place() -> None:
    """The second drawing begins where the first began, and no line is longer than the terminal is wide."""
    stream = Terminal()
    screen = Screen(stream, 90.0)
    screen.draw(running(), 40.0)
    assert "\x1b[3A" not in stream.getvalue()
    screen.draw((unguarded(), guarded()), 90.0)
    text = stream.getvalue()
    assert text.count("\x1b[3A") == 1
    assert "  40 s of 90 s" in text
    assert "level 4 (model), gave 20.0 MiB" in text
    assert "KILLED by the kernel at 55 s" in text
    assert max(len(line.split("\r")[-1].removesuffix("\x1b[K")) for line in text.split("\n")) <= 80


def test_colours_follow_the_level(monkeypatch: pytest.MonkeyPatch) -> None:
    """With colours, the guarded bar has that of its level; NO_COLOR takes them all away."""
    stream, plain = Terminal(), Terminal()
    Screen(plain, 90.0).draw(running(), 40.0)
    monkeypatch.delenv("NO_COLOR")
    Screen(stream, 90.0).draw(running(), 40.0)
    assert "\x1b[31m█" in stream.getvalue()
    assert "\x1b[31m" not in plain.getvalue()


def test_it_is_silent_where_nobody_looks() -> None:
    """A pipe or a file gets nothing."""
    stream = io.StringIO()
    Screen(stream, 90.0).draw(running(), 40.0)
    assert stream.getvalue() == ""


def test_every_state_has_words() -> None:
    """Starting, crashed and stopped arms are named as such."""
    story = Story("guarded", 96 * MIB)
    assert state(story) == "starting"
    story.ended, story.exit_code = "crash", 3
    assert state(story) == "crash, exit status 3"


def test_the_table_tells_both_ends() -> None:
    """Every row has a figure for each arm, and the last line says what was shown."""
    assert table(unguarded(), guarded()) == """\
                   without guard                  with oomguard
────────────────   ────────────────────────────   ────────────────────────────────
how it ended       KILLED by the kernel at 55 s   alive to the end, 90 s
oom_kill counter   1                              0
first alarm        -                              level 4 at 30 s, by the model
its lead           -                              25 s before the other was killed
evictions          0                              2 (at 32, 62 s)
given back         -                              25.0 MiB
cache hit ratio    0.70                           0.65
peak used          100% of the limit              72% of the limit

The same app, the same seed: killed by the kernel after 55 s on its own; alive at 90 s under the guard."""


def test_the_table_says_what_was_not_shown() -> None:
    """A demo that failed says which half of it, and how a silent guard looks."""
    one, other = unguarded(), guarded()
    one.ended, one.killer = "exit", ""
    other.ended, other.killer, other.oom_kills, other.survived_s = "oom", "kernel", 1, 60.0
    other.levels = [Spoken(0.0, 0, "plain")]
    text = table(one, other)
    assert text.splitlines()[-1] == (
        "Not shown: the app without the guard was not killed (alive to the end, 55 s); "
        "the app under the guard did not live to the end (KILLED by the kernel at 60 s).")
    assert "first alarm        -                        none" in text
