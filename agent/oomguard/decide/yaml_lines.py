"""YAML in which every value knows its line and nothing can hide: the only door for rule files.

Taken: one document of mappings, lists and scalars. Refused: anchors and aliases (they make a small file
huge), tags, keys that are there twice, more than one document, more than 256 KiB or 20 levels of nesting.
A plain scalar is null, true or false, a number in decimal digits, or text: `yes`, `1:30` and `0x10` are text
here, so that no value ever turns into something its writer did not see.
"""

from __future__ import annotations

import re
from typing import NamedTuple

import yaml

from oomguard.errors import ConfigError

YAML_MAX_BYTES = 256 * 1024
YAML_MAX_DEPTH = 20

WORDS: dict[str, bool | None] = {
    "": None, "~": None, "null": None, "Null": None, "NULL": None,
    "true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
WHOLE = re.compile(r"[-+]?[0-9]{1,18}")
REAL = re.compile(r"[-+]?([0-9]{1,18}\.[0-9]{0,18}|\.[0-9]{1,18})([eE][-+]?[0-9]{1,2})?")


class Node(NamedTuple):
    """A value, the line it is written on (that of its key for mappings and lists) and its text as written."""

    value: bool | int | float | str | list[Node] | dict[str, Node] | None
    line: int
    text: str = ""


def parse_yaml(text: str, file: str = "") -> Node:
    """Return the one document in a text. Raises ConfigError with file and line; never anything else."""
    if len(text.encode("utf-8", "surrogatepass")) > YAML_MAX_BYTES:
        raise ConfigError(f"is larger than {YAML_MAX_BYTES} bytes", file=file)
    builder = _Builder(file)
    try:
        for event in yaml.parse(text, Loader=yaml.SafeLoader):
            builder.take(event)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        problem = ", ".join(part for part in (error.context, error.problem) if part)
        raise ConfigError(f"is no YAML: {problem}", file=file, line=mark.line + 1 if mark else None) from None
    except yaml.YAMLError as error:
        problem = str(getattr(error, "reason", error))
        raise ConfigError(f"is no YAML: {problem}", file=file) from None
    except (ValueError, OverflowError) as error:        # PyYAML on escapes beyond Unicode
        raise ConfigError(f"is no YAML: {error}", file=file) from None
    if builder.root is None:
        raise ConfigError("is empty", file=file)
    return builder.root


def scalar(text: str) -> bool | int | float | str | None:
    """Return what a plain (unquoted) scalar means."""
    if text in WORDS:
        return WORDS[text]
    if WHOLE.fullmatch(text):
        return int(text)
    return float(text) if REAL.fullmatch(text) else text


class _Open(NamedTuple):
    """A mapping or list whose end has not come yet."""

    node: Node
    keys: list[Node]            # the key that waits for its value; empty in lists


class _Builder:
    """Builds the tree from PyYAML's events, without recursion."""

    __slots__ = ("documents", "file", "open", "root")

    def __init__(self, file: str) -> None:
        self.file = file
        self.root: Node | None = None
        self.open: list[_Open] = []
        self.documents = 0

    def take(self, event: yaml.Event) -> None:
        mark = event.start_mark
        line = mark.line + 1 if mark else 1
        if isinstance(event, yaml.DocumentStartEvent):
            self.documents += 1
            if self.documents > 1:
                raise ConfigError("a second document is not allowed", file=self.file, line=line)
        elif isinstance(event, yaml.NodeEvent):
            self._take_node(event, line)
        elif isinstance(event, yaml.CollectionEndEvent):
            self.open.pop()

    def _take_node(self, event: yaml.NodeEvent, line: int) -> None:
        if isinstance(event, yaml.AliasEvent) or event.anchor is not None:
            raise ConfigError(f"anchors and aliases are not allowed: write {event.anchor!r} out in full",
                              file=self.file, line=line)
        if (tag := getattr(event, "tag", None)) is not None:
            raise ConfigError(f"the tag {tag!r} is not allowed", file=self.file, line=line)
        if isinstance(event, yaml.ScalarEvent):
            value = scalar(event.value) if event.style is None else event.value
            self._place(Node(value, line, event.value))
            return
        if len(self.open) >= YAML_MAX_DEPTH:
            raise ConfigError(f"is nested deeper than {YAML_MAX_DEPTH} levels", file=self.file, line=line)
        keys = self.open[-1].keys if self.open else []
        node = Node({} if isinstance(event, yaml.MappingStartEvent) else [], keys[0].line if keys else line)
        self._place(node)
        self.open.append(_Open(node, []))

    def _place(self, node: Node) -> None:
        if not self.open:
            self.root = node
            return
        parent, keys = self.open[-1]
        if isinstance(parent.value, list):
            parent.value.append(node)
        elif keys:
            assert isinstance(parent.value, dict)
            parent.value[keys.pop().text] = node
        else:
            self._take_key(node, parent, keys)

    def _take_key(self, node: Node, parent: Node, keys: list[Node]) -> None:
        assert isinstance(parent.value, dict)
        if isinstance(node.value, (dict, list)):
            raise ConfigError("a key must be a word", file=self.file, line=node.line)
        if node.text in parent.value:
            raise ConfigError(f"the key {node.text!r} is there twice", file=self.file, line=node.line)
        keys.append(node)
