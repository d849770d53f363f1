"""Runs both arms side by side, from the first step to the last."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from oomguard.clock import now_s
from oomguard.decide.rules import shipped_pack
from oomguard.demo.arms import Arm, app_argv, guard_argv
from oomguard.demo.screen import Screen
from oomguard.demo.story import Story
from oomguard.enclosure import Enclosure
from oomguard.errors import NotPermittedError, OomguardError

LOOK_EVERY_S = 0.2
_GRACE_S = 15.0             # for two interpreters and a guard to start on a slow, busy device


class Settings(NamedTuple):
    """What is shown."""

    limit_bytes: int
    planned_s: float
    seed: int


def enclosure_or_reason(settings: Settings) -> tuple[Enclosure | None, str]:
    """Return a cgroup with the limit, or why there can be none."""
    try:
        return Enclosure.make("unguarded", settings.limit_bytes), ""
    except NotPermittedError as error:
        return None, str(error)


def show(settings: Settings, enclosure: Enclosure | None, folder: str, screen: Screen) -> tuple[Story, Story]:
    """Run both arms to their end and return what became of them: the unguarded one, the guarded one.

    Args:
        enclosure: where the unguarded app runs; None where no cgroup can be made: then its limit and the
            other's are enforced here.
        folder: an empty one, for reports and logs.

    Raises:
        OomguardError: an app did not even start.
    """
    arms: list[Arm] = []
    try:
        arms.append(_start_unguarded(settings, enclosure, folder))
        arms.append(_start_guarded(settings, folder, has_enclosure=enclosure is not None))
        _watch(arms, settings.planned_s, screen)
    finally:
        with undisturbed():
            for arm in arms:
                arm.stop()
    for arm in arms:
        if arm.story.started_s is None:
            raise OomguardError(f"the {arm.story.name} app did not start: {_last_words(folder, arm.story.name)}")
    return arms[0].story, arms[1].story


@contextmanager
def undisturbed() -> Iterator[None]:
    """Tidy up to the end, however often Ctrl-C is pressed."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _start_unguarded(settings: Settings, enclosure: Enclosure | None, folder: str) -> Arm:
    story = Story("unguarded", settings.limit_bytes)
    return Arm(story, app_argv(folder, story.name, *settings), folder, enclosure, is_supervised=enclosure is None)


def _start_guarded(settings: Settings, folder: str, *, has_enclosure: bool) -> Arm:
    """Start the app under the guard, which makes a cgroup of its own where we could make one."""
    story = Story("guarded", settings.limit_bytes)
    limit_bytes, rules = (settings.limit_bytes, "") if has_enclosure else \
        (0, _rules_with_limit(settings.limit_bytes, folder))
    argv = guard_argv(folder, story.name, limit_bytes, rules) + app_argv(folder, story.name, *settings)
    return Arm(story, argv, folder, is_supervised=not has_enclosure)


def _watch(arms: list[Arm], planned_s: float, screen: Screen) -> None:
    """Look at both until both have ended, or the time is up."""
    start_s = now_s()
    stories = tuple(arm.story for arm in arms)
    while not all(story.ended for story in stories) and now_s() - start_s < planned_s + _GRACE_S:
        time.sleep(LOOK_EVERY_S)
        for arm in arms:
            arm.look()
        screen.draw(stories, max(story.t_s(now_s()) for story in stories))


def _rules_with_limit(limit_bytes: int, folder: str) -> str:
    """Return a rule file that is the shipped one but for the device's limit: nobody else would know it here."""
    with open(shipped_pack(), encoding="utf-8") as file:
        text = file.read()
    path = os.path.join(folder, "rules.yaml")
    with open(path, "w", encoding="utf-8") as file:
        file.write(text.replace("\ndevice: auto\n", f"\ndevice: {{limit: {limit_bytes}B}}\n"))
    return path


def _last_words(folder: str, name: str) -> str:
    """Return the last line that an arm wrote to standard error."""
    with open(os.path.join(folder, f"{name}.err"), encoding="utf-8", errors="replace") as file:
        lines = file.read(65536).split("\n")
    return next((line.strip() for line in reversed(lines) if line.strip()), "it said nothing")
