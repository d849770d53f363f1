"""What a long job says of how far it is."""

import sys

from oomguard.cli.progress import draw_bar, draw_line


def test_a_bar_overwrites_itself_until_all_is_done(capsys, monkeypatch):
    """Each begins at the left; the last one ends the line. A job of nothing is done at once."""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    draw_bar("dataset", 1, 2, "samples")
    draw_bar("dataset", 2, 2, "samples")
    draw_bar("train", 0, 0)
    half, whole, nothing = "#" * 15 + " " * 15, "#" * 30, " " * 30
    assert capsys.readouterr().err == (f"\rdataset      [{half}] 1/2 samples\rdataset      [{whole}] 2/2 samples\n"
                                   f"\rtrain        [{nothing}] 0/0\n")


def test_a_line_is_overwritten_and_a_note_stays(capsys, monkeypatch):
    """The next line begins where this one began; a note ends its own."""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    draw_line("1/2 runs")
    draw_line("2/2 runs", "redis ended")
    assert capsys.readouterr().err == "\r1/2 runs\rredis ended  [2/2 runs]\n"


def test_where_nobody_watches_only_notes_are_written(capsys):
    """No bars and no lines in a file."""
    draw_bar("dataset", 1, 2, "samples")
    draw_line("1/2 runs")
    draw_line("2/2 runs", "redis ended")
    assert capsys.readouterr().err == "redis ended  [2/2 runs]\n"
