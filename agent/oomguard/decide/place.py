"""A place in a rule file: reads one value with its unit and range, and says precisely what is wrong."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Sequence

from oomguard.decide.yaml_lines import Node
from oomguard.errors import ConfigError
from oomguard.units import BYTES, SECONDS, format_bytes, parse_bytes, parse_ratio, parse_seconds

NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@:-]{0,63}")
NAME_ALLOWED = "1 to 64 letters, digits and _.@:-, the first no sign"
QUANTITY_MAX_CHARS = 40
SHOWN_MAX_CHARS = 60
CHOICES_SHOWN = 20
PROBLEMS_MAX = 50           # a file of 4,000 unknown names took 27 s to be told so in full (measured)


class Place:
    """One value, its path and its file. What is wrong goes to `problems` and reads as something harmless."""

    __slots__ = ("file", "node", "path", "problems")

    def __init__(self, node: Node, path: str, file: str, problems: list[ConfigError]) -> None:
        self.node, self.path, self.file, self.problems = node, path, file, problems

    def wrong(self, problem: str) -> None:
        """Note what is wrong here; after so many problems that nobody reads on, raise the last."""
        error = ConfigError(problem, file=self.file, line=self.node.line, path=self.path)
        if len(self.problems) >= PROBLEMS_MAX:
            raise error
        self.problems.append(error)

    def shown(self) -> str:
        """Return the value as it is quoted in messages."""
        value = self.node.value
        if isinstance(value, dict):
            return "a mapping"
        if isinstance(value, list):
            return "a list"
        if value is None:
            return "nothing"
        text = repr(value) if isinstance(value, str) else self.node.text
        return text if len(text) <= SHOWN_MAX_CHARS else text[: SHOWN_MAX_CHARS - 3] + "..."

    def fields(self, allowed: Sequence[str], required: Sequence[str] = ()) -> dict[str, Place]:
        """Return the values of a mapping by key; unknown and missing keys are noted."""
        if not isinstance(self.node.value, dict):
            self.wrong(f"{self.shown()} is not a mapping of {', '.join(allowed)}")
            return {}
        found = {}
        for key, node in self.node.value.items():
            child = Place(node, f"{self.path}.{key}" if self.path else key, self.file, self.problems)
            if key in allowed:
                found[key] = child
            else:
                shown = key if len(key) <= SHOWN_MAX_CHARS else key[: SHOWN_MAX_CHARS - 3] + "..."
                child.path = f"{self.path}.{shown}" if self.path else shown
                child.wrong(f"{shown!r} is no key here{nearest(key, allowed)}; allowed: {', '.join(allowed)}")
        for key in required:
            if key not in self.node.value:
                self.wrong(f"{key} is missing")
        return found

    def items(self, most: int, what: str) -> list[Place]:
        """Return the items of a list that must not be empty."""
        value = self.node.value
        if not isinstance(value, list) or not 1 <= len(value) <= most:
            shown = f"a list of {len(value)}" if isinstance(value, list) else self.shown()
            self.wrong(f"{shown} is not a list of 1..{most} {what}")
            return []
        return [Place(node, f"{self.path}[{i}]", self.file, self.problems) for i, node in enumerate(value)]

    def text(self, most: int = 256) -> str:
        """Return a one-line text; numbers are taken as they are written."""
        value = self.node.value
        if value is None or isinstance(value, (dict, list, bool)) or not self.node.text:
            self.wrong(f"{self.shown()} is not a text")
            return "?"
        if len(self.node.text) > most or not self.node.text.isprintable():
            self.wrong(f"{self.shown()} is not one line of at most {most} printable characters")
            return "?"
        return self.node.text

    def name(self, what: str, taken: Iterable[str] = (), reserved: str = "") -> str:
        """Return a name that is fit for file names and logs, and not taken yet."""
        value, name = self.node.value, self.node.text
        if value is None or isinstance(value, (dict, list, bool)) or not NAME.fullmatch(name):
            self.wrong(f"{self.shown()} is not a name of a {what} ({NAME_ALLOWED})")
        elif name == reserved:
            self.wrong(f"{name!r} is reserved: it stands for every {what}")
        elif name in taken:
            self.wrong(f"{name!r} names another {what} already")
        return name

    def choice(self, words: Sequence[str]) -> str:
        """Return one of some words."""
        if isinstance(self.node.value, (dict, list)) or self.node.text not in words:
            shown = [*words[:CHOICES_SHOWN], "..."] if len(words) > CHOICES_SHOWN else words
            self.wrong(f"{self.shown()} is not one of {', '.join(shown)}{nearest(self.node.text, words)}")
            return words[0]
        return self.node.text

    def flag(self) -> bool:
        """Return true or false."""
        if not isinstance(self.node.value, bool):
            self.wrong(f"{self.shown()} is not true or false")
        return self.node.value is True

    def whole(self, low: int, high: int) -> int:
        """Return a whole number that needs no unit: a level, a count, a pid."""
        value = self.node.value
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            self.wrong(f"{self.shown()} is not in {low}..{high}")
            return low
        return value

    def number(self, low: float, high: float) -> float:
        """Return a number that needs no unit: a cost, a number of cores."""
        value = self.node.value
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not low <= value <= high:
            self.wrong(f"{self.shown()} is not a number in {low:g}..{high:g}")
            return low
        return float(value)

    def seconds(self, low: float, high: float) -> float:
        """Return a time such as `3s`, in seconds."""
        seconds = self._quantity(parse_seconds, f"a time such as 3s (units: {', '.join(SECONDS)})", low)
        if not low <= seconds <= high:
            self.wrong(f"{self.shown()} is not in {low:g}s..{high:g}s")
            return low
        return seconds

    def size(self, low: int, high: int = 1 << 50) -> int:
        """Return a size such as `64MiB`, in bytes."""
        size = self._quantity(parse_bytes, f"a size such as 64MiB (units: {', '.join(BYTES)})", low)
        if not low <= size <= high:
            self.wrong(f"{self.shown()} is not in {format_bytes(low)}..{format_bytes(high)}")
            return low
        return int(size)

    def ratio(self) -> float:
        """Return a share such as `25%`, as 0…1."""
        return self._quantity(parse_ratio, "a share such as 25%", 0.0)

    def is_ratio(self) -> bool:
        """Tell whether a share is written here rather than a size."""
        return self.node.text.rstrip().endswith("%")

    def _quantity(self, parse: Callable[[str], float], allowed: str, fallback: float) -> float:
        value = self.node.value
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            self.wrong(f"{self.shown()} has no unit: write {allowed}")
        elif not isinstance(value, str) or len(value) > QUANTITY_MAX_CHARS:
            self.wrong(f"{self.shown()} is not {allowed}")
        else:
            try:
                return parse(value)
            except ValueError as error:
                self.wrong(str(error))
        return fallback


def nearest(word: str, allowed: Sequence[str]) -> str:
    """Return `, did you mean ...?` for a slip of the pen, else nothing."""
    close = difflib.get_close_matches(word[:SHOWN_MAX_CHARS], allowed, n=1)
    return f" (did you mean {close[0]}?)" if close else ""
