"""Where nobody records: takes what a recorder takes and keeps nothing, so that the tick asks no questions."""

from __future__ import annotations

from oomguard.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from oomguard.sense.sample import Sample


class Silence:
    """Stands in the place of a RunRecorder."""

    __slots__ = ()

    def sample(self, sample: Sample) -> None:
        """Take a sample."""

    def action(self, t_s: float, rule: str, hook: str, level: int, requested_bytes: float) -> int:  # noqa: ARG002
        """Take an action that begins."""
        return 0

    def acted(self, ticket: int, freed_bytes: float, duration_s: float) -> None:
        """Take what it came to."""

    def kill(self, t_s: float) -> None:
        """Take a kill inside the run."""

    def end(self, ended: str, t_s: float) -> None:
        """Take the end of the run."""
