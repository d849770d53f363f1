"""From a command line's words to a checked plan, model and options."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from oomguard.briefing import Options
from oomguard.cli.start import (
    add_log_arguments,
    add_plan_arguments,
    log_options,
    plan_of,
    targets_of,
)
from oomguard.decide.plan import TargetPlan
from oomguard.errors import BundleError, ConfigError, UsageError
from oomguard.settings import bundle_of, bundle_or_problem, target_of

RULES = """
version: 1
model: none
cadence: 2s
targets: [{name: web, unit: web.service}]
hooks: [{name: trim, command: ['true'], targets: [web]}]
rules:
  - {name: trim it, when: {level_at_least: 2}, then: [{hook: trim}], targets: [web]}
"""


def args_of(*argv: str) -> argparse.Namespace:
    """Parse what `run` and `exec` share."""
    parser = argparse.ArgumentParser()
    add_plan_arguments(parser)
    add_log_arguments(parser)
    return parser.parse_args(argv)


@pytest.mark.parametrize(("text", "expected"), [
    ("system", TargetPlan("system", "system")), ("self", TargetPlan("self", "self")),
    ("pid:12", TargetPlan("12", "pid", "12")), ("cgroup:/a/b", TargetPlan("b", "cgroup", "/a/b")),
    ("cgroup:/", TargetPlan("/", "cgroup", "/")), ("unit:a.service", TargetPlan("a.service", "unit", "a.service")),
    ("command:node", TargetPlan("node", "command", "node")), ("command:a:b", TargetPlan("a:b", "command", "a:b"))])
def test_words_for_targets(text: str, expected: TargetPlan) -> None:
    """Each kind as `--target` takes it; the name is the last part."""
    assert target_of(text) == expected


@pytest.mark.parametrize("text", ["", "pid", "pid:", "system:x", "self:1", "thread:5", "nonsense", ":x"])
def test_words_that_name_no_target(text: str) -> None:
    """The refusal says what is allowed."""
    with pytest.raises(UsageError, match="is not one of system, self, pid:N"):
        target_of(text)


def test_names_of_their_own() -> None:
    """Two that end alike keep their whole words; the same one twice is a mistake."""
    names = [target.name for target in targets_of(["cgroup:/a/app", "cgroup:/b/app", "pid:4"])]
    assert names == ["cgroup:/a/app", "cgroup:/b/app", "4"]
    with pytest.raises(UsageError, match="twice"):
        targets_of(["system", "system"])


def test_the_command_line_overrules_the_file(tmp_path: Path) -> None:
    """Cadence, model, device type, dry run, targets; what was for targets of the file is for the new ones."""
    path = tmp_path / "rules.yaml"
    path.write_text(RULES)
    plan = plan_of(args_of("--rules", str(path)))
    assert (plan.cadence_s, plan.model, plan.is_dry_run, plan.targets[0].name) == (2.0, "none", False, "web")
    mine = (TargetPlan("mine", "self"),)
    plan = plan_of(args_of("--rules", str(path), "--cadence", "500ms", "--model", "shipped", "--dry-run",
                           "--device-type", "tv"), mine)
    assert (plan.cadence_s, plan.model, plan.is_dry_run, plan.profile.device_type) == (0.5, "shipped", True, "tv")
    assert plan.targets == mine and plan.rules[0].targets == () and plan.hooks[0].targets == ()


def test_the_machine_fills_in_the_profile() -> None:
    """RAM and cores are detected where nobody says them."""
    profile = plan_of(args_of()).profile
    assert profile.ram_bytes > 0 and profile.cores >= 1


@pytest.mark.parametrize(("text", "error"), [("50ms", ConfigError), ("11s", ConfigError), ("soon", UsageError)])
def test_a_cadence_out_of_bounds(text: str, error: type[Exception]) -> None:
    """0.1 s to 10 s; words that are no time are a usage error."""
    with pytest.raises(error, match="cadence"):
        plan_of(args_of("--cadence", text))


def test_no_model_is_no_problem_and_a_bad_one_is_said(tmp_path: Path) -> None:
    """`check` raises, `run` goes on without."""
    plan = plan_of(args_of("--model", "none"))
    assert bundle_or_problem(plan, allow_unsigned=False) == (None, "")
    plan = plan_of(args_of("--model", str(tmp_path)))
    bundle, problem = bundle_or_problem(plan, allow_unsigned=True)
    assert bundle is None and "manifest.json" in problem
    with pytest.raises(BundleError):
        bundle_of(plan, allow_unsigned=True)


@pytest.mark.parametrize(("argv", "is_json", "path"), [
    ([], False, ""), (["--log-json"], True, ""), (["--log-json", "-"], True, ""), (["--log-json", "/x"], True, "/x"),
    (["--log", "/y"], False, "/y"), (["--log", "/y", "--log-json"], True, "/y")])
def test_where_the_log_goes(argv: list[str], is_json: bool, path: str) -> None:
    """JSON or not, to a file or to standard error."""
    options = log_options(args_of(*argv), Options("/run/x"))
    assert (options.is_json_log, options.log_file) == (is_json, path)
