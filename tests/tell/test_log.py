"""The structured log: one line per event, bounded, never forged, never blocking."""

import fcntl
import json
import os
import pty
import re
import socket
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oomguard.tell.log import LINE_MAX_BYTES, Log, escaped, is_journal, logfmt_value


@pytest.fixture
def pipe():
    ends = os.pipe()
    yield ends
    for fd in ends:
        with suppress(OSError):
            os.close(fd)


def lines_of(pipe_read):
    os.set_blocking(pipe_read, False)
    try:
        return os.read(pipe_read, 1 << 20).decode().splitlines()
    except BlockingIOError:
        return []


def test_an_event_is_one_logfmt_line(pipe):
    """Time, severity, event, then the fields in their order, quoted where they need it."""
    log = Log(pipe[1])
    log.event("decision", "warning", target="app", level=3, because="level 3 >= 2 for 3 s",
              freed_bytes=67108864.0, forecast=(0.01, 0.25), is_dry_run=False, p60=float("nan"), hook=None)
    log.close()
    [line] = lines_of(pipe[0])
    time_text, rest = line.split(" ", 1)
    assert re.fullmatch(r"time=\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[+-]\d{4}", time_text)
    assert rest == ('severity=warning event=decision target=app level=3 because="level 3 >= 2 for 3 s"'
                    " freed_bytes=67108864 forecast=0.01,0.25 is_dry_run=false p60=null hook=null")


def test_an_event_can_be_json(pipe):
    """With JSON the same fields are one object a line, unknown numbers null."""
    log = Log(pipe[1], is_json=True)
    log.event("level", target='a"\n\x1b', level=2, p60=float("inf"), forecast=[0.5, None])
    log.close()
    [line] = lines_of(pipe[0])
    found = json.loads(line)
    del found["time"]
    assert found == {"severity": "info", "event": "level", "target": 'a"\n\x1b', "level": 2, "p60": None,
                     "forecast": [0.5, None]}


def test_the_journal_gets_a_priority_and_no_time(pipe):
    """Under journald lines begin with the sd-daemon priority and leave the time to it."""
    log = Log(pipe[1], is_journal=True)
    log.event("decision", "warning", level=3)
    log.event("start")
    log.close()
    assert lines_of(pipe[0]) == ["<4>severity=warning event=decision level=3", "<6>severity=info event=start"]


def test_the_journal_is_known_by_its_stream(pipe):
    """JOURNAL_STREAM counts only when it names this very descriptor."""
    status = os.fstat(pipe[1])
    assert is_journal(pipe[1], {"JOURNAL_STREAM": f"{status.st_dev}:{status.st_ino}"})
    assert not is_journal(pipe[1], {"JOURNAL_STREAM": f"{status.st_dev}:{status.st_ino + 1}"})
    assert not is_journal(pipe[1], {})
    assert not is_journal(-1, {"JOURNAL_STREAM": "1:2"})


@pytest.mark.parametrize(("text", "written"), [
    ("plain", "plain"), ("größe", "größe"), ("", '""'), ("two words", '"two words"'),
    ('say "x"', r'"say \"x\""'), ("a=b", '"a=b"'), ("back\\slash", r'"back\\slash"'),
    ("x\nlevel=0", r'"x\nlevel=0"'), ("\x1b[2J", r'"\u001b[2J"'), ("\x9b1m", r'"\u009b1m"'),
    ("\u202egnp", r'"\u202egnp"'), ("\u2028", r'"\u2028"'), ("\x00\r\t", r'"\u0000\r\t"'),
    ("\U000e0041", r'"\U000e0041"'), ("\udc80", r'"\udc80"'),
])
def test_text_cannot_forge_output(text, written):
    """Control characters, line separators, direction marks and lone surrogates appear only escaped."""
    assert logfmt_value(text) == written


@settings(deadline=None)
@given(st.text(), st.text(max_size=20))
def test_any_text_stays_on_one_printable_line(text, key):
    """Whatever a cgroup calls itself, one event is one line of printable characters within the bound."""
    ends = os.pipe()
    log = Log(ends[1])
    log.event("e", **({key: text} | {"target": text}))
    log.close()
    raw = os.read(ends[0], 1 << 20)
    os.close(ends[0])
    os.close(ends[1])
    assert raw.count(b"\n") == 1
    assert len(raw) <= LINE_MAX_BYTES
    assert raw.decode()[:-1].isprintable()


@pytest.mark.parametrize("is_json", [False, True])
def test_a_line_is_bounded_and_says_that_it_was_cut(pipe, is_json):
    """Fields beyond 4 KiB are left out whole, and the line says so."""
    log = Log(pipe[1], is_json=is_json)
    log.event("e", **{f"f{index}": "\u20ac" * 900 for index in range(20)})
    log.close()
    raw = os.read(pipe[0], 1 << 20)
    assert raw.count(b"\n") == 1
    assert len(raw) <= LINE_MAX_BYTES
    assert raw.endswith(b',"truncated":true}\n' if is_json else b" truncated=true\n")
    if is_json:
        assert json.loads(raw)["truncated"] is True


def test_a_full_pipe_drops_and_the_next_line_counts(pipe):
    """A reader that stands still costs lines, never time: the next line through says how many."""
    fcntl.fcntl(pipe[1], fcntl.F_SETPIPE_SZ, 4096)
    log = Log(pipe[1])
    while not log.dropped:
        log.event("filler", text="x" * 900)
    log.event("filler", text="x" * 900)
    lines_of(pipe[0])
    log.event("after")
    log.event("later")
    log.close()
    after, later = lines_of(pipe[0])
    assert after.endswith("severity=info event=after dropped=2")
    assert "dropped" not in later


def test_the_shared_descriptor_keeps_its_flags(pipe):
    """Not blocking is ours alone: the app that shares the pipe still has a blocking one."""
    log = Log(pipe[1])
    log.event("e")
    assert os.get_blocking(pipe[1])
    log.close()


def test_a_reader_that_left_and_a_closed_log_raise_nothing(pipe):
    """EPIPE and a closed descriptor are counted like any other loss."""
    log = Log(pipe[1])
    os.close(pipe[0])
    log.event("e")
    log.close()
    log.event("e")
    assert log.dropped == 2


def test_a_descriptor_that_is_not_open_raises_nothing():
    """A daemon started with stderr closed runs on."""
    read_end, write_end = os.pipe()
    os.close(read_end)
    os.close(write_end)
    log = Log(write_end)
    log.event("e")
    assert log.dropped == 1
    log.close()


def test_a_full_disk_raises_nothing():
    """ENOSPC is a dropped line."""
    fd = os.open("/dev/full", os.O_WRONLY)
    log = Log(fd)
    log.event("e")
    assert log.dropped == 1
    log.close()
    os.close(fd)


def test_a_socket_that_is_full_drops(tmp_path):
    """journald's stream is a socket: one that nobody reads loses lines and does not block."""
    reader, writer = socket.socketpair()
    with reader, writer:
        log = Log(writer.fileno())
        for _turn in range(2000):
            log.event("filler", text="x" * 1000)
        assert log.dropped > 0
        assert writer.getblocking()
        log.close()


def test_a_terminal_that_is_stopped_drops():
    """A terminal whose reader stands still does not hold the guard up."""
    master, slave = pty.openpty()
    log = Log(slave)
    for _turn in range(200):
        log.event("filler", text="x" * 1000)
    assert log.dropped > 0
    log.close()
    os.close(master)
    os.close(slave)


def test_a_file_keeps_its_shared_offset(tmp_path):
    """Two writers of one redirected file, we and the app, do not write over each other."""
    path = tmp_path / "log"
    fd = os.open(path, os.O_WRONLY | os.O_CREAT)
    log = Log(fd)
    os.write(fd, b"app: one\n")
    log.event("ours")
    os.write(fd, b"app: two\n")
    log.close()
    os.close(fd)
    first, ours, second = path.read_text().splitlines()
    assert (first, second) == ("app: one", "app: two")
    assert ours.endswith("event=ours")


def test_fields_cannot_replace_the_head(pipe):
    """A field called severity, event or time does not stand twice."""
    log = Log(pipe[1], is_journal=True)
    log.event("real", event="forged", time="x")
    log.close()
    assert lines_of(pipe[0]) == ["<6>severity=info event=real time=x"]


def test_escaped_leaves_printable_text_alone():
    """Names in any script stay readable."""
    assert escaped("プレーヤー größer") == "プレーヤー größer"
