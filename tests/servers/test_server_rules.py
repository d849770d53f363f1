"""Server hooks in rule files: what is allowed, what is told where it is not, and how it reaches the helper."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from oomguard.act.errands import OWED
from oomguard.act.hooks import Hook, Request
from oomguard.act.order import write_order
from oomguard.act.servers import debts
from oomguard.act.servers.ask import Ask, read_ask
from oomguard.decide.plan import EVICTING_POLICIES, SERVER_KINDS, HookPlan, Plan
from oomguard.decide.plan_json import from_json, to_json
from oomguard.decide.rules import RulesError, parse_rules
from oomguard.errors import ConfigError

jsonschema = pytest.importorskip("jsonschema")

RULES = "version: 1\nhooks: [%s]\nrules: [{name: r, when: {level_at_least: 2}, then: [{hook: any}]}]\n"
SCHEMA = jsonschema.Draft202012Validator(json.loads((Path(__file__).parents[2] / "rules/schema.json").read_text()))

GOOD = [
    ("redis: {address: '127.0.0.1:6379'}", {"address": "127.0.0.1:6379"}),
    ("redis: {address: 'unix:/run/r.sock', user: og, password_file: /etc/og/r, policy: allkeys-lfu}",
     {"address": "unix:/run/r.sock", "user": "og", "password_file": "/etc/og/r", "policy": "allkeys-lfu"}),
    ("redis: {address: '[::1]:6379'}", {"address": "[::1]:6379"}),
    ("memcached: {address: 'cache.lan:11211'}", {"address": "cache.lan:11211"}),
    ("nginx: {cache: /dev/shm/cache}", {"address": "/dev/shm/cache"}),
    ("jvm: true", {}),
    ("webhook: {url: 'http://127.0.0.1:8080/release?a=1'}", {"address": "http://127.0.0.1:8080/release?a=1"}),
    ("webhook: {url: 'http://localhost', token_file: /t}", {"address": "http://localhost", "password_file": "/t"}),
    ("webhook: {url: 'http://[::1]:80/'}", {"address": "http://[::1]:80/"}),
    ("webhook: {url: 'http://app.lan/x', remote: true}", {"address": "http://app.lan/x"}),
    ("chromium: {address: '127.0.0.1:9222'}", {"address": "127.0.0.1:9222"}),
]
BAD = [   # hook, where, what is said, whether the schema sees it
    ("redis: {}", ".redis", "address is missing", True),
    ("redis: true", ".redis", "true is not a mapping of address", True),
    ("redis: {address: '6379'}", ".redis.address", "'6379' is not host:port, nor unix:/path", True),
    ("redis: {address: 'h:0'}", ".redis.address", "not host:port", False),
    ("redis: {address: 'h:65536'}", ".redis.address", "not host:port", False),
    ("redis: {address: '::1:6379'}", ".redis.address", "is written [::1]:6379", True),
    ("redis: {address: 'unix:run/r.sock'}", ".redis.address", "is not unix: and a path", True),
    (f"redis: {{address: 'unix:/{'x' * 200}'}}", ".redis.address", "at most 107 bytes", False),
    ("redis: {address: 'h:1', password: secret}", ".redis.password", "did you mean password_file?", True),
    ("redis: {address: 'h:1', user: a}", ".redis", "password_file is missing", True),
    ("redis: {address: 'h:1', password_file: secret}", ".redis.password_file", "is not a path from the root", True),
    ("redis: {address: 'h:1', password_file: /a/../b}", ".redis.password_file", "is not a path from the root", True),
    ("redis: {address: 'h:1', policy: noeviction}", ".redis.policy", "is not one of allkeys-lru", True),
    ("memcached: {adress: 'h:1'}", ".memcached.adress", "did you mean address?", True),
    ("memcached: 'h:1'", ".memcached", "is not a mapping of address", True),
    ("nginx: {cache: cache}", ".nginx.cache", "is not a path from the root", True),
    ("nginx: {}", ".nginx", "cache is missing", True),
    ("jvm: {pid: 1}", ".jvm", "is not true", True),
    ("webhook: {url: 'https://127.0.0.1/'}", ".webhook.url", "does not begin with http://", True),
    ("webhook: {url: 'http://example.com/'}", ".webhook.url", "say remote: true", False),
    ("webhook: {url: 'http://127.0.0.1.example.com/'}", ".webhook.url", "say remote: true", False),
    ("webhook: {url: 'http://127.0.0.1@example.com/'}", ".webhook.url", "no place for a password", True),
    ("webhook: {url: 'http://127.0.0.1/a b'}", ".webhook.url", "holds what no URL may", False),
    ("webhook: {url: 'http://'}", ".webhook.url", "is not host:port", True),
    ("webhook: {url: 'http://127.0.0.1/', remote: 1}", ".webhook.remote", "is not true or false", True),
    ("chromium: {address: '10.0.0.1:9222'}", ".chromium.address", "is not a port of this machine", True),
    ("chromium: {address: 'unix:/x'}", ".chromium.address", "is not a port of this machine", True),
    ("redis: {address: 'h:1'}, memcached: {address: 'h:1'}", "", "redis and memcached of command", True),
]


def rules(hook: str) -> str:
    return RULES % f"{{name: h, {hook}}}"


@pytest.mark.parametrize(("hook", "settings"), GOOD)
def test_what_is_allowed(hook: str, settings: dict[str, str]) -> None:
    """It becomes a hook of that kind, for the schema too, and crosses to the daemon unchanged."""
    plan = parse_rules(rules(hook))
    kind = hook.partition(":")[0]
    assert plan.hooks == (HookPlan("h", kind, **settings),)
    assert from_json(to_json(plan)).hooks == plan.hooks
    assert not list(SCHEMA.iter_errors(yaml.safe_load(rules(hook))))


@pytest.mark.parametrize(("hook", "where", "says", "is_seen"), BAD)
def test_what_is_not(hook: str, where: str, says: str, is_seen: bool) -> None:
    """It is told with its place; the schema sees it, too, where a schema can."""
    with pytest.raises(ConfigError) as refused:
        parse_rules(rules(hook))
    error = refused.value.problems[0] if isinstance(refused.value, RulesError) else refused.value
    assert error.path == f"hooks[0]{where}"
    assert says in error.problem
    assert bool(list(SCHEMA.iter_errors(yaml.safe_load(rules(hook))))) == is_seen


def test_the_schema_knows_every_kind_and_policy() -> None:
    """What is listed twice is the same."""
    hook = SCHEMA.schema["$defs"]["hook"]
    assert set(SERVER_KINDS) <= hook["properties"].keys()
    assert tuple(hook["properties"]["redis"]["properties"]["policy"]["enum"]) == EVICTING_POLICIES
    assert {one["required"][0] for one in hook["oneOf"]} == {"command", "signal", "reclaim", *SERVER_KINDS}


def test_the_helper_looks_for_notes_where_they_are_left() -> None:
    """Said in two places, so that a helper without server hooks need not load them."""
    assert OWED == debts.FOLDER


TEXT = st.text(st.characters(exclude_categories=("C", "Z")), max_size=20)
PLANS = st.builds(HookPlan, TEXT, st.sampled_from(SERVER_KINDS), address=TEXT, user=TEXT, password_file=TEXT,
                  policy=st.sampled_from(("", *EVICTING_POLICIES)), argv=st.just(()), signal=st.just(""),
                  swappiness=st.none(), cost=st.just(1.0), deadline_s=st.just(5.0), minimum_bytes=st.just(1),
                  targets=st.just(()))
REQUESTS = st.builds(Request, st.integers(0, 5), st.integers(1, 1 << 50), st.booleans(), st.floats(0.01, 300), TEXT,
                     TEXT, st.just(()), TEXT, st.just(math.nan) | st.floats(0, 1), st.just(()))


@given(PLANS, REQUESTS, st.booleans())
def test_the_helper_reads_what_the_guard_orders(plan: HookPlan, request: Request, is_dry_run: bool) -> None:
    """Every field of plan and request arrives, through JSON; an unknown share stays unknown."""
    order: Any = json.loads(json.dumps(write_order(7, Hook.from_plan(plan), request, "/", is_dry_run)))
    ask = read_ask(order, [])
    same = Ask(plan.address, plan.user, plan.password_file, plan.policy, request.level, request.needed_bytes,
               request.release_all, ask.ratio, request.deadline_s, request.reason, request.target, (), is_dry_run)
    assert ask == same
    assert ask.ratio == request.ratio or (math.isnan(ask.ratio) and math.isnan(request.ratio))
    assert order["do"] == plan.kind


@given(st.integers(1, 1 << 50), st.integers(0, 1 << 50), st.floats(0, 1))
def test_how_much_is_wanted(needed_bytes: int, held_bytes: int, ratio: float) -> None:
    """What is needed, a share of what is held, or all of it."""
    ask = Ask("", "", "", "", 4, needed_bytes, False, math.nan, 5.0, "", "", (), False)
    assert ask.wanted_bytes(held_bytes) == needed_bytes
    assert ask._replace(ratio=ratio).wanted_bytes(held_bytes) == math.ceil(ratio * held_bytes)
    assert ask._replace(release_all=True).wanted_bytes(held_bytes) == held_bytes


def test_a_plan_with_a_policy_that_evicts_nothing_is_refused() -> None:
    """The daemon does not take it from anybody."""
    plan: Plan = parse_rules(rules("redis: {address: 'h:1'}"))
    bad = plan._replace(hooks=(plan.hooks[0]._replace(policy="noeviction"),))
    with pytest.raises(ConfigError, match="policy"):
        from_json(to_json(bad))
