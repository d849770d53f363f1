"""`oomguard bench`: the shape of what it prints, that its inputs vary, and that the stages do the real thing."""

import argparse
import json
import math
import os

import pytest

from oomguard.cli import bench
from oomguard.enclosure import Enclosure
from oomguard.errors import ConfigError, NotPermittedError, UsageError
from oomguard.kernel import HAS_KERNEL
from oomguard.measure import inputs, living, serving, stages, verdict
from oomguard.measure.living import Footprint, Weight
from oomguard.measure.timing import CURVE, GROUP, Figures, time_cold, time_each, time_groups

QUANTILES = ["p50_us", "p90_us", "p99_us", "p999_us", "max_us", "n"]
CHEAP = ["push", "features", "decide"]


def run(*argv):
    parser = argparse.ArgumentParser()
    bench.add_arguments(parser)
    return bench.run(parser.parse_args(argv))


def report_of(**figures):
    stages_ = {name: Figures(us, us, us, us, us, 1) for name, us in figures.items()}
    return bench.Report(bench.this_machine("m"), stages_, None, {})


@pytest.fixture(scope="module")
def prepared():
    """The inputs of all stages, made once."""
    return stages.prepare(stages.QUICK)[0]


def test_json_has_the_promised_keys(capsys):
    """DESIGN 4.10: machine, stages with five figures and a count, rss and pss; what was not asked for is null."""
    assert run("--json", "--quick", *(word for name in CHEAP for word in ("--stage", name))) == 0
    out, err = capsys.readouterr()
    said = json.loads(out)
    assert list(said["stages"]) == CHEAP
    assert all(list(stage) == QUANTILES for stage in said["stages"].values())
    assert said["rss_bytes"] is None and said["pss_bytes"] is None
    assert {"cpu", "cores", "python", "model", "clock_us"} <= said["machine"].keys()
    assert err == ""                # progress only on a terminal


def test_footprint_weighs_a_real_daemon_and_a_bare_interpreter():
    """The daemon is heavier than an idle interpreter, and its start-up peak is no less than its RSS."""
    weighed = living.footprint()
    assert weighed.daemon.rss_bytes > weighed.bare.rss_bytes > weighed.bare.pss_bytes > 0
    assert weighed.peak_rss_bytes >= weighed.daemon.rss_bytes * 0.9
    assert weighed.scorer in ("forest", "plain")


def test_an_unknown_stage_is_a_usage_error(capsys):
    """The names that exist are said."""
    with pytest.raises(SystemExit) as error:
        run("--stage", "teleport")
    assert error.value.code == 2
    assert "tick_cgroup" in capsys.readouterr().err


def test_a_stage_that_cannot_be_had_is_said_not_hidden(monkeypatch, capsys):
    """Its reason stands in both outputs, and the rest is measured."""
    def cannot(_bench):
        raise stages.SkippedError("no such thing here")
    monkeypatch.setitem(stages.STAGES, "tick_cgroup", cannot)
    assert run("--quick", "--stage", "push", "--stage", "tick_cgroup") == 0
    out = capsys.readouterr().out
    assert "tick_cgroup: not measured: no such thing here" in out
    assert "\npush " in out


@pytest.mark.parametrize(("us", "word"), [(19.9, "kept"), (20.1, "OVER")])
def test_the_budget_stands_beside_the_figure(us, word):
    """One twentieth of a microsecond over is over."""
    assert bench.budget_of("tick_cgroup", report_of(tick_cgroup=us).figures) == f"p50 <= 20, p99 <= 60 {word}"


@pytest.mark.parametrize(("score_us", "word"), [(2.3, "1.15 kept"), (2.5, "1.25 OVER")])
def test_score_is_held_against_the_kernels_own_loop(score_us, word):
    """The budget is a ratio of the same run; without the other figure there is none."""
    figures = report_of(score=score_us, score_c=2.0).figures
    assert bench.budget_of("score", figures) == f"p50 <= 1.2 x score_c: {word}"
    assert bench.budget_of("score", {"score": figures["score"]}) == ""


def test_the_table_shows_figures_and_weights():
    """What people read: stage, five figures, count, budget; then the daemon's weight beside a bare interpreter's."""
    report = report_of(walk=0.9)._replace(footprint=Footprint(
        Weight(13_000_000, 8_000_000), Weight(9_000_000, 4_000_000), 21_000_000, "forest"))
    text = bench.table(report)
    assert "walk                   0.90      0.90      0.90      0.90      0.90        1  p50 <= 1 kept" in text
    assert "RSS over bare <= 5.0: 4.0 kept" in text
    assert "peak with start-up <= 48.0: 21.0 kept" in text


def test_windows_are_512_different_ones_and_every_one_is_scored(prepared):
    """No two have the same features, and the model abstains for none: a score that returns early flatters."""
    rows = {bytes(memoryview(inputs.features.of(*pair)).cast("B")) for pair in prepared.pairs}
    assert len(rows) == inputs.WINDOWS == 512
    assert all(prepared.model.forest.score(*pair) is not None for pair in prepared.pairs)


def test_windows_are_the_same_in_every_run():
    """Seeded: two runs on one machine measure the same work."""
    first, second = ([bytes(window.buffer) for window in inputs.windows(8)] for _ in range(2))
    assert first == second


def test_a_made_forest_stands_in_where_none_is_shipped(monkeypatch):
    """An installation without a model can be measured, and the report says so."""
    def none():
        raise inputs.BundleError("none")
    monkeypatch.setattr(inputs, "load_shipped", none)
    model, said = inputs.model()
    assert "no model is shipped" in said
    assert model.forest.score(inputs.windows(1)[0].buffer, inputs.facts()[0]) is not None


def test_ticks_are_real_and_quiet(prepared):
    """A tick of this process reads, pushes, forecasts, decides and says nothing."""
    with stages.ExitStack() as stack:
        ticking = stages.Ticking([stages.TargetPlan("process", "self")], prepared.model, prepared.plan, stack)
        before = ticking.guards.by_name["process"].window.samples_total
        for _ in range(10):
            ticking()
        guard = ticking.guards.by_name["process"]
        assert guard.window.samples_total == before + 10
        assert guard.reading.forecast is not None and guard.reading.level == 0
        assert ticking.told == 0


def test_the_cgroup_stage_makes_and_removes_its_own():
    """It is inhabited while it is measured and gone afterwards."""
    try:
        Enclosure.make("probe").remove()
    except NotPermittedError as error:
        pytest.skip(str(error))
    with stages.inhabited_cgroup() as path:
        machine = stages.Machine()
        directory = machine.groups.directory(path)
        with open(directory + "/cgroup.procs") as file:
            assert len(file.read().split()) == 1
        machine.close()
    assert not os.path.exists(directory)


@pytest.mark.skipif(not HAS_KERNEL, reason="the kernel is not built")
def test_series_rows_are_what_the_kernel_pushes_live():
    """The stage `series` takes every sample: none is refused."""
    samples = list(inputs.random_run(inputs.random.Random(3), 400, cadence_s=1.0))
    out = bytearray(4 * inputs.features.COUNT * 400)
    assert stages.native.series(inputs.series_rows(samples), inputs.facts()[0], out) == 0


def test_quantiles_are_of_the_calls_that_count():
    """Ordered, the greatest last, each divided by what one call does so often."""
    figures = Figures.of([float(ns) for ns in range(1000, 2000)], calls_each=10)
    assert figures[:6] == (0.15, 0.19, 0.199, 0.1999, 0.1999, 10_000)
    assert len(figures.curve_us) == len(CURVE) and list(figures.curve_us) == sorted(figures.curve_us)


def test_timing_uses_every_input_in_turn_and_warms_up():
    """A tenth more calls than are counted; groups never repeat an input while there are new ones."""
    seen = []
    assert time_each(seen.append, [(i,) for i in range(7)], 100).n == 100
    assert seen == [i % 7 for i in range(110)]
    seen.clear()
    n = 10 * GROUP
    assert time_groups(seen.append, [(i,) for i in range(11 * GROUP)], n).n == n
    assert seen == list(range(11 * GROUP))


def test_cold_calls_are_counted_one_by_one_over_all_inputs():
    """Three calls to have the code there, then each input in turn."""
    seen = []
    assert time_cold(seen.append, [(i,) for i in range(8)], 5).n == 5
    assert seen == list(range(8))


def a_file(tmp_path, document):
    path = tmp_path / "file.json"
    path.write_text(document if isinstance(document, str) else json.dumps(document))
    return str(path)


@pytest.mark.parametrize(("before_us", "code"), [(0.000001, 1), (1e6, 0)])
def test_a_stage_slower_than_before_makes_the_exit_code_one(before_us, code, tmp_path, capsys):
    """Integrators gate on it: the median beside an earlier run's, beyond a margin; a faster one is fine."""
    path = a_file(tmp_path, {"stages": {"decide": {"p50_us": before_us}, "gone": {"p50_us": 1.0}}})
    assert run("--json", "--quick", "--stage", "decide", "--compare", path) == code
    said = json.loads(capsys.readouterr().out)
    assert list(said["compared"]) == ["decide"]
    assert said["compared"]["decide"]["is_slower"] is bool(code)


@pytest.mark.parametrize(("most_us", "code"), [(0.000001, 1), (1e6, 0)])
def test_a_configured_budget_makes_the_exit_code_one(most_us, code, tmp_path, capsys):
    """The file's limits hold, and what is over is said in words."""
    path = a_file(tmp_path, {"decide": {"p50_us": most_us}, "tick_system": {"p99_us": 1e-9}})
    assert run("--quick", "--stage", "decide", "--budget", path) == code
    assert ("decide p50_us" in capsys.readouterr().out) is bool(code)


def test_without_a_configured_budget_a_figure_fails_nothing(monkeypatch, capsys):
    """The shipped budgets are shown; `--budget default` makes them count."""
    monkeypatch.setitem(stages.STAGES, "walk", lambda _bench: Figures(9.0, 9.0, 9.0, 9.0, 9.0, 1))
    assert run("--stage", "walk") == 0
    assert run("--stage", "walk", "--budget", "default") == 1
    assert "walk p50_us 9 is over 1" in capsys.readouterr().out


@pytest.mark.parametrize(("ratio", "is_slower"), [(1.24, False), (1.26, True)])
def test_the_margin_is_of_the_median(ratio, is_slower):
    """A quarter more is noise on a busy machine; beyond it a stage is slower."""
    found = verdict.compared({"score": {"p50_us": 2.0}}, {"score": {"p50_us": 2.0 * ratio}}, 0.25)
    assert found["score"].is_slower is is_slower


def test_weights_and_ratios_have_budgets_too():
    """The daemon's bytes and the score over the C loop are judged where they were measured."""
    stages_ = {"score": {"p50_us": 3.0}, "score_c": {"p50_us": 2.0}}
    limits = {"score_over_c": {"ratio": 1.2}, "daemon": {"rss_bytes": 10}}
    assert verdict.over(stages_, {"rss_bytes": 11}, limits) == [
        "score_over_c ratio 1.5 is over 1.2", "daemon rss_bytes 11 is over 10"]
    assert verdict.over({}, {}, limits) == []


@pytest.mark.parametrize(("document", "error"), [
    ("nonsense", UsageError), ([], UsageError), ({"score": {}}, ConfigError), ({"score": {"p50": 1}}, ConfigError),
    ({"score": {"p50_us": 0}}, ConfigError), ({"score": {"p50_us": True}}, ConfigError),
    ({"daemon": {"p50_us": 1}}, ConfigError)])
def test_a_bad_budget_file_is_refused(document, error, tmp_path):
    """Before anything is measured, with the file's name."""
    with pytest.raises(error, match=r"file\.json"):
        verdict.read_budgets(a_file(tmp_path, document))


@pytest.mark.parametrize("document", [{}, {"stages": []}, {"stages": {"score": {}}}])
def test_what_bench_did_not_write_is_not_compared(document, tmp_path):
    """A file of another kind is a usage error."""
    with pytest.raises(UsageError, match="was not written by"):
        verdict.read_report(a_file(tmp_path, document))


def test_an_absent_file_is_said():
    """The reason stands beside the path."""
    with pytest.raises(UsageError, match=r"/nowhere: No such file"):
        verdict.read_report("/nowhere")


def test_no_stage_changes_the_windows_that_others_score(prepared):
    """Cold pushes go into copies: a window of a few blocks would be scored in no time."""
    before = [bytes(window.buffer) for window in prepared.windows]
    stages.push_cold(prepared)
    assert [bytes(window.buffer) for window in prepared.windows] == before


def test_stages_around_the_tick_do_the_real_thing(prepared):
    """A hook's outcome is fetched, a sample is written, two targets are taken up again: each takes its time."""
    for stage in serving.STAGES.values():
        assert stage(prepared).p50_us > 1


def test_figures_are_numbers(prepared):
    """No stage gives NaN or a negative figure."""
    figures = stages.push(prepared)
    assert all(math.isfinite(value) and value >= 0 for value in figures[:6])
