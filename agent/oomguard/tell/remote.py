"""Remote hooks on the wire: what clients of the control socket may say about them, hostile until read.

What a client must send is checked here, word by word; unknown keys are left alone, so that a newer client can
speak to an older guard.
"""

from __future__ import annotations

from oomguard.tell.wire import Message, WireError
from oomguard.typed import NamedTuple

HOOKS_PER_CLIENT = 64
HOOKS_MAX = 1024
NAME_MAX = 64
COST_MAX = 1e6
DEADLINE_MAX_S = 60.0
BYTES_MAX = float(1 << 60)
WHY_MAX = 200                       # characters of a client's own words that are kept

_NAN = float("nan")
_SIGNS = "_.@:-"                    # as in names of rules: decide/place.py, NAME


class Registration(NamedTuple):
    """A hook that a client offers."""

    name: str
    cost: float
    deadline_s: float
    minimum_bytes: int
    evictable_bytes: float          # NaN: it does not say
    target: str                     # empty: the one that the client is part of


class Released(NamedTuple):
    """What came of a release that a client was asked for."""

    ticket: int
    freed_bytes: float              # NaN: it does not say
    why: str                        # what failed; empty: nothing did


class Wanted(NamedTuple):
    """A release that an operator asks for."""

    target: str
    hook: str
    kind: str                       # needed | all | bytes
    amount_bytes: float


def registration(message: Message) -> Registration:
    """Read `register`. Raises WireError that says what is allowed."""
    return Registration(
        name_in(message, "name"), _number(message, "cost", 0.0, COST_MAX, 1.0),
        _number(message, "deadline_s", 0.001, DEADLINE_MAX_S, 5.0),
        int(_number(message, "minimum_bytes", 0.0, BYTES_MAX, float(1 << 20))),
        _number(message, "evictable_bytes", 0.0, BYTES_MAX, _NAN), target_in(message))


def released(message: Message) -> Released:
    """Read `released`. Raises WireError that says what is allowed."""
    ticket = _number(message, "ticket", 1.0, BYTES_MAX, _NAN)
    if ticket != ticket or ticket != int(ticket):
        raise WireError("ticket is the number that came with the release")
    why = message.get("error") or ""
    if not isinstance(why, str):
        raise WireError("error is a text")
    return Released(int(ticket), _number(message, "freed_bytes", 0.0, BYTES_MAX, _NAN), why[:WHY_MAX])


def gauge(message: Message) -> tuple[str, float]:
    """Read `gauge`: the hook, and what it could give back; NaN where that is not known any more."""
    if "evictable_bytes" not in message:
        raise WireError("evictable_bytes is missing: bytes, or null where they are not known")
    return name_in(message, "hook"), _number(message, "evictable_bytes", 0.0, BYTES_MAX, _NAN)


def phase(message: Message) -> str | None:
    """Read `state`: what the app does, in its own word; None: it does not say."""
    word = message.get("phase", "")
    if word is not None and not (isinstance(word, str) and 0 < len(word) <= NAME_MAX and word.isprintable()):
        raise WireError(f"phase is 1 to {NAME_MAX} printable characters, or null")
    return word


def wanted(message: Message) -> Wanted:
    """Read `release`: how much is `needed` (the guard reckons), `all`, or a number of bytes."""
    hook = name_in(message, "hook") if "hook" in message else "any"
    amount = message.get("bytes", "needed")
    if amount in ("needed", "all"):
        return Wanted(target_in(message), hook, str(amount), 0.0)
    if amount is None or isinstance(amount, (str, bool)):
        raise WireError("bytes is needed, all, or a number")
    return Wanted(target_in(message), hook, "bytes", _number(message, "bytes", 1.0, BYTES_MAX, _NAN))


def name_in(message: Message, key: str) -> str:
    """Return the name at a key. Raises WireError where it is missing or unfit for logs and rules."""
    name = message.get(key)
    if not (isinstance(name, str) and 0 < len(name) <= NAME_MAX and name.isascii() and name[0] not in ".@:-"
            and all(each.isalnum() or each in _SIGNS for each in name)):
        raise WireError(f"{key} is 1 to {NAME_MAX} letters, digits and {_SIGNS}, the first no sign")
    return name


def target_in(message: Message) -> str:
    """Return the target that is named, or an empty string. Raises WireError where it is no text."""
    target = message.get("target", "")
    if not isinstance(target, str):
        raise WireError("target is the name of one, as `status` shows it")
    return target


def _number(message: Message, key: str, low: float, high: float, default: float) -> float:
    number = message.get(key)
    if number is None:
        return default
    if isinstance(number, bool) or not isinstance(number, (int, float)) or not low <= number <= high:
        raise WireError(f"{key} is a number from {low:g} to {high:g}")
    return float(number)
