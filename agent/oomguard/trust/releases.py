"""No way back: the highest release of each model that was ever taken, so that an old signed one is not enough.

Only signed bundles count, by the name before the digest in their model id. The shipped one is as old as the package.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
from contextlib import suppress

from oomguard.errors import BundleError
from oomguard.trust.bundle import RELEASE_MAX, Bundle
from oomguard.trust.files import Folder

FILE = "releases.json"
FORMAT = 1
FILE_MAX_BYTES = 64 * 1024
NAMES_MAX = 256


def model_name(bundle: Bundle) -> str:
    """Return the name that a model keeps from release to release: its id without the digest of its forest."""
    return re.sub(r"-[0-9a-f]{12}$", "", bundle.model_id)


def refuse_older(state_dir: str, bundle: Bundle) -> None:
    """Raise BundleError where a higher release of this model was taken before, or nobody can tell."""
    name, highest = model_name(bundle), _read(state_dir).get(model_name(bundle), -1)
    if bundle.release < highest:
        raise BundleError(f"{bundle.folder}: release {bundle.release} of {name!r} is older than {highest}, which was "
                          "taken before (say --allow-older to go back all the same)")


def note_release(state_dir: str, bundle: Bundle) -> str:
    """Remember that a release was taken. Return why that cannot be noted, or nothing."""
    try:
        os.makedirs(state_dir, mode=0o755, exist_ok=True)
        fd = os.open(state_dir, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            known = _read(state_dir)
            if known.get(model_name(bundle), -1) < bundle.release:      # never down, not even by --allow-older
                _write(fd, {**known, model_name(bundle): bundle.release})
        finally:
            os.close(fd)
    except (OSError, BundleError) as problem:
        return f"release {bundle.release} is taken but cannot be noted in {state_dir}: {problem}"
    return ""


def _read(state_dir: str) -> dict[str, int]:
    """Return the highest release by name; none where there is no file. One that is no such file is refused."""
    if not os.path.lexists(os.path.join(state_dir, FILE)):
        return {}
    with Folder(state_dir, is_strict=False) as folder:
        raw = folder.read(FILE, FILE_MAX_BYTES)
    try:
        fields = json.loads(raw)
        releases = fields["releases"]
        if fields["format"] != FORMAT or not all(type(each) is int and 0 <= each <= RELEASE_MAX
                                                 for each in releases.values()):
            raise ValueError("another format")
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as problem:
        raise BundleError(f"{state_dir}/{FILE}: cannot be believed ({type(problem).__name__}: {problem}); see what "
                          "happened to it, then remove it, or say --allow-older") from None
    return dict(releases)


def _write(folder_fd: int, releases: dict[str, int]) -> None:
    if len(releases) > NAMES_MAX:
        raise BundleError(f"{len(releases)} models are more than {NAMES_MAX}")
    new = f"{FILE}.{os.getpid()}"
    with suppress(FileNotFoundError):
        os.unlink(new, dir_fd=folder_fd)
    # Readable by all: root's `reload` writes it, the service's user reads it. Nothing in it is secret.
    fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644, dir_fd=folder_fd)
    try:
        with os.fdopen(fd, "w", encoding="utf-8") as file:
            os.fchmod(fd, 0o644)
            json.dump({"format": FORMAT, "releases": releases}, file, indent=1, sort_keys=True)
            file.write("\n")
            file.flush()
            os.fsync(fd)
        os.replace(new, FILE, src_dir_fd=folder_fd, dst_dir_fd=folder_fd)
    except OSError:
        with suppress(OSError):
            os.unlink(new, dir_fd=folder_fd)
        raise
