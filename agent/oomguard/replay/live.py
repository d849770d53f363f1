"""The explanation of this very moment: the running guard's window file, its rules' state in it, and its own status."""

from __future__ import annotations

import os
from math import nan

import numpy as np

from oomguard import features, ring
from oomguard.decide.levels import kept_level, level_of
from oomguard.decide.view import View
from oomguard.errors import NotPermittedError, TargetGoneError, UsageError
from oomguard.forecast import Forecast, time_to_limit_s
from oomguard.forest import HORIZONS_S, cumulated, unpack
from oomguard.guard import PRESSURE_SPAN_S
from oomguard.guards import _file_name
from oomguard.net import Net
from oomguard.replay.contributions import Contributions, contributions_to
from oomguard.replay.explain import Explanation, Point
from oomguard.replay.recording import RecordedRun
from oomguard.replay.replay import Replayer, Setting
from oomguard.replay.words import Push, pushes
from oomguard.scorer import Scorer, gated
from oomguard.window import Window


def explain_now(setting: Setting, folder: str, target: str) -> Explanation:
    """Explain what a running guard sees of a target.

    Args:
        setting: the guard's rules, with the profile of its machine, and its model.
        folder: the guard's runtime folder.
        target: the target's name.

    Raises:
        TargetGoneError: the guard keeps no window of it, or the window is empty.
        NotPermittedError: the window is not ours to read.
    """
    profile = setting.plan.profile
    replayer = Replayer(setting)
    model = replayer.model_for(RecordedRun(target, target, profile, {}, [], []))
    window = read_window(os.path.join(folder, "windows", _file_name(target) + ".window"),
                         {} if model is None else model.phases)
    scorer = Scorer(gated(model), profile)
    forecast = scorer.score(window)
    if forecast is not None and model is not None and isinstance(model.forest, Net):
        row = np.array(features.of(window.buffer, features.statics(profile)), np.float32)
        forecast = Forecast(*cumulated(model.forest.classes(row[None])[0].tolist(), model.forest.calibration))
    view = _view(window, {} if model is None else model.phases)
    ratio = view.headroom_bytes / view.limit_bytes
    level = kept_level(level_of(forecast, scorer.thresholds, ratio, setting.plan.plain_headroom_ratios), view.t_s,
                       ratio, window.state)
    limit_s = None if forecast is None else time_to_limit_s(forecast)
    view = view._replace(level=level, forecast=forecast, time_to_limit_s=limit_s)
    standings = setting.decider_of(RecordedRun(target, target, profile, {}, [], [])).standings(view, window.state)
    history = tuple(Point(block.t_s, block.used_bytes, block.headroom_bytes, block.limit_bytes)
                    for block in window.blocks())
    score: Contributions | None = None
    pushed: tuple[Push, ...] = ()
    if forecast is not None and setting.bundle is not None and setting.bundle.forest:
        row = np.array(features.of(window.buffer, features.statics(profile)), np.float32)
        score = contributions_to(unpack(setting.bundle.forest), row, HORIZONS_S[-1])
        pushed = pushes(score, row, history[-1].t_s - history[0].t_s)
    return Explanation(
        target, target, "now", history[-1], level, window.constraint, forecast, scorer.thresholds,
        setting.plan.plain_headroom_ratios, limit_s, "" if forecast is not None else scorer.abstains_because(window),
        "" if model is None else model.model_id, history, (), score, pushed, standings, None,
        (), (), nan, "running", nan)


def read_window(path: str, phases: dict[str, int]) -> Window:
    """Return a copy of a window file, as of its last whole sample. Raises as `explain_now`."""
    try:
        with open(path, "rb") as file:
            data = bytearray(file.read(ring.WINDOW_BYTES + 1))
    except FileNotFoundError:
        raise TargetGoneError(f"{path}: the guard keeps no window of this target there") from None
    except PermissionError:
        raise NotPermittedError(f"{path}: be root, or the guard's user") from None
    if len(data) != ring.WINDOW_BYTES or bytes(data[:8]) != ring.MAGIC:
        raise UsageError(f"{path} is no window of this version")
    window = Window(data, path, phases)
    if not len(window):
        raise TargetGoneError(f"{path}: nothing has been read of this target yet")
    return window


def _view(window: Window, phases: dict[str, int]) -> View:
    """Return what the rules see, from the newest block; level and forecast are still open."""
    base, which, _count = ring.head_of(window.buffer)
    slot = (base + 1 + which) % ring.CAPACITY
    floats = window.buffer.cast("f")
    number = {name: floats[ring.word_of(name, slot)] for name in ring.NARROW}
    words = {number: name for name, number in phases.items()}
    phase = words.get(int(number["phase"])) if number["phase"] == number["phase"] else None
    some, full = (window.share_of_time(name, PRESSURE_SPAN_S) for name in ("psi_some_us", "psi_full_us"))
    return View(window.last_t_s, 0, None, None, number["limit_bytes"], number["used_bytes"], number["charged_bytes"],
                number["headroom_bytes"], number["available_bytes"], some, full, phase)
