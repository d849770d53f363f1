"""The lean stand-ins: nothing but weight tells them from the standard library's."""

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oomguard import lean, lean_json
from oomguard.lean_json import decoder, encoder, no_constant, no_key_twice

ROOT = Path(lean.__file__).parent.parent
HEAVY = {"contextlib", "enum", "functools", "json", "re", "signal", "typing"}
LOADED = f"import sys; sys.path.append({str(ROOT)!r}); import oomguard.daemon; print(*sys.modules)"

scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text()
values = st.recursive(scalars, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=20)
texts = values.map(json.dumps) | st.text(max_size=60) | st.text("[]{}:,\"\\ \n01.e-truefalsnN", max_size=20)


def outcome(function, argument):
    """Return what a function answers, as text, so that NaN is NaN; or what kind of error it ends in."""
    try:
        return repr(function(argument))
    except (ValueError, TypeError, RecursionError) as error:
        return ValueError if isinstance(error, ValueError) else type(error)


def test_the_daemon_loads_nothing_heavy():
    """Without site, importing the whole daemon brings none of the modules that the stand-ins stand for."""
    loaded = subprocess.check_output([sys.executable, "-I", "-S", "-c", LOADED], text=True).split()
    assert "oomguard.daemon" in loaded
    assert HEAVY & set(loaded) == set()


@settings(deadline=None)
@given(values, st.booleans(), st.booleans(), st.sampled_from([(", ", ": "), (",", ":")]))
def test_values_are_written_as_json_writes_them(value, ensure_ascii, allow_nan, separators):
    """Any value comes out to the letter as from json.dumps, or is refused where it refuses."""
    ours = encoder(ensure_ascii=ensure_ascii, allow_nan=allow_nan, separators=separators)
    theirs = json.JSONEncoder(ensure_ascii=ensure_ascii, allow_nan=allow_nan, separators=separators).encode
    assert outcome(ours, value) == outcome(theirs, value)


@settings(deadline=None)
@given(texts)
def test_texts_are_read_as_json_reads_them(text):
    """Any text, JSON or not, comes to the same value as from json.loads, or to a ValueError."""
    assert outcome(decoder(), text) == outcome(json.loads, text)


@pytest.mark.parametrize("value", [object(), {"a": {1, 2}}, {(1, 2): 3}], ids=["an object", "a set", "a tuple as key"])
def test_what_json_does_not_know_is_refused(value):
    """A value that JSON has no word for raises TypeError."""
    with pytest.raises(TypeError):
        encoder()(value)


def test_a_circle_is_refused():
    """A list that holds itself raises ValueError and does not recurse for ever."""
    circle = []
    circle.append(circle)
    with pytest.raises(ValueError, match="Circular"):
        encoder()(circle)


def test_the_hooks_are_asked():
    """Pairs and constants go through the functions that were given for them."""
    decode = decoder(object_pairs_hook=tuple, parse_constant=lambda word: word.lower())
    assert decode('{"a": NaN, "a": -Infinity}') == (("a", "nan"), ("a", "-infinity"))


def test_a_strict_reader_takes_what_every_reader_reads_alike():
    """Objects whose keys are there once, and the numbers that JSON has."""
    decode = decoder(object_pairs_hook=no_key_twice, parse_constant=no_constant)
    assert decode('{"a": [1, 2.5, {"a": null}], "b": -1e3}') == {"a": [1, 2.5, {"a": None}], "b": -1000.0}


@pytest.mark.parametrize(("text", "problem"), [
    ('{"a": 1, "a": 1}', "there twice"), ('[{"b": {"a": 1, "c": 2, "a": 3}}]', "there twice"),
    ("[NaN]", "NaN is not JSON"), ('{"a": -Infinity}', "-Infinity is not JSON")])
def test_a_strict_reader_refuses_what_two_readers_may_read_otherwise(text, problem):
    """A key that is there twice, however deep, and numbers that JSON has not."""
    with pytest.raises(ValueError, match=problem):
        decoder(object_pairs_hook=no_key_twice, parse_constant=no_constant)(text)


def test_without_the_c_parts_json_itself_serves(monkeypatch):
    """Where the interpreter has no `_json`, the answers are the same."""
    monkeypatch.setattr(lean_json, "_parts", None)
    assert encoder(separators=(",", ":"))({"a": [1, 2.5]}) == '{"a":[1,2.5]}'
    assert math.isnan(decoder()(" NaN "))


def test_a_named_exception_is_suppressed():
    """The block ends at the exception, of a derived kind too, and the program goes on."""
    went_on = False
    with lean.suppress(OSError):
        raise FileNotFoundError
        went_on = True
    assert not went_on


def test_another_exception_is_not_suppressed():
    """What was not named comes through."""
    with pytest.raises(KeyError), lean.suppress(OSError, ValueError):
        raise KeyError
