"""Tells the app: events to its function, its `logging` or standard error; changes of level to all who asked."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping

from oomguard.embed.courier import Courier
from oomguard.tell.log import Log, logfmt_value
from oomguard.typed import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from typing import Literal

    from oomguard.embed.levels import Audience, LevelChange, OnLevel

    LogFunction = Callable[[str, str, Mapping[str, object]], object]
    LogTo = LogFunction | Literal["auto"] | None

LOUD = ("warning", "error", "critical")
LOGGING_LEVELS = {"debug": 10, "info": 20, "notice": 20, "warning": 30, "error": 40, "critical": 50}


class Teller:
    """Whom one life of a guard tells, and how. It never blocks and never raises."""

    __slots__ = ("_audience", "_has_logging", "_on_level", "_to", "courier")

    def __init__(self, to: LogTo, on_level: OnLevel | None, audience: Audience) -> None:
        """Args: to: a function, `auto` (logging where the app has imported it, else standard error), None (silent)."""
        self._to, self._on_level, self._audience = to, on_level, audience
        self._has_logging = to == "auto" and "logging" in sys.modules
        self.courier = Courier(self._complain)

    def start(self) -> None:
        """Start the thread that code of the app's runs on, where any of it is to be called."""
        if self._has_logging or callable(self._to) or self._on_level is not None:
            self.courier.start()

    def change(self, change: LevelChange) -> None:
        """Tell a change of level."""
        self._audience.tell(change)
        if self._on_level is not None:
            self.courier.post(self._on_level, change)

    def close(self) -> None:
        """Tell no more; what waits is still told."""
        self._audience.end()
        self.courier.close()

    def event(self, name: str, severity: str = "info", /, **fields: object) -> None:
        """Tell one event; its fields are numbers, words and lists of these."""
        if self._to is None:
            return
        if callable(self._to):
            self.courier.post(self._to, name, severity, fields)
        elif self._has_logging:
            self.courier.post(_to_logging, name, severity, fields)
        elif severity in LOUD:
            _to_standard_error(name, severity, fields)

    def _complain(self, event: str, because: str) -> None:
        """Tell of the app's own calls, past the thread that makes them."""
        if self._to is not None:
            _to_standard_error(event, "warning", {"because": because})


def _to_standard_error(name: str, severity: str, fields: Mapping[str, object]) -> None:
    """Write a line to descriptor 2 as it is now.

    Not to `sys.stderr`: that may block, and a daemon thread that holds its lock at the interpreter's end is fatal.
    """
    log = Log(2)
    log.event(name, severity, **{"source": "oomguard", **fields})
    log.close()


def _to_logging(name: str, severity: str, fields: Mapping[str, object]) -> None:
    logging: Any = sys.modules["logging"]
    logger = logging.getLogger("oomguard")
    level = LOGGING_LEVELS.get(severity, 20)
    if logger.isEnabledFor(level):
        text = " ".join([name, *(f"{key}={logfmt_value(value)}" for key, value in fields.items())])
        logger.log(level, "%s", text, extra={"oomguard": {"event": name, **fields}})
