"""What the daemon is told comes out as it went in, and nothing else is believed."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from oomguard.briefing import Briefing, Options, _plain_model, read_briefing
from oomguard.decide.plan import Plan, TargetPlan
from oomguard.decide.plan_json import to_json
from oomguard.decide.rules import load_rules, shipped_pack
from oomguard.errors import BundleError, ConfigError
from oomguard.trust.bundle import load_shipped

PLAN = Plan((TargetPlan("app", "self"),), ())
OPTIONS = Options("/run/x", "/run/x/s", True, "/log", ("sh", "-c", "é"), 64 << 20, "why", False, False, 5)


def briefing_of(plan: bytes, facts: object, forest: bytes = b"") -> Briefing:
    """Read a briefing that holds this."""
    fd = os.memfd_create("test")
    os.write(fd, plan + b"\n" + (facts if isinstance(facts, bytes) else json.dumps(facts).encode()) + b"\n" + forest)
    return read_briefing(fd)


def test_it_comes_out_as_it_went_in() -> None:
    """Plan, options and, here, no model."""
    plan = load_rules(shipped_pack())
    found = briefing_of(to_json(plan), [OPTIONS, None])
    unknown = plan.profile      # NaN is not equal to itself
    assert found.plan._replace(profile=unknown) == plan and repr(found.plan.profile) == repr(unknown)
    assert (found.model, found.options) == (None, OPTIONS)


def test_the_model_comes_with_it() -> None:
    """Its thresholds in the levels' order, and it scores."""
    bundle = load_shipped()
    model = briefing_of(to_json(PLAN), [OPTIONS, _plain_model(bundle, PLAN)], bundle.forest).model
    assert model is not None and model.model_id == bundle.model_id and model.digest == bundle.digest
    wanted = bundle.thresholds_for("generic")
    assert model.thresholds == (wanted.p300, wanted.p240, wanted.p180, wanted.p120, wanted.p60)


@pytest.mark.parametrize(
    "facts", [b"", b"[]", b"null", b"{}", b"[[1,2,3,4,5,6,7,8,9,10,11,12], null]", b"\xff", b"[5, null]"])
def test_anything_else_is_a_configuration_error(facts: bytes) -> None:
    """Another version's, or nonsense."""
    with pytest.raises(ConfigError):
        briefing_of(to_json(PLAN), facts)


@pytest.mark.parametrize("plan", [b"", b"{}", b"nonsense", b'{"version": 99}'])
def test_a_plan_that_is_none(plan: bytes) -> None:
    """Refused before anything is started."""
    with pytest.raises(ConfigError):
        briefing_of(plan, [OPTIONS, None])


def test_a_model_that_is_none() -> None:
    """A truncated forest, or facts that lack something, is a bad model."""
    bundle = load_shipped()
    facts = _plain_model(bundle, PLAN)
    with pytest.raises(BundleError):
        briefing_of(to_json(PLAN), [OPTIONS, facts], bundle.forest[:-8])
    with pytest.raises(BundleError):
        briefing_of(to_json(PLAN), [OPTIONS, {"model_id": "x"}], bundle.forest)


DEAR = {"numpy", "onnxruntime", "asyncio", "yaml", "msgspec", "psutil", "argparse", "dataclasses", "inspect", "logging",
        "subprocess", "threading", "ssl", "hashlib", "_hashlib", "typing", "pathlib", "socket", "selectors", "ctypes"}


def test_the_daemon_imports_nothing_dear() -> None:
    """Neither what costs memory nor anything of `learn` or `cli` is on the device's path."""
    code = "import sys; before = set(sys.modules); import oomguard.daemon; print(*(set(sys.modules) - before))"
    ended = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, check=True)
    loaded = set(ended.stdout.split())
    assert "oomguard.daemon" in loaded and "oomguard.act.runner" in loaded
    assert loaded & DEAR == set()
    assert [name for name in loaded if name.startswith(("oomguard.learn", "oomguard.cli", "oomguard.measure"))] == []
    assert "oomguard.decide.rules" not in loaded


def test_the_sealed_file_cannot_be_changed_after_the_check() -> None:
    """What the daemon maps is what was checked: the memory file is sealed before it becomes the daemon."""
    code = ("import os, sys\nfrom oomguard import briefing\nfrom oomguard.decide.plan import *\n"
            "def execv(path, argv):\n"
            "    fd = int(argv[-2])\n"
            "    try:\n        os.pwrite(fd, b'x', 0)\n    except PermissionError:\n        print('sealed', argv[1])\n"
            "    os._exit(0 if sys.stdout.flush() is None else 1)\n"
            "os.execv = execv\n"
            "briefing.become_daemon(Plan((TargetPlan('a', 'self'),), ()), None, briefing.Options('/x'))\n")
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert ended.stdout == "sealed -I\n", ended.stderr
