"""Every error oomguard raises on purpose, each with the exit code the command line gives it."""

from __future__ import annotations


class OomguardError(Exception):
    """The family. `exit_code` is what the command line exits with (DESIGN 4.10)."""

    exit_code = 70


class UsageError(OomguardError):
    """The command line, or a call, asked for something that does not exist."""

    exit_code = 2


class ConfigError(OomguardError):
    """A rule file, a profile or a plan is wrong.

    Its text has the form `rules/default.yaml:12: rules[2].when.level_at_least: 7 is not in 1..5`.
    """

    exit_code = 3

    def __init__(self, problem: str, *, file: str = "", line: int | None = None, path: str = "") -> None:
        self.file, self.line, self.path, self.problem = file, line, path, problem
        where = file if line is None else f"{file}:{line}"
        super().__init__(": ".join(part for part in (where, path, problem) if part))


class BundleError(OomguardError):
    """A model, its manifest or its signature cannot be trusted or does not fit this version."""

    exit_code = 4


class NotPermittedError(OomguardError):
    """The kernel said no: the message says which right is missing."""

    exit_code = 5


class TargetGoneError(OomguardError):
    """What was to be guarded is not there, or is there no more."""

    exit_code = 6


class BusyError(OomguardError):
    """Not now: something that must end first is still under way."""

    exit_code = 1


class WindowError(OomguardError):
    """A window file is torn, foreign or of another version. It is set aside, never trusted."""


class HelperError(OomguardError):
    """The helper process is gone or speaks nonsense."""
