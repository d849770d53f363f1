"""`oomguard top` in a real terminal: what a user sees, and what keys, sizes, guards and signals do to it."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys

import pytest
from terminal import AGENT, STATUS, SYSTEM, TARGET, until


def test_one_page_shows_it_all(terminal, guard, socket):
    """80x24 holds targets with their last minutes, the chosen one's forecast, last release and hooks, and the keys."""
    one = guard()
    one.histories["player"] = {"used_ratios": [0.1] * 30 + [0.75] * 30, "released_s_ago": 42.0}
    terminal.top("--socket", socket)
    page = terminal.sees("player", "42 s ago")
    lines = page.splitlines()
    assert "oomguard 0.1.0  2 targets  model default-1" in lines[0] and "sort: guard" in lines[0]
    row = next(line for line in lines if line.startswith("> player"))
    assert "48.0 MiB/64.0 MiB  75% ▁▁▁▁▁▁▁▁▁" in row and "▁▇▇▇▇▇▇▇▇▇" in row and row.endswith("▇ 3 !!!  2.5 min")
    assert any(line.startswith("  system") and "1.0 GiB/4.0 GiB" in line for line in lines)
    for text in ("16.0 MiB of headroom below cgroup:/player", "chance of a kill within 60 s 2%, 300 s 90%",
                 "last release 42 s ago gave 3.0 MiB", "2 releases gave 5.0 MiB in all; kills by the kernel: 1",
                 "image-cache                 0.5    3.0 MiB      2      1  on hold"):
        assert text in page
    assert lines[23].startswith("q quit") and all(len(line) <= 80 for line in lines)


def test_events_show_at_once(terminal, guard, socket):
    """A release is told with its hook, what it gave and what was asked, and stands among what happened."""
    one = guard()
    terminal.top("--socket", socket)
    terminal.sees("no release yet")
    one.publish(event="level", target="player", was=0, level=3)
    one.publish(event="release", target="player", hook="image-cache", rule="trim", requested_bytes=4 << 20,
                freed_bytes=float(2 << 20), ok=True)
    page = terminal.sees("image-cache gave 2.0 MiB of 4.0 MiB asked (trim)")
    assert "level player: 0 -> 3" in page and "release player: image-cache gave 2.0 MiB" in page


def test_keys(terminal, guard, socket):
    """Arrows choose, s sorts, p pauses and goes on, ? helps, q quits and gives the terminal back."""
    one = guard()
    terminal.top("--socket", socket, "--every", "100ms")
    terminal.sees("> player")
    terminal.type("Down")
    terminal.sees("> system", "plain thresholds decide: short window", "no hook: nobody would be asked")
    terminal.type("Up", "s")
    terminal.sees("> player", "sort: level")
    one.status = STATUS | {"targets": [TARGET | {"level": 0}, SYSTEM | {"level": 4}]}
    page = terminal.sees("4 !!!")
    assert page.index("  system") < page.index("> player")
    terminal.type("p")
    terminal.sees("PAUSED")
    one.status = STATUS | {"targets": [TARGET | {"level": 5}]}
    terminal.type("?")
    terminal.sees("any key leaves it")
    terminal.type("x")
    terminal.sees("4 !!!", "PAUSED")
    terminal.type("p")
    terminal.sees("5 !!!", without="PAUSED")
    terminal.type("q")
    assert "player" not in terminal.sees("ended 0", " echo ").split("ended")[1]


@pytest.mark.parametrize(("width", "height"), [(40, 10), (200, 50), (30, 6)])
def test_it_takes_any_size(terminal, guard, socket, width, height):
    """A terminal that is resized is drawn anew: no line too long, keys in the last row, the target still there."""
    guard()
    terminal.top("--socket", socket)
    terminal.sees("> player")
    terminal.resize(width, height)
    def lines() -> list[str]:
        shown = terminal.shown().splitlines()
        is_drawn = len(shown) == height and shown[-1].startswith("q quit")
        return [line for line in shown if line.startswith("> player")] if is_drawn else []

    assert until(lines, terminal.shown)
    terminal.resize(20, 4)
    terminal.sees("at least 30x6")
    terminal.resize(80, 24)
    terminal.sees("> player", "image-cache")


def test_no_guard_then_one_then_another(terminal, guard, socket):
    """Without a guard it says so and waits; it follows the one that comes, and the one that comes after it."""
    terminal.top("--socket", socket)
    terminal.sees("no guard listens at", "no guard; looking for it every second")
    first = guard()
    terminal.sees("> player", without="no guard")
    first.stop()
    terminal.sees("no guard listens at", "as it was last seen")
    second = guard()
    second.status = STATUS | {"pid": 2, "targets": [TARGET | {"name": "kiosk"}]}
    page = terminal.sees("> kiosk", without="no guard")
    assert "  player" not in page
    until(lambda: second.subscribers == 1, terminal.shown)


def test_a_guard_that_stands_still(terminal, socket):
    """A socket that nobody serves is said to be silent, and keys still work."""
    import _socket

    listener = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
    listener.bind(socket)
    listener.listen(1)
    terminal.top("--socket", socket)
    terminal.sees("no answer from the guard for")
    terminal.type("q")
    terminal.sees("ended 0")
    listener.close()


@pytest.mark.parametrize("how", ["C-c", "TERM"])
def test_it_ends_clean(terminal, guard, socket, how):
    """Ctrl-C and SIGTERM give the terminal back: status 0, echo on, no traceback, the shell's lines as before."""
    guard()
    terminal.type("echo before", "Enter")
    terminal.top("--socket", socket)
    terminal.sees("> player")
    if how == "TERM":
        pid = subprocess.run(["pgrep", "-f", f"top --socket {socket}"], capture_output=True, text=True).stdout.split()
        for each in pid:
            if "sh" not in os.readlink(f"/proc/{each}/exe").rpartition("/")[2]:
                os.kill(int(each), signal.SIGTERM)
    else:
        terminal.type(how)
    page = terminal.sees("before", "ended 0", " echo ")
    assert "Traceback" not in page and "> player" not in page


def test_what_a_guard_says_cannot_draw(terminal, guard, socket):
    """Escape sequences, wide characters and huge names in the guard's words stay text, within the width."""
    one = guard()
    evil = "\x1b[2J\x1b[31mevil"
    one.status = STATUS | {"targets": [TARGET | {"name": evil, "constraint": evil}, TARGET | {"name": "漢字" * 40}],
                           "warnings": [evil]}
    terminal.top("--socket", socket)
    page = terminal.sees("> \\u001b[2J", "漢字漢字", "warning: \\u001b")
    assert page.splitlines()[0].startswith("oomguard") and "LEVEL" in page


def test_ascii_and_an_unknown_terminal(terminal, guard, socket):
    """--ascii draws without block characters; a TERM that nobody knows here is no reason to fail."""
    one = guard()
    one.histories["player"] = {"used_ratios": [0.9] * 60, "released_s_ago": None}
    terminal.type("TERM=xterm-of-tomorrow; export TERM", "Enter")
    terminal.top("--socket", socket, "--ascii")
    page = terminal.sees("> player", "#####")
    assert page.isascii()


def test_without_a_terminal_it_says_what_to_use():
    """In a pipe: exit code 2 and the name of the verb that fits."""
    done = subprocess.run([sys.executable, "-m", "oomguard", "top"], capture_output=True, text=True, timeout=60,
                          env=os.environ | {"PYTHONPATH": AGENT}, stdin=subprocess.DEVNULL)
    assert done.returncode == 2 and "oomguard status" in done.stderr and "Traceback" not in done.stderr


def test_a_terminal_that_goes_away_ends_it(guard, socket):
    """When ssh breaks, nothing is left running, and nothing spins."""
    guard()
    pid, master = pty.fork()
    if pid == 0:
        os.environ |= {"TERM": "xterm", "PYTHONPATH": AGENT}
        os.execv(sys.executable, [sys.executable, "-m", "oomguard", "top", "--socket", socket])
    seen = b""
    while b"player" not in seen:
        seen += os.read(master, 65536)
    os.close(master)
    _pid, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == 0
