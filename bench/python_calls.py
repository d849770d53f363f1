"""The calls that the guard makes from Python, for callgrind to count: `python_calls.py MARKS_LIBRARY TIMES`.

Started by instructions.py under valgrind; without it the marks do nothing.
"""

from __future__ import annotations

import ctypes
import gc
import random
import sys

from oomguard.measure import inputs, stages
from oomguard.scorer import Model, Scorer
from oomguard.window import Window

marks = ctypes.CDLL(sys.argv[1])
times = int(sys.argv[2])


def counted(name, function, arguments):
    """Let callgrind count so many calls, the loop included."""
    for given in arguments[:8]:
        function(*given)
    marks.begin()
    for given in arguments:
        function(*given)
    marks.end(name.encode())


def nothing(_self, _window):
    """Be called: what a call of Python's costs by itself."""


windows = inputs.windows(64)
forest = inputs.forest.Forest(inputs.made_forest(), [-inputs.math.inf] * inputs.features.COUNT,
                              [inputs.math.inf] * inputs.features.COUNT, ((),) * 5)
scored = stages.scorers(stages.Bench(Model("made", "", forest, inputs.NEVER_REACHED, 0.9, {}), windows, inputs.facts(),
                                     stages.load_rules(stages.shipped_pack()), 1))
pushed = Window.in_memory()
samples = list(inputs.random_run(random.Random(inputs.SEED), times + 8, cadence_s=1.0))
gc.collect()
gc.disable()
counted("python_nothing", nothing, (scored * (times // len(scored) + 1))[:times])
counted("python_score", Scorer.score, (scored * (times // len(scored) + 1))[:times])
counted("python_push", pushed.push, [(sample,) for sample in samples[8:]])
