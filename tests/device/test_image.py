"""What can be said of the virtual device's image without building it."""

import os
import shutil

import pytest
from bench.lab import image


def test_the_cache_follows_xdg(monkeypatch: pytest.MonkeyPatch) -> None:
    """Images are kept below $XDG_CACHE_HOME where it is set, else in the work tree's ignored .cache/."""
    monkeypatch.setenv("XDG_CACHE_HOME", "/cache")
    assert image.cache_folder() == "/cache/oomguard"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert image.cache_folder() == os.path.join(image.REPO, ".cache")


def test_another_recipe_is_another_image(monkeypatch: pytest.MonkeyPatch) -> None:
    """The digest stays while the recipe does, and changes with any part of it."""
    before = image.recipe_digest()
    assert image.recipe_digest() == before
    monkeypatch.setattr(image, "PACKAGES", (*image.PACKAGES, "procps"))
    assert image.recipe_digest() != before


def test_missing_host_packages_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without root the error names the packages to install; with nothing missing there is none."""
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(os.path, "exists", lambda path: True)
    monkeypatch.setattr(shutil, "which", lambda name, path=None: None if name == "mmdebstrap" else name)
    with pytest.raises(image.LabError, match=r"apt-get install .* mmdebstrap$"):
        image.ensure_host()
    monkeypatch.setattr(shutil, "which", lambda name, path=None: name)
    image.ensure_host()


def test_a_failed_step_shows_its_last_words() -> None:
    """A build step that fails raises with its status and the end of its output."""
    with pytest.raises(image.LabError, match="exit status 9\nlast words"):
        image.call(["sh", "-c", "echo last words; exit 9"], 10)
