"""`oomguard status`: what the running guard sees of its targets, and who it would tell."""

from __future__ import annotations

import argparse
import json
import math
import textwrap
from collections.abc import Mapping

from oomguard.tell.client import ask
from oomguard.tell.log import escaped
from oomguard.tell.paths import socket_path
from oomguard.units import format_bytes, format_seconds

NAME = "status"
HELP = "show what the running guard sees"
EXAMPLES = """\
  oomguard status
  oomguard status --json | jq '.targets[] | select(.level > 0)'
  oomguard status --socket /run/user/1000/oomguard/control.sock
"""

BAR_CHARS = 12
DEAF = ("nobody listens and no hook is named, so an alarm reaches nobody: name a hook in the rules,"
        " or start the app under `oomguard exec`")
_COLUMNS = "{:<16.16} {:<14} {:>21} {:>5} {:>8} {:<6.6}"      # 75 wide, so that 80 columns hold it
_PROMISED = ("targets", "model", "rules")

Facts = Mapping[str, object]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what `status` takes."""
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--socket", metavar="PATH", default="",
                        help="the guard's control socket (default: $OOMGUARD_SOCKET, else"
                             " /run/oomguard/control.sock, else $XDG_RUNTIME_DIR/oomguard/control.sock)")


def run(args: argparse.Namespace) -> int:
    """Ask the guard and print its answer. Raises the errors of `ask`."""
    status = ask(args.socket or socket_path(), {"op": "status"})
    if args.json:
        print(json.dumps(dict.fromkeys(_PROMISED) | status, indent=2))
    else:
        print(table(status))
    return 0


def table(status: Facts) -> str:
    """Return the answer as people read it, within 80 columns where the names allow.

    Anything in the answer may be missing or odd: the guard may be of another version.
    """
    targets = [target for target in _list(status, "targets") if isinstance(target, Mapping)]
    lines = _heading(status)
    lines += ["", _COLUMNS.format("TARGET", "", "USED/LIMIT", "LEVEL", "TO LIMIT", "SCORER").rstrip()]
    for target in targets:
        lines += [_row(target), *_details(target)]
    waiting = [escaped_text(name) for name in _list(status, "waiting_for")]
    if waiting:
        lines.append(f"waiting for {', '.join(waiting)}: not there now")
    elif not targets:
        lines.append("no target")
    lines += ["", _listeners(status)] if isinstance(status.get("listeners"), Mapping) else []
    warnings = [str(warning) for warning in _list(status, "warnings")]
    if _is_deaf(status, targets) and not any("nobody listens" in warning for warning in warnings):
        warnings.append(DEAF)
    for warning in warnings:
        lines += textwrap.wrap(f"warning: {escaped_text(warning)}", 80, subsequent_indent="  ",
                               break_long_words=False, break_on_hyphens=False)
    return "\n".join(lines)


def _heading(status: Facts) -> list[str]:
    version = escaped_text(status.get("agent_version") or "")
    dry_run = "  DRY RUN: hooks are not called" if status.get("dry_run") else ""
    model = _named(status.get("model"), ("id", "name")) or "none: plain thresholds decide"
    rules = _named(status.get("rules"), ("source", "file")) or "none"
    return [f"oomguard {version}".rstrip() + dry_run, f"model  {model}", f"rules  {rules}"]


def _named(value: object, keys: tuple[str, ...]) -> str:
    """Return a model or a rule file in words: its name, the start of its digest, what is wrong with it."""
    if not isinstance(value, Mapping):
        return escaped_text(value or "")
    name = next((str(value[key]) for key in keys if value.get(key)), "")
    digest, trouble = str(value.get("digest") or "")[:12], str(value.get("trouble") or "")
    return escaped_text("  ".join(part for part in (name, digest, trouble) if part))


def _row(target: Facts) -> str:
    used, limit = _number(target, "used_bytes"), _number(target, "limit_bytes")
    ratio = used / limit if limit > 0 else math.nan
    return _COLUMNS.format(escaped_text(target.get("name", "?")), bar(ratio),
                           f"{format_bytes(used)}/{format_bytes(limit)}", _whole(target.get("level")),
                           format_seconds(_number(target, "time_to_limit_s")),
                           escaped_text(target.get("scorer") or "?")).rstrip()


def _details(target: Facts) -> list[str]:
    """Return the lines below a target: what binds it, what is expected, what would be asked."""
    headroom = format_bytes(_number(target, "headroom_bytes"))
    lines = [f"  {headroom} of headroom below {escaped_text(target.get('constraint') or '?')}"]
    probabilities = target.get("probabilities")
    if isinstance(probabilities, Mapping):
        chances = ", ".join(f"{_percent(chance)} in {escaped_text(within).removeprefix('p')} s"
                            for within, chance in probabilities.items())
        lines.append(f"  chance of a kill: {chances}")
    elif target.get("abstains_because"):
        lines.append(f"  the model abstains: {escaped_text(target['abstains_because'])}")
    hooks = [escaped_text(hook.get("name", "?") if isinstance(hook, Mapping) else hook)
             for hook in _list(target, "hooks")]
    if hooks:
        lines.append(f"  hooks: {', '.join(hooks)}")
    if _number(target, "releases") > 0:
        lines.append(f"  releases: {_whole(target['releases'])}, which gave back"
                     f" {format_bytes(_number(target, 'freed_bytes'))}")
    if _number(target, "kills") > 0:
        lines.append(f"  kills by the kernel: {_whole(target['kills'])}")
    return lines


def _listeners(status: Facts) -> str:
    listeners = status.get("listeners")
    pairs = listeners.items() if isinstance(listeners, Mapping) else ()
    return "listeners: " + ", ".join(f"{escaped_text(kind)} {_whole(count)}" for kind, count in pairs)


def _is_deaf(status: Facts, targets: list[Facts]) -> bool:
    """Return whether an alarm would reach nobody; only where the guard told who listens."""
    listeners = status.get("listeners")
    return (isinstance(listeners, Mapping) and not any(listeners.values())
            and not any(_list(target, "hooks") for target in targets))


def bar(ratio: float) -> str:
    """Return a bar for 0…1: `[######......]`; unknown is `[????????????]`, more than full is full."""
    if ratio != ratio:
        return "[" + "?" * BAR_CHARS + "]"
    full = min(BAR_CHARS, max(0, int(ratio * BAR_CHARS)))       # rounded down: full means full
    return "[" + "#" * full + "." * (BAR_CHARS - full) + "]"


def escaped_text(value: object) -> str:
    """Return a name as it may be shown on a terminal: a cgroup can be called anything."""
    return escaped(str(value)[:256])


def _list(facts: Facts, key: str) -> list[object]:
    value = facts.get(key)
    return list(value) if isinstance(value, (list, tuple)) else []


def _number(facts: Facts, key: str) -> float:
    value = facts.get(key)
    return float(value) if isinstance(value, (int, float)) else math.nan


def _whole(value: object) -> str:
    return str(int(value)) if isinstance(value, (int, float)) and value == value else "?"


def _percent(value: object) -> str:
    return f"{value:.0%}" if isinstance(value, (int, float)) else "?"
