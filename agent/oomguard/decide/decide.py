"""The decision: which rule acts at this tick, if any, and why.

A `Decider` is a pure function of a view and a flat float64 state. Whoever keeps the state keeps the holds,
latches, cooldowns and bounds: another Decider of the same rules goes on exactly where the first one stopped.

- The first rule in file order that is true and not cooling down acts; at most one a tick.
- The bounds stand over every rule: never more than `actions_per_minute` actions in any 60 s, never two
  decisions closer than `minimum_gap_s`. A rule that they stop gives way to no other: nothing acts then.
- A gap between ticks longer than five cadences (2 s at least) restarts every hold: nobody knows what happened
  meanwhile. Latches and cooldowns go on.
- When the clock goes back, holds restart, and what lies in the future counts as just done: the guard rather
  acts later than twice.
- Under other rules the old holds, latches and cooldowns mean nothing and are dropped; the bounds go on.
"""

from __future__ import annotations

from binascii import crc32
from collections.abc import Sequence

from oomguard.decide.conditions import Call, Slots, State, Test, Truth, compile_condition
from oomguard.decide.plan import MAX_ACTIONS_PER_MINUTE, Action, Bounds, Plan, Rule
from oomguard.decide.view import View
from oomguard.decide.words import because
from oomguard.profile import NAN
from oomguard.typed import NamedTuple

# The state: what it is, whose it is, when it was last used, the last 60 actions; then, rule by rule, when it
# last acted and the holds and latches its conditions need.
LAYOUT, RULES, LAST_TICK, ACTIONS = 0, 1, 2, 3
FIRST_RULE_SLOT = ACTIONS + MAX_ACTIONS_PER_MINUTE
LAYOUT_VERSION = 20251.0
MINUTE_S = 60.0


class Decision(NamedTuple):
    """What is to be done now."""

    rule: str
    rule_index: int                 # place in the plan's rules
    actions: tuple[Action, ...]
    because: str                    # the condition in words


class Standing(NamedTuple):
    """How one rule stands at this tick, for people."""

    rule: str
    truth: Truth                    # None: a reading it needs is unknown
    because: str
    cooling_s: float                # seconds of cooldown left, 0 when none
    is_bounded: bool                # the bounds would stop it now


class _Compiled(NamedTuple):
    place: int
    rule: Rule
    test: Test
    cooldown_slot: int


class Decider:
    """Decides for one target. `state_size` is how many slots of the state it needs, `RULE_SLOTS` at most."""

    __slots__ = ("_bounds", "_calls", "_compiled", "_fingerprint", "_holds", "_max_gap_s", "_ram_bytes",
                 "state_size")

    def __init__(
        self, rules: Sequence[Rule], bounds: Bounds, *, target: str = "", cadence_s: float = 1.0,
        ram_bytes: float = NAN,
    ) -> None:
        """Compile the rules.

        Args:
            rules: every rule of the plan, in file order.
            bounds: what none of them can exceed.
            target: only rules that are for this target are kept; empty keeps all.
            cadence_s: the tick, > 0.
            ram_bytes: what `available_below: 5%` is a share of; NaN makes such conditions unknown.
        """
        kept = [(i, rule) for i, rule in enumerate(rules)
                if not target or not rule.targets or target in rule.targets]
        slots = Slots(FIRST_RULE_SLOT)
        compiled = []
        for index, rule in kept:
            cooldown_slot = slots.take()
            test = compile_condition(rule.when, slots, cadence_s, ram_bytes)
            compiled.append(_Compiled(index, rule, test, cooldown_slot))
        self._compiled = tuple(compiled)
        self._calls: tuple[tuple[Call, _Compiled], ...] = tuple((one.test.call, one) for one in compiled)
        self._bounds, self._ram_bytes = bounds, ram_bytes
        self._max_gap_s = max(5 * cadence_s, 2.0)
        self._holds = tuple(slots.holds)
        self._fingerprint = float(crc32(repr(kept).encode()))
        self.state_size = slots.next

    def decide(self, view: View, state: State, *, is_busy: bool = False) -> Decision | None:
        """Return what to do now, or None.

        Args:
            view: this tick's reading. One whose time is NaN decides nothing.
            state: at least `state_size` floats, changed in place. A fresh one may hold zeros.
            is_busy: an action is still in flight: holds go on, nothing new is decided.
        """
        t_s = view.t_s
        last_s = state[LAST_TICK]
        if not last_s <= t_s <= last_s + self._max_gap_s or state[RULES] != self._fingerprint:
            if t_s != t_s:
                return None
            self._settle(t_s, state)
        state[LAST_TICK] = t_s
        winner = None
        for call, one in self._calls:       # every rule is asked each time: holds must go on
            if call(view, state) and winner is None and not self._cooling_s(one, t_s, state):
                winner = one
        if winner is None or is_busy or self._is_bounded(len(winner.rule.then), t_s, state):
            return None
        text = because(winner.test, view, state, self._ram_bytes)
        self._remember(winner, t_s, state)
        return Decision(winner.rule.name, winner.place, winner.rule.then, text)

    def claim(self, actions: int, t_s: float, state: State) -> bool:
        """Take so many actions out of the bounds for somebody beside the rules; return False where they forbid it.

        Args: state: one that `decide` has seen.
        """
        if self._is_bounded(actions, t_s, state):
            return False
        _note_actions(actions, t_s, state)
        return True

    def standings(self, view: View, state: State) -> tuple[Standing, ...]:
        """Return how every rule stands at this tick; the state stays as it is. For `status` and `explain`."""
        trial, t_s = [state[slot] for slot in range(self.state_size)], view.t_s
        self.decide(view, trial, is_busy=True)
        return tuple(
            Standing(one.rule.name, one.test.call(view, trial),
                     because(one.test, view, trial, self._ram_bytes),
                     self._cooling_s(one, t_s, trial), self._is_bounded(len(one.rule.then), t_s, trial))
            for one in self._compiled)

    def _cooling_s(self, one: _Compiled, t_s: float, state: State) -> float:
        since_s = t_s - state[one.cooldown_slot]
        return one.rule.cooldown_s - since_s if 0 <= since_s < one.rule.cooldown_s else 0.0

    def _is_bounded(self, actions: int, t_s: float, state: State) -> bool:
        ages_s = [t_s - state[slot] for slot in range(ACTIONS, FIRST_RULE_SLOT)]
        recent = sum(1 for age_s in ages_s if 0 <= age_s < MINUTE_S)
        is_too_soon = any(0 <= age_s < self._bounds.minimum_gap_s for age_s in ages_s)
        return is_too_soon or recent + actions > self._bounds.actions_per_minute

    def _remember(self, one: _Compiled, t_s: float, state: State) -> None:
        state[one.cooldown_slot] = t_s
        _note_actions(len(one.rule.then), t_s, state)

    def _settle(self, t_s: float, state: State) -> None:
        """Make sense of a state that is new, of other rules, from before a gap, or from the future."""
        if state[LAYOUT] != LAYOUT_VERSION:
            for slot in range(self.state_size):
                state[slot] = NAN
            state[LAYOUT] = LAYOUT_VERSION
        if state[RULES] != self._fingerprint:
            for slot in range(FIRST_RULE_SLOT, self.state_size):
                state[slot] = NAN
            state[RULES] = self._fingerprint
        for slot in self._holds:
            state[slot] = NAN
        for slot in (*range(ACTIONS, FIRST_RULE_SLOT), *(one.cooldown_slot for one in self._compiled)):
            if state[slot] > t_s:
                state[slot] = t_s


class Deciders:
    """The Deciders of a plan's targets: targets with the same rules share one, as all there is to one is its state."""

    __slots__ = ("_by_rules", "_plan")

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._by_rules: dict[tuple[bool, ...], Decider] = {}

    def of(self, target: str) -> Decider:
        """Return the Decider of a target."""
        rules = tuple(not rule.targets or target in rule.targets for rule in self._plan.rules)
        if rules not in self._by_rules:
            self._by_rules[rules] = decider_for(self._plan, target)
        return self._by_rules[rules]


def decider_for(plan: Plan, target: str, *, ram_bytes: float = NAN) -> Decider:
    """Return the Decider of one target; `ram_bytes` counts where the plan's profile does not know it."""
    own_bytes = plan.profile.ram_bytes
    return Decider(plan.rules, plan.bounds, target=target, cadence_s=plan.cadence_s,
                   ram_bytes=ram_bytes if own_bytes != own_bytes else own_bytes)


def _note_actions(actions: int, t_s: float, state: State) -> None:
    for _action in range(actions):
        oldest = min(range(ACTIONS, FIRST_RULE_SLOT), key=lambda slot: _age_key(state[slot]))
        state[oldest] = t_s


def _age_key(stamp_s: float) -> float:
    return float("-inf") if stamp_s != stamp_s else stamp_s
