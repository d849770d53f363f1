"""oomguard: a memory guard that sees an out-of-memory kill coming and asks the app to give memory back."""

from __future__ import annotations

from oomguard._version import __version__
from oomguard.errors import (
    BundleError,
    ConfigError,
    NotPermittedError,
    OomguardError,
    TargetGoneError,
    UsageError,
)

__all__ = [
    "BundleError",
    "ConfigError",
    "NotPermittedError",
    "OomguardError",
    "TargetGoneError",
    "UsageError",
    "__version__",
]
