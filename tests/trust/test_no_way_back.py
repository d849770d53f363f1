"""There is no way back to an older release, signed as it may be, unless an operator says so."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from oomguard.decide.plan import Plan, TargetPlan
from oomguard.errors import BundleError
from oomguard.settings import bundle_of, bundle_or_problem
from oomguard.trust import releases
from oomguard.trust.bundle import load_bundle, load_shipped
from oomguard.trust.releases import model_name, note_release, refuse_older


def taken(folder: Path, keys: Path, **allowed: bool) -> tuple[bool, str]:
    """Return whether a guard takes a bundle, and the problem."""
    plan = Plan((TargetPlan("app", "self"),), (), model=str(folder))
    bundle, problem = bundle_or_problem(plan, allow_unsigned=False, keys_dir=str(keys), **allowed)
    return bundle is not None, problem


def test_an_older_release_is_refused_once_a_higher_one_was_taken(signed, keys: Path, state: Path) -> None:
    """Up, and the same again, but not down; the plain levels hold then."""
    old, new = signed(release=4), signed(release=5)
    assert taken(old, keys) == taken(new, keys) == taken(new, keys) == (True, "")
    is_taken, problem = taken(old, keys)
    assert not is_taken and "release 4 of 'default' is older than 5" in problem and "--allow-older" in problem
    assert json.loads((state / "releases.json").read_text()) == {"format": 1, "releases": {"default": 5}}


def test_an_operator_may_go_back_and_the_height_stays(signed, keys: Path, state: Path) -> None:
    """--allow-older takes it, this once: without it the next start refuses again."""
    old, new = signed(release=4), signed(release=5)
    assert taken(new, keys)[0] and taken(old, keys, allow_older=True)[0]
    assert not taken(old, keys)[0]


def test_the_rule_file_may_allow_both(signed, keys: Path) -> None:
    """`model_may_be` is the setting for it."""
    old, new = signed(release=4), signed(release=5)
    assert taken(new, keys)[0]
    plan = Plan((TargetPlan("app", "self"),), (), model=str(old), model_may_be=("older",))
    assert bundle_of(plan, allow_unsigned=False, keys_dir=str(keys)) is not None
    (old / "manifest.sig").unlink()
    with pytest.raises(BundleError, match="unsigned"):
        bundle_of(plan, allow_unsigned=False, keys_dir=str(keys))
    assert bundle_of(plan._replace(model_may_be=("unsigned",)), allow_unsigned=False) is not None


def test_each_model_has_a_height_of_its_own(signed, keys: Path) -> None:
    """A model is known by its name, whatever its digest; others are not held against it."""
    one, other, again = (signed(model_id=f"{name}-0123456789a{tail}", release=release)
                         for name, tail, release in (("tv", "b", 7), ("edge", "c", 2), ("tv", "d", 6)))
    assert taken(one, keys)[0] and taken(other, keys)[0]
    assert not taken(again, keys)[0]
    assert model_name(load_shipped()) == "default"


def test_looking_and_unsigned_ones_leave_no_trace(signed, keys: Path, state: Path) -> None:
    """`check` notes nothing; nobody can raise the height with what nobody signed."""
    folder = signed(release=1 << 50)
    plan = Plan((TargetPlan("app", "self"),), (), model=str(folder))
    assert bundle_of(plan, allow_unsigned=False, keys_dir=str(keys)) is not None
    assert bundle_or_problem(plan, allow_unsigned=True)[0] is not None
    assert not state.exists()


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": 1, "releases": {"default": -1}}', "[" * 60_000,
                                  "x" * 70_000, '{"format": 1, "releases": {"default": 1.5}}',
                                  '{"format": 2, "releases": {}}'])
def test_a_spoilt_state_file_is_no_way_back(signed, keys: Path, state: Path, text: str) -> None:
    """It is refused, not taken for a first start; the message says what to do."""
    state.mkdir()
    (state / "releases.json").write_text(text)
    is_taken, problem = taken(signed(), keys)
    assert not is_taken and "releases.json" in problem
    assert taken(signed(), keys, allow_older=True)[0]


def test_a_link_in_the_state_folder_overwrites_nothing(signed, keys: Path, state: Path, tmp_path: Path) -> None:
    """The file is made anew beside the old one and put in its place."""
    state.mkdir()
    victim = tmp_path / "victim"
    victim.write_text('{"format": 1, "releases": {}}')
    (state / "releases.json").symlink_to(victim)
    (state / f"releases.json.{os.getpid()}").symlink_to(victim)
    assert taken(signed(release=3), keys)[0]
    assert victim.read_text() == '{"format": 1, "releases": {}}'
    assert not (state / "releases.json").is_symlink()


def test_a_disk_that_cannot_be_written_does_not_stop_the_guard(signed, keys: Path, tmp_path: Path) -> None:
    """A signed bundle that is not older is taken; that its release is not noted is said."""
    bundle = load_bundle(str(signed()), keys_dir=str(keys))
    (tmp_path / "file").write_text("")
    remark = note_release(str(tmp_path / "file"), bundle)
    assert "release 1 is taken but cannot be noted" in remark
    assert note_release(str(tmp_path / "state"), bundle) == ""


def test_too_many_models_are_not_noted(signed, keys: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file stays small, and those that are in it stay."""
    bundle = load_bundle(str(signed()), keys_dir=str(keys))
    monkeypatch.setattr(releases, "NAMES_MAX", 1)
    assert note_release(str(tmp_path / "s"), bundle._replace(model_id="a", release=5)) == ""
    assert "more than 1" in note_release(str(tmp_path / "s"), bundle)
    with pytest.raises(BundleError, match="older than 5"):
        refuse_older(str(tmp_path / "s"), bundle._replace(model_id="a"))
