"""The redis hook against real servers: what it frees, what it leaves behind, and what it does when cut off."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from serving import MIB, Guarding, Redis, cgroup_bytes, rss_bytes, until

from oomguard.act.servers import debts
from oomguard.decide.plan import HookPlan
from oomguard.enclosure import Enclosure

Start = Callable[..., Any]
SETTINGS = ("maxmemory", "maxmemory-policy")


def plan(address: str, **more: Any) -> HookPlan:
    return HookPlan("redis", "redis", address=address, **({"policy": "allkeys-lru", "deadline_s": 10.0} | more))


def settings(server: Redis) -> tuple[str, ...]:
    return tuple(server.setting(name) for name in SETTINGS)


@pytest.mark.parametrize(("size", "least"), [(512, 0.1), (20_000, 0.85)], ids=["small-values", "large-values"])
def test_what_is_needed_comes_back_and_the_operators_settings_with_it(
    guard: Guarding, start: Start, folder: Path, enclosure: Callable[..., Enclosure], size: int, least: float,
) -> None:
    """About 40 of 160 MiB leave the process (of small values, in half-empty pages, less), by its own count and the
    kernel's, and its settings are as before.
    """
    group = enclosure()
    server = start(Redis, folder, "--maxmemory", "800mb", enclosure=group)
    server.fill(120 * MIB // size, size)
    until(lambda: abs(server.info("used_memory_rss") - rss_bytes(server.pid)) < MIB, "its own look at itself")
    before, resident, operators = cgroup_bytes(group), server.info("used_memory_rss"), settings(server)
    outcome = guard.ask(plan(server.address), needed_bytes=40 * MIB)
    fell = before - cgroup_bytes(group)
    print(f"redis, {size} B: asked {40 * MIB}, said {outcome.freed_bytes:.0f}, cgroup {fell}, {outcome.why}, "
          f"{outcome.duration_s:.2f} s; resident before {resident}")
    assert outcome.ok, outcome.why
    assert least * 40 * MIB < outcome.freed_bytes < 0.8 * resident
    assert abs(outcome.freed_bytes - fell) < 8 * MIB
    assert settings(server) == operators == (str(800 * MIB), "noeviction")
    assert not debts.any_noted()
    assert server.do("DBSIZE") != "0"


def test_a_server_that_grows_meanwhile_is_not_emptied(guard: Guarding, start: Start, folder: Path) -> None:
    """Its resident memory rises while it evicts: four times what is needed is the end."""
    server = start(Redis, folder)
    server.fill(4000, 20_000, prefix="old")
    is_over = threading.Event()

    def grow() -> None:
        for i in range(100_000):
            if is_over.is_set():
                return
            server.fill(200, 20_000, prefix=f"new{i}-")

    writer = threading.Thread(target=grow)
    writer.start()
    outcome = guard.ask(plan(server.address, deadline_s=3.0), needed_bytes=5 * MIB)
    is_over.set()
    writer.join()
    assert outcome.ok, outcome.why
    assert server.info("used_memory") > 30 * MIB
    assert settings(server) == ("0", "noeviction")


def test_no_write_is_refused_while_everything_is_evicted(guard: Guarding, start: Start, folder: Path) -> None:
    """A client that goes on writing during a release of all gets its answer each time (`fill` checks every one)."""
    server = start(Redis, folder)
    slow(server)
    ticket = guard.start(plan(server.address), release_all=True)
    until_lowered(guard, server)
    while ticket not in guard.outcomes:
        server.fill(50, 2000, prefix="new")
        guard.turn()
    assert guard.outcomes[ticket].ok, guard.outcomes[ticket].why
    assert settings(server) == ("0", "noeviction")


def test_all_and_a_share(guard: Guarding, start: Start, folder: Path) -> None:
    """A quarter is a quarter of the data; all leaves only the room that writes need meanwhile."""
    server = start(Redis, folder)
    server.fill(3000, 20_000)
    data = server.info("used_memory") - server.info("used_memory_startup")
    assert guard.ask(plan(server.address), ratio=0.25).ok
    left = server.info("used_memory") - server.info("used_memory_startup")
    assert 0.55 * data < left < 0.85 * data
    assert guard.ask(plan(server.address), release_all=True).freed_bytes > 0.5 * left
    assert server.info("used_memory") < 8 * MIB
    assert settings(server) == ("0", "noeviction")


def test_keys_without_a_time_to_live_stay_unless_the_rule_says_otherwise(
    guard: Guarding, start: Start, folder: Path,
) -> None:
    """Without a policy a store that evicts nothing loses only what was to go anyway; with none of that, nothing."""
    server = start(Redis, folder)
    server.fill(500, 20_000, prefix="kept")
    outcome = guard.ask(plan(server.address, policy=""), needed_bytes=5 * MIB)
    assert not outcome.ok
    assert "no key has a time to live" in outcome.why
    server.fill(500, 20_000, ttl_s=1000, prefix="going")
    assert guard.ask(plan(server.address, policy=""), release_all=True).ok
    assert server.do("DBSIZE") == "500"
    assert settings(server) == ("0", "noeviction")


def test_the_operators_own_policy_is_used(guard: Guarding, start: Start, folder: Path) -> None:
    """A cache evicts by its own policy, over a unix socket too, and with a password from a file."""
    secret = folder / "secret"
    secret.write_text("s3cret\n")
    server = start(Redis, folder, "--maxmemory-policy", "allkeys-lfu", "--maxmemory", "300mb",
                   "--requirepass", "s3cret")
    server.fill(2000, 20_000)
    hook = plan(f"unix:{server.path}", policy="", password_file=str(secret))
    assert guard.ask(hook, needed_bytes=10 * MIB).ok
    assert settings(server) == (str(300 * MIB), "allkeys-lfu")
    secret.write_text("wrong\n")
    refused = guard.ask(hook, needed_bytes=10 * MIB)
    assert not refused.ok
    assert "AUTH was refused" in refused.why
    assert "wrong" not in refused.why.replace("WRONGPASS", "")


def test_a_replica_is_left_alone(guard: Guarding, start: Start, folder: Path) -> None:
    """It evicts nothing by itself: that is said, and nothing changed."""
    master, replica = start(Redis, folder), start(Redis, folder)
    replica.do("REPLICAOF", "127.0.0.1", str(master.port))
    outcome = guard.ask(plan(replica.address))
    assert not outcome.ok
    assert "replica" in outcome.why


def test_a_dry_run_changes_nothing(guarding: Callable[..., Guarding], start: Start, folder: Path) -> None:
    """It asks, says what it would do, and evicts nothing."""
    server = start(Redis, folder)
    server.fill(500, 20_000)
    outcome = guarding(dry_run=True).ask(plan(server.address), needed_bytes=5 * MIB)
    assert outcome.ok
    assert "dry run: would evict" in outcome.why
    assert server.do("DBSIZE") == "500"


def slow(server: Redis) -> None:
    """Let it evict as slowly as it can, so that there is a middle to be cut off in."""
    server.fill(200_000, 100)
    server.do("CONFIG", "SET", "maxmemory-eviction-tenacity", "0")
    server.do("CONFIG", "SET", "lazyfree-lazy-eviction", "no")


def until_lowered(guard: Guarding, server: Redis, original: str = "0") -> None:
    def is_lowered() -> bool:
        guard.turn()
        return server.setting("maxmemory") != original

    until(is_lowered, "the lowered maxmemory")


def test_a_deadline_in_the_middle_leaves_the_operators_settings(guard: Guarding, start: Start, folder: Path) -> None:
    """What was evicted by then counts, and the settings are back with the answer."""
    server = start(Redis, folder)
    slow(server)
    outcome = guard.ask(plan(server.address, deadline_s=0.3), release_all=True)
    assert settings(server) == ("0", "noeviction"), outcome.why
    assert not debts.any_noted()


def test_settings_come_back_when_the_daemon_is_gone(guard: Guarding, start: Start, folder: Path) -> None:
    """The helper notices the closed channel in the middle of a release, and puts everything back before it leaves."""
    server = start(Redis, folder)
    slow(server)
    guard.start(plan(server.address), release_all=True)
    until_lowered(guard, server)
    guard.runner.close()
    until(lambda: settings(server) == ("0", "noeviction"), "the operator's settings")
    assert not debts.any_noted()


def test_a_killed_helper_leaves_a_note_and_the_next_one_puts_it_right(
    guarding: Callable[..., Guarding], start: Start, folder: Path,
) -> None:
    """After kill -9 the note is there; the next helper reads it as it starts, without any hook of redis."""
    server = start(Redis, folder, "--maxmemory", "500mb")
    slow(server)
    first = guarding()
    first.start(plan(server.address), release_all=True)
    until_lowered(first, server, str(500 * MIB))
    os.kill(first.runner.helper_pid, signal.SIGKILL)
    assert server.setting("maxmemory") != str(500 * MIB)
    assert debts.any_noted()
    second = guarding()
    second.start(HookPlan("c", "command", argv=("true",)))
    until(lambda: settings(server) == (str(500 * MIB), "noeviction"), "the operator's settings")
    until(lambda: not debts.any_noted(), "the end of the note")


def test_what_the_operator_set_meanwhile_stays(guarding: Callable[..., Guarding], start: Start, folder: Path) -> None:
    """A setting that is no longer ours is left alone."""
    server = start(Redis, folder)
    slow(server)
    first = guarding()
    first.start(plan(server.address), release_all=True)
    until_lowered(first, server)
    os.kill(first.runner.helper_pid, signal.SIGKILL)
    server.do("CONFIG", "SET", "maxmemory", "77mb")
    second = guarding()
    second.start(HookPlan("c", "command", argv=("true",)))
    until(lambda: not debts.any_noted(), "the end of the note")
    assert settings(server) == (str(77 * MIB), "noeviction")


def test_a_server_that_hangs_is_put_right_when_it_wakes(guard: Guarding, start: Start, folder: Path) -> None:
    """Stopped in the middle, it fails the release with a word about it; once it runs again its settings come back."""
    server = start(Redis, folder)
    slow(server)
    ticket = guard.start(plan(server.address, deadline_s=1.0), release_all=True)
    until_lowered(guard, server)
    server.process.send_signal(signal.SIGSTOP)
    outcome = guard.wait(ticket)
    assert not outcome.ok
    assert "still lowered" in outcome.why
    assert debts.any_noted()
    server.process.send_signal(signal.SIGCONT)
    until(lambda: not debts.any_noted(), "the end of the note")
    assert settings(server) == ("0", "noeviction")


def test_two_helpers_do_not_take_each_others_settings_for_the_operators(
    guarding: Callable[..., Guarding], start: Start, folder: Path,
) -> None:
    """While one is at a server, the other is refused, by whatever name it calls the server."""
    server = start(Redis, folder)
    slow(server)
    first, second = guarding(), guarding()
    ticket = first.start(plan(server.address, deadline_s=2.0), release_all=True)
    until_lowered(first, server)
    outcome = second.ask(plan(f"unix:{server.path}"), needed_bytes=MIB)
    assert not outcome.ok
    assert "another release" in outcome.why
    first.wait(ticket)
    assert settings(server) == ("0", "noeviction")


def test_other_errands_go_on_while_a_server_hangs(guard: Guarding, start: Start, folder: Path) -> None:
    """A stopped server holds up its own hook until the deadline, and no other."""
    server = start(Redis, folder)
    server.process.send_signal(signal.SIGSTOP)
    ticket = guard.start(plan(server.address, deadline_s=3.0))
    assert guard.ask(HookPlan("c", "command", argv=("echo", "5"))).freed_bytes == 5
    assert ticket not in guard.outcomes
    assert not guard.wait(ticket).ok
    assert not debts.any_noted()
