"""Reading what another process is writing."""

from oomguard.demo.tail import Tail


def test_only_whole_lines_are_read_and_each_once(tmp_path) -> None:
    """A line is read when its end is there; a file that is not there yet has none."""
    path = tmp_path / "log"
    tail = Tail(str(path))
    assert tail.lines() == []
    with path.open("a") as file:
        print('{"event": "one"}\n{"event": "tw', end="", file=file, flush=True)
        assert tail.lines() == [{"event": "one"}]
        assert tail.lines() == []
        print('o"}', file=file, flush=True)
        assert tail.lines() == [{"event": "two"}]


def test_what_is_no_event_is_passed_over(tmp_path) -> None:
    """Tracebacks, other JSON and bytes that are no text do not stop the reading."""
    path = tmp_path / "log"
    path.write_bytes(b'Traceback (most recent call last):\n[1]\n\xff\xfe\n{"no": "event"}\n\n{"event": "x"}\n')
    assert Tail(str(path)).lines() == [{"event": "x"}]
