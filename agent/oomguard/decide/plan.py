"""The checked plan: what rules become once every word of them has been understood.

The daemon never sees YAML. It reads this, as versioned JSON of at most 256 KiB, and trusts it because the
same version of oomguard wrote it a moment ago.
"""

from __future__ import annotations

from oomguard.profile import Profile
from oomguard.typed import NamedTuple

PLAN_VERSION = 1
PLAN_MAX_BYTES = 256 * 1024
STATE_SLOTS = 256            # float64s a window keeps for one target
RULE_SLOTS = 244             # of them for its rules: holds, cooldowns, recent actions; the rest keeps its level

TARGET_KINDS = ("unit", "cgroup", "pid", "command", "self", "system")
SERVER_KINDS = ("redis", "memcached", "nginx", "jvm", "webhook", "chromium")
HOOK_KINDS = ("command", "signal", "reclaim", *SERVER_KINDS)
EVICTING_POLICIES = ("allkeys-lru", "allkeys-lfu", "allkeys-random", "volatile-lru", "volatile-lfu",
                     "volatile-random", "volatile-ttl")
RELEASE_KINDS = ("needed", "ratio", "bytes", "all")
THRESHOLD_TESTS = ("level_at_least", "probability_above", "used_above", "charged_above", "headroom_below",
                   "available_below", "time_to_limit_below", "pressure_above")
GROUP_TESTS = ("any", "all", "not")
TESTS = (*THRESHOLD_TESTS, "phase", *GROUP_TESTS)
HORIZONS_S = (60.0, 120.0, 180.0, 240.0, 300.0)
MODEL_MAY_BE = ("unsigned", "older")
CONDITION_MAX_DEPTH = 12
MAX_ACTIONS_PER_MINUTE = 60


class TargetPlan(NamedTuple):
    """What is to be guarded, and how it is found."""

    name: str
    kind: str               # unit | cgroup | pid | command | self | system
    value: str = ""         # unit name, cgroup path, pid, command name; empty for self and system


class Condition(NamedTuple):
    """One node of a rule's `when`: a test with its arguments, or any/all/not of other nodes."""

    test: str                               # level_at_least, used_above, any, all, not …
    value: float = 0.0                      # level, ratio, bytes or seconds, as the test says
    within_s: float = 0.0                   # probability_above: the horizon, 60…300
    word: str = ""                          # pressure_above: some|full; phase: its name; available_below: ram
                                            # where `value` is a share of RAM, else empty and `value` is bytes
    for_s: float = 0.0                      # must hold so long before it counts (debounce)
    until: float | None = None              # once true, it stays so until the reading is back here
    parts: tuple[Condition, ...] = ()


class Release(NamedTuple):
    """How much a hook is asked for."""

    kind: str                # needed | ratio | bytes | all
    amount: float = 0.0      # ratio 0…1 of what the hook holds, or bytes


class Action(NamedTuple):
    """One step of a rule's `then`. The hook `any` stands for every hook of the target, cheapest first."""

    hook: str
    release: Release


class Rule(NamedTuple):
    """A sentence (`name`), when it holds, and what is then done."""

    name: str
    when: Condition
    then: tuple[Action, ...]
    cooldown_s: float = 30.0
    targets: tuple[str, ...] = ()           # names of targets it is for; empty: all


class HookPlan(NamedTuple):
    """A hook that rules declare (in-process callables register themselves instead)."""

    name: str
    kind: str                               # command | signal | reclaim, or one of SERVER_KINDS
    argv: tuple[str, ...] = ()              # command: the program and its arguments, never a shell line
    signal: str = ""                        # signal: SIGUSR1 …
    swappiness: int | None = None           # reclaim: 0…200 as the kernel takes it; None: the kernel's own
    cost: float = 1.0                       # relative cost of a byte given back; cheapest first
    deadline_s: float = 5.0
    minimum_bytes: int = 1 << 20            # asking for less is not worth the trouble
    targets: tuple[str, ...] = ()           # as in Rule
    address: str = ""                       # redis, memcached, chromium: host:port or unix:/path; nginx: the
                                            # folder of its cache; webhook: the URL
    user: str = ""                          # redis: of its access list; command: who it runs as, empty: the helper's
    password_file: str = ""                 # redis, webhook (a bearer token): read when it is needed
    policy: str = ""                        # redis: to evict by; empty: the server's own


class Bounds(NamedTuple):
    """What no rule and no model can exceed."""

    actions_per_minute: int = 12
    minimum_gap_s: float = 1.0


class Plan(NamedTuple):
    """Everything the daemon needs to know."""

    targets: tuple[TargetPlan, ...]
    rules: tuple[Rule, ...]
    hooks: tuple[HookPlan, ...] = ()
    bounds: Bounds = Bounds()
    profile: Profile = Profile()
    cadence_s: float = 1.0
    plain_headroom_ratios: tuple[float, ...] = (0.30, 0.20, 0.15, 0.10, 0.05)  # levels 1…5 without a forecast
    model: str = "shipped"                  # shipped | none | the folder of a bundle
    model_may_be: tuple[str, ...] = ()      # of MODEL_MAY_BE: what is refused in a bundle from elsewhere otherwise
    source: str = ""                        # the rule file, for people
    digest: str = ""                        # sha256 of the rules' text
    is_dry_run: bool = False
