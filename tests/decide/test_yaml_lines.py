"""YAML with lines: what it says, where, and everything it refuses."""

from __future__ import annotations

from contextlib import suppress
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oomguard.decide.yaml_lines import YAML_MAX_BYTES, Node, parse_yaml, scalar
from oomguard.errors import ConfigError


def plain(node):
    if isinstance(node.value, dict):
        return {key: plain(one) for key, one in node.value.items()}
    return [plain(one) for one in node.value] if isinstance(node.value, list) else node.value


def test_every_value_knows_its_line():
    """Scalars have their own line, mappings and lists that of their key."""
    root = parse_yaml("a: 1\nb:\n  c:\n    - x\n    - {d: 2,\n       e: 3s}\n")
    assert plain(root) == {"a": 1, "b": {"c": ["x", {"d": 2, "e": "3s"}]}}
    c = root.value["b"].value["c"]
    assert (root.value["a"].line, root.value["b"].line, c.line) == (1, 2, 3)
    assert [c.value[0].line, c.value[1].line, c.value[1].value["e"].line] == [4, 5, 6]


@pytest.mark.parametrize(("text", "value"), [
    ("", None), ("~", None), ("null", None), ("true", True), ("False", False), ("12", 12), ("-3", -3),
    ("0.5", 0.5), ("1.5e3", 1500.0), ("yes", "yes"), ("on", "on"), ("1:30", "1:30"), ("0x10", "0x10"),
    ("1_000", "1_000"),
    (".inf", ".inf"), (".nan", ".nan"), ("2024-01-01", "2024-01-01"), ("3s", "3s"), ("9" * 30, "9" * 30)])
def test_a_plain_scalar_is_what_its_writer_saw(text, value):
    """No base 60, no octal, no dates, no infinity, no yes for true."""
    assert scalar(text) == value and type(scalar(text)) is type(value)


def test_quoted_scalars_are_text():
    """Quotes keep a number from being one."""
    assert plain(parse_yaml("{a: '1', b: \"true\"}")) == {"a": "1", "b": "true"}


@pytest.mark.parametrize(("text", "line", "says"), [
    ("", None, "empty"), ("# nothing", None, "empty"),
    ("a: 1\na: 2", 2, "'a' is there twice"), ("a: {b: 1, 'b': 2}", 1, "'b' is there twice"),
    ("a: &x 1", 1, "anchors"), ("a: 1\nb: *x", 2, "anchors"),
    ("a: !!python/object:os.system x", 1, "tag"), ("a: !local x", 1, "tag"), ("! a", 1, "tag"),
    ("a: 1\n---\nb: 2", 2, "second document"),
    ("[a]: 1", 1, "key must be a word"), ("? {a: 1}\n: 2", 1, "key must be a word"),
    ("a: [1", 1, "no YAML"), ("a: 'x", 1, "no YAML"), ("a: b: c", 1, "no YAML"), ("a:\n\t- x", 2, "no YAML"),
    ('a: "\\U99999999"', None, "no YAML"), ("a: \x01", None, "no YAML"), ("a: \ud800", None, "no YAML"),
    ("%YAML " + "9" * 5000 + ".1\n--- a", None, "no YAML"),
    ("[" * 100, 1, "nested deeper"), ("- " * 100 + "a", 1, "nested deeper"),
    ("a" * (YAML_MAX_BYTES + 1), None, "larger"),
])
def test_what_is_refused_says_why_and_where(text, line, says):
    """Hostile and careless YAML alike end in a ConfigError with file, line where known, and reason."""
    with pytest.raises(ConfigError, match=says) as caught:
        parse_yaml(text, "f.yaml")
    assert caught.value.file == "f.yaml"
    if line is not None:
        assert caught.value.line == line


def test_a_billion_laughs_are_not_heard():
    """The classic bomb stops at its first anchor."""
    bomb = "a: &a [x,x]\n" + "".join(f"{c}: &{c} [*{p},*{p}]\n" for p, c in pairwise("abcdefgh"))
    with pytest.raises(ConfigError, match="anchors"):
        parse_yaml(bomb)


@given(st.text(alphabet="ab1:-[]{},&*!|>'\"#%?\n \t@\\~.", max_size=80) | st.text(max_size=80))
@settings(deadline=None, max_examples=400)
def test_any_text_gives_a_tree_or_a_config_error(text):
    """Fuzz: nothing else ever comes out of the parser."""
    with suppress(ConfigError):
        assert isinstance(parse_yaml(text), Node)
