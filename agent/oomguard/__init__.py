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

TYPE_CHECKING = False       # typing's own would import it: the daemon and its helper come through here, too
if TYPE_CHECKING:
    from oomguard.act.hooks import Request
    from oomguard.embed.guard import Guard
    from oomguard.embed.levels import LevelChange, Levels
    from oomguard.forecast import Forecast
    from oomguard.guard import Reading

__all__ = [
    "BundleError",
    "ConfigError",
    "Forecast",
    "Guard",
    "LevelChange",
    "Levels",
    "NotPermittedError",
    "OomguardError",
    "Reading",
    "Request",
    "TargetGoneError",
    "UsageError",
    "__version__",
]

# Imported when first asked for (PEP 562): who guards from outside pays nothing for the guard inside an app.
_LAZY = {"Forecast": "forecast", "Guard": "embed.guard", "LevelChange": "embed.levels", "Levels": "embed.levels",
         "Reading": "guard", "Request": "act.hooks"}


def __getattr__(name: str) -> object:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value: object = getattr(import_module(f"{__name__}.{_LAZY[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
