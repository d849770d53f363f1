"""Scoring by a net: asked at one tick, answered by the helper for the next; whatever goes wrong leaves plain levels."""

from __future__ import annotations

import importlib.util
import math
import os
import select
import signal
import sys
import time
from collections.abc import Callable, Iterator

import numpy as np
import pytest

from oomguard import features, net, net_scorer
from oomguard.act.link import Answer, Scored
from oomguard.act.runner import Runner
from oomguard.act.scoring import PART_BYTES, PATIENCE_S, ROWS_MOST, TOGETHER, Scoring
from oomguard.clock import now_s
from oomguard.errors import BundleError
from oomguard.forest import CLASSES, MIN_WINDOW_S, cumulated
from oomguard.net import MAX_BYTES, STALE_TICKS, Net
from oomguard.net_scorer import NetScorer
from oomguard.profile import Profile
from oomguard.scorer import Model, Scorer, gated, open_scorer, scorer_in
from oomguard.sense.sample import Sample
from oomguard.series import forecasts_of_run, series_rows
from windows import LIMIT_BYTES, plain_sample, window_of

PATIENCE = 20.0
LOW, HIGH = [-math.inf] * features.COUNT, [math.inf] * features.COUNT
KNOTS = (((0.0, 0.0), (1.0, 0.9)),) * 5
FLAT = [[1 / CLASSES] * CLASSES]
HAS_RUNTIME = all(importlib.util.find_spec(name) for name in ("onnxruntime", "onnx"))
needs_runtime = pytest.mark.skipif(not HAS_RUNTIME, reason="onnx and onnxruntime are not installed")
MIB = float(1 << 20)


def graph(outputs: int = CLASSES) -> bytes:
    """Return a linear softmax that looks at the headroom alone."""
    from oomguard.learn.zoo.graph import Scaling, to_onnx

    scaling = Scaling(np.array([0]), np.array([0.5], np.float32), np.array([0.3], np.float32), np.array([0]))
    weights = np.vstack([np.linspace(2, -2, outputs), np.linspace(0, 1, outputs)])
    return to_onnx(scaling, [(weights, np.zeros(outputs))])


def model(onnx: bytes = b"bytes of a graph", low: list[float] = LOW) -> Model:
    """Return a model that is a net."""
    return Model("net", "", Net(onnx, low, HIGH, KNOTS), (0.5,) * 5, 0.9, {})


class FakeOracle:
    """Remembers what it was asked."""

    def __init__(self) -> None:
        self.problem = ""
        self.asked: list[tuple[int, bytes]] = []
        self.forgotten: list[NetScorer] = []

    def ask(self, asker: NetScorer, tick: int, row: bytes) -> None:
        """Remember it."""
        self.asked.append((tick, row))

    def forget(self, asker: NetScorer) -> None:
        """Remember it."""
        self.forgotten.append(asker)


@pytest.fixture
def scorer() -> Iterator[tuple[NetScorer, FakeOracle]]:
    """A scorer before an oracle that the test speaks for."""
    oracle, its = FakeOracle(), model()
    assert isinstance(its.forest, Net)
    yield NetScorer(its, its.forest, Profile(), oracle), oracle


# -- the scorer --------------------------------------------------------------------------------------------------

def test_it_asks_at_a_tick_and_has_the_answer_at_the_next(scorer: tuple[NetScorer, FakeOracle]) -> None:
    """The row is the window's features; the forecast is cumulated and calibrated as a forest's."""
    its, oracle = scorer
    window = window_of([100 * MIB] * 60)
    assert its.score(window) is None
    tick, row = oracle.asked[0]
    assert row == features.of(window.buffer, features.statics(Profile())).tobytes()
    classes = [0.5, 0.1, 0.1, 0.1, 0.1, 0.1]
    its.answered(tick, classes)
    assert its.score(window) == pytest.approx(cumulated(classes, KNOTS))
    assert its.abstains_because(window) == ""


def test_an_answer_grows_stale(scorer: tuple[NetScorer, FakeOracle]) -> None:
    """It holds for STALE_TICKS ticks; then nobody has spoken, and why is said."""
    its, oracle = scorer
    window = window_of([100 * MIB] * 60)
    its.score(window)
    its.answered(1, FLAT[0])
    held = [its.score(window) is not None for _ in range(STALE_TICKS + 2)]
    assert held == [True] * STALE_TICKS + [False] * 2
    assert "has said nothing of the last 3 readings" in its.abstains_because(window)
    oracle.problem = "no onnxruntime here"
    assert its.abstains_because(window) == "no onnxruntime here"


def test_an_older_answer_never_replaces_a_newer_one(scorer: tuple[NetScorer, FakeOracle]) -> None:
    """Answers may come in any order; a row that gave no number is no answer."""
    its, _oracle = scorer
    window = window_of([100 * MIB] * 60)
    its.score(window)
    its.score(window)
    its.answered(2, FLAT[0])
    newest = its.score(window)
    its.answered(1, [1.0, 0, 0, 0, 0, 0])
    its.answered(3, [])
    assert its.score(window) == newest


def test_a_short_or_strange_window_is_not_asked_about() -> None:
    """It abstains exactly where a forest of the same ranges does, and gives the same reason."""
    low = list(LOW)
    low[features.NAMES.index("headroom_ratio")] = 0.5
    its, oracle = model(low=low), FakeOracle()
    assert isinstance(its.forest, Net)
    asker, gate = NetScorer(its, its.forest, Profile(), oracle), Scorer(gated(its), Profile())
    for window in (window_of([200 * MIB] * 5), window_of([10 * MIB] * 60)):
        assert asker.score(window) is None
        assert asker.abstains_because(window) == gate.abstains_because(window) != ""
    assert oracle.asked == []
    fine = window_of([200 * MIB] * 60)
    asker.score(fine)
    assert len(oracle.asked) == 1


def test_letting_go_of_the_window_forgets_the_question(scorer: tuple[NetScorer, FakeOracle]) -> None:
    """A window that is let go can be closed."""
    its, oracle = scorer
    window = window_of([100 * MIB] * 60)
    its.score(window)
    its.release()
    assert oracle.forgotten == [its]
    window.close()


def test_who_speaks_is_named() -> None:
    """Log and status say forest, onnx or plain."""
    assert (scorer_in(None), scorer_in(model()), scorer_in(gated(model()))) == ("plain", "onnx", "forest")
    with pytest.raises(TypeError, match="open_scorer"):
        Scorer(model(), Profile())


@pytest.mark.parametrize("data", [b"", b"x" * (MAX_BYTES + 1)])
def test_a_net_of_no_size_is_refused(data: bytes) -> None:
    """Nothing, and more than 4 MiB."""
    with pytest.raises(BundleError, match=r"model\.onnx"):
        Net(data, LOW, HIGH, KNOTS)


# -- the daemon's end of the channel -----------------------------------------------------------------------------

class Line:
    """A Scoring, what it sent, and what it told."""

    def __init__(self, onnx: bytes = b"x" * (PART_BYTES + 1)) -> None:
        self.sent: list[dict[str, object]] = []
        self.told: list[str] = []
        self._ticket = 0
        self.scoring = Scoring(onnx, self._take, lambda event, *_more, **_fields: self.told.append(event))

    def _take(self) -> int:
        self._ticket += 1
        return self._ticket

    def speak(self, now: float = 0.0) -> list[dict[str, object]]:
        """Let it speak; return what it sent this time."""
        before = len(self.sent)
        self.scoring.speak(self.sent.append, now)
        return self.sent[before:]

    def load(self) -> Line:
        """Let the helper take all parts."""
        while parts := self.speak():
            assert self.scoring.hear(Answer(ticket_of(parts[0]), True, math.nan, 0.1, ""))
        return self


def ticket_of(message: dict[str, object]) -> int:
    """Return a message's ticket."""
    ticket = message["ticket"]
    assert isinstance(ticket, int)
    return ticket


def askers(count: int) -> list[NetScorer]:
    """Return scorers that nobody asks anything of."""
    its = model()
    assert isinstance(its.forest, Net)
    return [NetScorer(its, its.forest, Profile(), FakeOracle()) for _ in range(count)]


def test_the_net_goes_in_parts_one_at_a_time() -> None:
    """The next part waits for the answer to the last; rows wait for the whole."""
    line, one = Line(), askers(1)[0]
    line.scoring.ask(one, 1, bytes(8))
    first = line.speak()
    assert [(message["do"], message["at"], message["of"]) for message in first] == [("net", 0, PART_BYTES + 1)]
    assert line.speak() == []
    line.scoring.hear(Answer(ticket_of(first[0]), True, math.nan, 0.1, ""))
    assert [message["at"] for message in line.speak()] == [PART_BYTES]
    assert line.told == []
    line.scoring.hear(Answer(2, True, math.nan, 0.1, ""))
    assert [message["do"] for message in line.speak()] == ["score"] and line.told == ["net-loaded"]


def test_a_refused_net_is_not_offered_again() -> None:
    """Why is kept for `status`, and told once; no row is sent."""
    line = Line()
    line.scoring.ask(askers(1)[0], 1, bytes(8))
    line.scoring.hear(Answer(ticket_of(line.speak()[0]), False, math.nan, 0.1, "no onnxruntime"))
    assert line.speak() == []
    assert (line.scoring.problem, line.told) == ("no onnxruntime", ["net-refused"])


def test_many_targets_share_messages_and_the_channel_never_fills() -> None:
    """At most ROWS_MOST rows a message and TOGETHER messages unanswered; the rest goes when an answer comes."""
    line, many = Line().load(), askers(ROWS_MOST * TOGETHER + 5)
    for asker in many:
        line.scoring.ask(asker, 1, bytes(4))
        line.scoring.ask(asker, 2, bytes(4))        # the newer row takes the older one's place
    sent = line.speak()
    assert len(sent) == TOGETHER
    assert line.speak() == []
    assert line.scoring.hear(Scored(ticket_of(sent[0]), FLAT * ROWS_MOST))
    assert len(line.speak()) == 1
    window = window_of([100 * MIB] * 60)
    assert many[0].score(window) is not None and many[-1].score(window) is None


def test_a_foreign_answer_is_left_to_others() -> None:
    """A hook's outcome goes by; a ticket is answered once."""
    line = Line().load()
    assert not line.scoring.hear(Answer(99, True, math.nan, 0.1, ""))
    line.scoring.ask(askers(1)[0], 1, bytes(4))
    ticket = ticket_of(line.speak()[0])
    assert line.scoring.hear(Scored(ticket, FLAT)) and not line.scoring.hear(Scored(ticket, FLAT))


def test_a_lost_helper_gets_the_net_anew() -> None:
    """The next one is handed it from the first byte; what the last one owed is forgotten."""
    line = Line().load()
    line.scoring.ask(askers(1)[0], 1, bytes(4))
    asked = ticket_of(line.speak()[0])
    line.scoring.lost("the helper is gone")
    assert "is gone" in line.scoring.problem
    assert [message["at"] for message in line.speak()] == [0]
    assert not line.scoring.hear(Scored(asked, FLAT))


def test_an_answer_that_does_not_come_is_noticed() -> None:
    """After PATIENCE_S, and not where nothing is owed."""
    line = Line().load()
    assert not line.scoring.is_overdue(1e9)
    line.scoring.ask(askers(1)[0], 1, bytes(4))
    line.speak(100.0)
    assert not line.scoring.is_overdue(100.0 + PATIENCE_S - 1)
    assert line.scoring.is_overdue(100.0 + PATIENCE_S)


# -- with a real helper ------------------------------------------------------------------------------------------

class Loop:
    """A runner with a real helper, ticking one scorer."""

    def __init__(self, onnx: bytes) -> None:
        self.runner, self.told = Runner(), []
        self.scorer = open_scorer(model(onnx), Profile(), self.runner, self._tell)
        self._poll = select.poll()
        for fd in self.runner.fds():
            self._poll.register(fd, select.POLLIN)

    def _tell(self, event: str, *_severity: str, **fields: object) -> None:
        self.told.append((event, fields))

    def until(self, is_true: Callable[[], object]) -> object:
        """Run the loop until something is true, and return it."""
        give_up_s = time.monotonic() + PATIENCE
        while not (found := is_true()):
            assert time.monotonic() < give_up_s, f"waited in vain; told {self.told}; {self.runner.last_problem}"
            self.runner.poll(now_s())
            self._poll.poll(20)
            self.runner.poll(now_s())
        return found


@pytest.fixture
def loop() -> Iterator[Callable[[bytes], Loop]]:
    """Start loops that are closed with the test."""
    made: list[Loop] = []

    def begin(onnx: bytes) -> Loop:
        made.append(Loop(onnx))
        return made[-1]

    yield begin
    for one in made:
        one.runner.close()


@needs_runtime
def test_the_helper_says_what_the_net_says(loop: Callable[[bytes], Loop]) -> None:
    """The forecast that comes back is the one that replay computes from the same window."""
    onnx = graph()
    its, window = loop(onnx), window_of([200 * MIB - second * MIB for second in range(100)])
    forecast = its.until(lambda: its.scorer.score(window))
    run = [plain_sample(float(second), 200 * MIB - second * MIB) for second in [*range(100), 100]]
    columns = {name: np.array([getattr(sample, name) for sample in run], float)
               for name in Sample._fields if name not in ("constraint", "phase")}
    replayed = forecasts_of_run(series_rows(columns, ["c"] * 101), Profile(), Net(onnx, LOW, HIGH, KNOTS))
    assert forecast == pytest.approx(replayed[100], abs=1e-6)
    assert [event for event, _fields in its.told] == ["net-loaded"]


@needs_runtime
def test_a_killed_helper_comes_back_with_the_net(loop: Callable[[bytes], Loop]) -> None:
    """Forecasts stop, the plain levels hold, a new helper is handed the net and they go on."""
    its, window = loop(graph()), window_of([100 * MIB] * 60)
    its.until(lambda: its.scorer.score(window))
    os.kill(its.runner.helper_pid, signal.SIGKILL)
    its.until(lambda: its.scorer.score(window) is None and "is gone" in its.scorer.abstains_because(window))
    its.until(lambda: its.scorer.score(window))
    assert [event for event, _fields in its.told] == ["net-loaded"] * 2


@needs_runtime
@pytest.mark.parametrize(("onnx", "says"), [
    (lambda: b"no graph at all", "model.onnx: "), (lambda: graph(4), "gives no [rows, 6]"),
    (lambda: graph()[:-40], "model.onnx: "),
])
def test_bytes_that_are_no_net_of_ours_are_refused(
    loop: Callable[[bytes], Loop], onnx: Callable[[], bytes], says: str,
) -> None:
    """Rubbish, another number of classes, a truncated file: named, the helper lives, no forecast comes."""
    its, window = loop(onnx()), window_of([100 * MIB] * 60)
    its.until(lambda: its.told)
    assert its.told[0][0] == "net-refused" and says in str(its.told[0][1]["because"])
    pid = its.runner.helper_pid
    assert its.scorer.score(window) is None
    assert says in its.scorer.abstains_because(window)
    assert its.runner.helper_pid == pid > 0


def test_no_runtime_is_said_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where onnxruntime is not installed, what to install is named."""
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(BundleError, match=r"onnxruntime.*pip install 'oomguard\[onnx\]'"):
        net.open_session(b"x")


@needs_runtime
def test_replay_is_a_tick_late_as_the_device_is() -> None:
    """Each forecast is of the sample before; after more than STALE_TICKS samples without one there is none."""
    low = list(LOW)
    low[features.NAMES.index("headroom_ratio")] = 0.1
    headroom = np.full(60, 200 * MIB)
    headroom[40:45] = 0.01 * LIMIT_BYTES                # outside the range: nothing is asked
    columns = {"t_s": np.arange(60.0), "limit_bytes": np.full(60, LIMIT_BYTES), "headroom_bytes": headroom,
               "used_bytes": LIMIT_BYTES - headroom}
    rows = series_rows(columns, ["c"] * 60)
    its = Net(graph(), low, HIGH, KNOTS)
    said = np.isfinite(forecasts_of_run(rows, Profile(), its)[:, 0])
    asked = np.isfinite(forecasts_of_run(rows, Profile(), its.gate)[:, 0])
    assert np.flatnonzero(asked)[:1].tolist() == [int(MIN_WINDOW_S)]
    assert np.flatnonzero(said)[:1].tolist() == [int(MIN_WINDOW_S) + 1]
    assert not said[40:46].any() and said[46:].all()


def test_the_daemons_path_brings_no_numpy() -> None:
    """What the daemon imports to score by a net is small: numpy and onnxruntime are the helper's."""
    import subprocess

    code = ("import sys; import oomguard.net_scorer, oomguard.act.scoring, oomguard.act.runner; "
            "sys.exit(bool({'numpy', 'onnxruntime', 'oomguard.act.onnx_scorer'} & set(sys.modules)))")
    folder = os.path.dirname(os.path.dirname(net_scorer.__file__))
    assert subprocess.run([sys.executable, "-c", code], env={"PYTHONPATH": folder}, check=False).returncode == 0
