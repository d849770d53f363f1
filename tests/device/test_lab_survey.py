"""The survey of guards on virtual devices: its smallest form on a real one, and what its page says of results."""

from __future__ import annotations

import copy
import json
import os
import sys
from typing import Any

import pytest

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))

from bench.lab import survey, survey_command, table, workload
from bench.lab.arms import ARMS
from bench.lab.inside import cacher, drive
from bench.lab.site import Site

PHASE = {"stall_s": 1.0, "stall_worst_ratio": 0.2, "silent_worst_s": 1.1, "seconds": 100.0, "guard_rss_bytes": 0,
         "guard_cpu_s": 0.0, "busy_s": 100.0, "kernel_kills": 2, "restarts": {"browser": 2}, "guard_kills": 0,
         "redis_evicted_bytes": 0, "apps": {"browser": {"lives": 3, "requests": 100, "answered": 90, "hits": 50,
                                                        "evicted_bytes": 0, "survived_s": 60.0}}}


def run_of(arm: str, kernel_kills: int, guard_kills: int = 0, **more: Any) -> dict[str, Any]:
    """What the survey keeps of an arm on a device of 256 MB."""
    phase = copy.deepcopy(PHASE) | {"kernel_kills": kernel_kills, "guard_kills": guard_kills}
    return {"site": Site(256)._asdict(), "arm": arm, "seed": 1, "is_smoke": False, "phases": {"limits": phase}} | more


def test_the_page_says_who_was_killed_more() -> None:
    """Kills of the kernel and of a guard both count, and the best peer's are beside oomguard's."""
    page = table.page([run_of("pressure", 2), run_of("earlyoom", 0, 1), run_of("oomguard", 0)])
    assert "256 MB, no swap**: no kills under oomguard, 1 under the best of its peers." in page
    assert "| earlyoom | 0 + 1 |" in page


def test_the_page_says_so_when_oomguard_loses() -> None:
    """With more kills than a peer, the same sentence says that."""
    page = table.page([run_of("earlyoom", 0), run_of("oomguard", 3)])
    assert "3 kills under oomguard, 0 under the best of its peers" in page


def test_what_was_not_run_is_named() -> None:
    """Arms without a run stand under Not run, a smoke run counts as none; a device whose arms all ran is left out."""
    page = table.page([run_of("nothing", 1), run_of("oomguard", 0, is_smoke=True)])
    missing = page.partition("## Not run")[2].partition("##")[0]
    assert "256 MB, no swap: systemd's own pressure, earlyoom," in missing
    assert "512 MB, zram: every arm" in missing
    whole = table.page([run_of(name, 0) for name in survey.whole().arms])
    assert "256 MB, no swap:" not in whole.partition("## Not run")[2]


def test_another_seed_stands_beside_the_first() -> None:
    """The tables are of the first seed; a run of another one is a line of its own, and takes no place there."""
    page = table.page([run_of("oomguard", 0), run_of("earlyoom", 1), run_of("oomguard", 3, seed=2)])
    assert "no kills under oomguard, 1 under" in page
    assert "| 256 MB, no swap | 2 | oomguard with its model | 3 |" in page
    assert "Other seeds" not in table.page([run_of("oomguard", 0)])


def test_a_lost_device_is_a_result() -> None:
    """An arm whose device no longer answered is a row that says so."""
    page = table.page([run_of("earlyoom", 0, lost="no answer"), run_of("pressure", 1), run_of("oomguard", 0)])
    assert "| earlyoom | **device lost** |" in page
    assert "the device lost under earlyoom" in page


def test_a_second_run_takes_the_place_of_the_first(tmp_path: Any) -> None:
    """The file of results holds one run of a device, arm and seed; those of others stay."""
    out = str(tmp_path / "lab.json")
    for run in (run_of("nothing", 5), run_of("oomguard", 0), run_of("nothing", 4)):
        survey.keep(out, run)
    kept = {run["arm"]: run["phases"]["limits"]["kernel_kills"] for run in survey.load(out)}
    assert kept == {"oomguard": 0, "nothing": 4}


def test_the_published_page_is_that_of_the_results() -> None:
    """docs/lab.md is what bench/results/lab.json gives, to the letter."""
    with open(survey_command.PAGE, encoding="utf-8") as file:
        assert file.read() == table.page(survey.load(survey.RESULTS))


def test_arms_differ_only_in_what_apps_hear() -> None:
    """The same seed gives every arm the same units, but for the line that says whom they listen to."""
    def lines(hears: str) -> set[str]:
        text = json.dumps(workload.phases(Site(512), 1, hears, False))
        return set(text.replace(workload.HEARS[hears], "").split("\\n"))

    assert lines("nothing") == lines("kernel") == lines("guard")
    assert workload.phases(Site(512), 1, "guard", False) != workload.phases(Site(512), 2, "guard", False)


def test_the_worst_stall_is_of_ten_seconds() -> None:
    """Five stalled seconds of a minute are one half of the worst ten, and none are none."""
    looks = [(float(t), 1_000_000 * min(max(t - 20, 0), 5)) for t in range(61)]
    assert drive.worst_ratio(looks) == pytest.approx(0.5)
    assert drive.worst_ratio([(float(t), 0) for t in range(61)]) == 0.0


def test_a_guards_kills_are_read_from_its_log() -> None:
    """A process that is asked to end and then made to is one kill, a cgroup twice is two; a quiet log is none."""
    log = "sending SIGTERM to process 7 uid 0\nsending SIGKILL to process 7 uid 0\nsending SIGTERM to process 9 uid 0\n"
    assert drive.killed_by_guard(log, ARMS["earlyoom"].kill_words) == 2
    log = "Killed /apps.slice/browser.service due to memory pressure for /apps.slice being 71%\n" * 2
    assert drive.killed_by_guard(log, ARMS["systemd-oomd"].kill_words) == 2
    assert drive.killed_by_guard("mem avail: 90 of 200 MiB", ARMS["earlyoom"].kill_words) == 0


def test_oomguards_words_are_counted() -> None:
    """Only rises of the level count, by who scored; every release does."""
    log = ("event=level target=app was=0 t_s=1.5 level=2 scorer=plain used_bytes=1\nevent=release target=app hook=any\n"
           "event=level target=app was=2 t_s=2.5 level=0 scorer=forest\n"
           "event=level target=app was=0 t_s=3.5 level=1 scorer=forest\n")
    assert drive.spoken(log) == {"rises": {"forest": 1, "plain": 1}, "releases": 1}


def test_a_client_outlives_its_server(tmp_path: Any) -> None:
    """Of an app that is killed each life counts; of a client that sees its server die, the last word counts all."""
    path = tmp_path / "report"
    told = [{"life": 1, "t_s": 5.0, "answered": 9, "hits": 6}, {"life": 2, "t_s": 8.0, "answered": 12, "hits": 8}]
    path.write_text("".join(json.dumps(line) + "\n" for line in told) + '{"cut')
    assert sum(life["hits"] for life in drive.lives(str(path), False)) == 14
    assert sum(life["hits"] for life in drive.lives(str(path), True)) == 8


def test_what_is_answered_after_the_end_does_not_count(tmp_path: Any) -> None:
    """An app that is slow to end has no more hits for that; what it said at the end itself counts."""
    path = tmp_path / "report"
    told = [{"life": 1, "t_s": 5.0, "answered": 9, "hits": 6}, {"life": 1, "t_s": 8.0, "answered": 12, "hits": 8}]
    path.write_text("".join(json.dumps(line) + "\n" for line in told))
    assert [life["hits"] for life in drive.lives(str(path), False, 7.9)] == [6]
    assert [life["hits"] for life in drive.lives(str(path), False, 8.0)] == [8]


def test_the_app_gives_up_the_colder_pictures() -> None:
    """Told of pressure it keeps a third, the warmest; with nothing cached it gives up nothing."""
    cache = cacher.Cache(4096, cacher.random.Random(1))
    cache.give_up(4096)
    assert cache.evicted_bytes == 0
    cache.most_bytes = float("inf")
    for number in range(9):
        cache.show(number)
    cache.give_up(4096)
    assert sorted(cache.kept) == [6, 7, 8]
    assert cache.evicted_bytes == 6 * 4096


@pytest.mark.device
@pytest.mark.timeout(1200)
def test_the_smoke_survey_shows_it_on_a_real_device(asked_for: None) -> None:
    """Unguarded, an app is killed at its limit; with oomguard, installed by one command, none is: memory came back."""
    said: list[str] = []
    bare, guarded = survey.carry_out(survey.smoke(), "", said.append)
    assert bare["phases"]["limits"]["kernel_kills"] >= 1, said
    phase = guarded["phases"]["limits"]
    assert phase["kernel_kills"] == 0, said
    assert sum(app["evicted_bytes"] for app in phase["apps"].values()) > 0
    assert phase["guard_rss_bytes"] > 0
