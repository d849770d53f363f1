"""What `install` does to a system, or to the image of one: files written whole, commands run, each told in a line."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import suppress

from oomguard.errors import NotPermittedError, OomguardError

COMMAND_TIMEOUT_S = 120.0


class CommandError(OomguardError):
    """A program of the system, such as systemctl, did not do what it was asked."""

    exit_code = 1


class Site:
    """A system below `root`. A dry run tells and does nothing; doing it twice changes nothing more."""

    def __init__(self, root: str, is_dry_run: bool = False) -> None:
        self.root, self.is_dry_run = os.path.abspath(root), is_dry_run
        self.changes = 0

    @property
    def is_running(self) -> bool:
        """Whether it is the system we are on, with systemd as its manager: sd_booted(3)."""
        return self.root == "/" and os.path.isdir("/run/systemd/system")

    def path(self, path: str) -> str:
        """Return where a path of the system is found from here."""
        return os.path.join(self.root, path.lstrip("/"))

    def has(self, path: str) -> bool:
        """Return whether it is there."""
        return os.path.lexists(self.path(path))

    def read(self, path: str) -> str | None:
        """Return a file's text; None where there is none that can be read."""
        try:
            with open(self.path(path), encoding="utf-8") as file:
                return file.read()
        except (OSError, ValueError):
            return None

    def write(self, path: str, text: str) -> None:
        """Write a file whole or not at all, unless it says that already. Raises NotPermittedError."""
        if self.read(path) == text:
            print(f"unchanged {self.path(path)}")
            return
        self._tell("wrote", "would write", self.path(path))
        if not self.is_dry_run:
            _write(self.path(path), text)

    def give(self, path: str, text: str) -> None:
        """Write a file that is the operator's from then on: one that is there is kept."""
        if self.has(path):
            print(f"kept {self.path(path)}")
        else:
            self.write(path, text)

    def remove(self, path: str) -> None:
        """Remove a file, and a folder of drop-ins that is empty then. Raises NotPermittedError."""
        if not self.has(path):
            return
        self._tell("removed", "would remove", self.path(path))
        if self.is_dry_run:
            return
        try:
            os.unlink(self.path(path))
        except OSError as error:
            raise NotPermittedError(f"cannot remove {self.path(path)}: {error.strerror}; run as root") from None
        if os.path.dirname(path).endswith(".service.d"):
            self.remove_folder(os.path.dirname(path))

    def remove_folder(self, path: str) -> None:
        """Remove a folder where it is empty: others may have files there."""
        if not self.is_dry_run:
            with suppress(OSError):
                os.rmdir(self.path(path))

    def take_back(self, path: str, text: str) -> None:
        """Remove a file that was given, unless the operator has changed it."""
        if self.has(path) and self.read(path) != text:
            print(f"kept {self.path(path)}: it is not as it was given")
        else:
            self.remove(path)

    def call(self, *argv: str) -> None:
        """Run a program. Raises CommandError with what it said."""
        self._tell("ran", "would run", " ".join(argv))
        if self.is_dry_run:
            return
        try:
            done = subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                  timeout=COMMAND_TIMEOUT_S, check=False)
        except FileNotFoundError:
            raise CommandError(f"there is no {argv[0]} on this machine") from None
        except subprocess.TimeoutExpired:
            raise CommandError(f"{' '.join(argv)}: not done after {COMMAND_TIMEOUT_S:.0f} s") from None
        said = done.stdout.decode(errors="replace").strip()
        if done.returncode:
            raise CommandError(f"{' '.join(argv)}: exit status {done.returncode}: {said}")
        if said:
            print(said, file=sys.stderr)

    def _tell(self, done: str, would: str, what: str) -> None:
        self.changes += 1
        print(f"{would if self.is_dry_run else done} {what}")


def _write(path: str, text: str) -> None:
    making = f"{path}.{os.getpid()}"
    try:
        os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
        with open(making, "w", encoding="utf-8") as file:
            file.write(text)
        os.chmod(making, 0o644)
        os.rename(making, path)
    except OSError as error:
        with suppress(OSError):
            os.unlink(making)
        raise NotPermittedError(f"cannot write {path}: {error.strerror}; run as root, or see --dry-run") from None
