"""The account of a soak: what was recorded against what was read, and whether anything grew."""

from __future__ import annotations

import os
import re
import time
from pathlib import Path
from typing import NamedTuple

from bench.soak.site import Site

from oomguard.record.reader import read_journals

SETTLING_S = 20.0           # of a guard's life: what it takes up at first is no growth
RSS_GROWTH_MOST_BYTES = 1 << 20


class Weight(NamedTuple):
    """A guard at one moment."""

    life: int               # which start of it
    age_s: float
    rss_bytes: int
    fds: int
    threads: int
    runtime_files: int
    journal_bytes: int


class Balance(NamedTuple):
    """What a soak came to."""

    samples: int            # that the window of the system counts
    recorded: int
    refused: int            # by the disk, and so told by the recording
    missing: int            # neither: at most one per kill
    kills: int

    @property
    def is_kept(self) -> bool:
        """Whether nothing is lost but the tick that a kill hit."""
        return 0 <= self.missing <= self.kills


class Ledger:
    """Weighs the guard now and then, and balances the books at the end."""

    def __init__(self, site: Site) -> None:
        self._site, self._since_s, self._life = site, time.monotonic(), site.starts
        self.weights: list[Weight] = []

    def weigh(self) -> None:
        """Note what the guard weighs now."""
        site = self._site
        if self._life != site.starts:
            self._life, self._since_s = site.starts, time.monotonic()
        status = Path(f"/proc/{site.guard.pid}/status").read_text()
        number = {name: int(value) for name, value in re.findall(r"^(VmRSS|Threads):\s+(\d+)", status, re.MULTILINE)}
        self.weights.append(Weight(
            self._life, time.monotonic() - self._since_s, number["VmRSS"] * 1024,
            len(os.listdir(f"/proc/{site.guard.pid}/fd")), number["Threads"],
            sum(len(files) for _folder, _folders, files in os.walk(site.runtime)),
            sum(path.stat().st_size for path in site.journal.glob("*"))))

    def growth(self) -> list[Weight]:
        """Return what the guard weighed over its longest life, once it had settled."""
        lives = {weight.life for weight in self.weights}
        longest = max(lives, key=lambda life: max(each.age_s for each in self.weights if each.life == life))
        settled = [each for each in self.weights if each.life == longest and each.age_s >= SETTLING_S]
        return settled or [each for each in self.weights if each.life == longest]

    def balance(self, samples: int, kills: int) -> Balance:
        """Compare what the system's window counted with what can be read back."""
        runs = [run for run in read_journals(str(self._site.journal)).runs if run.facts.get("app") == "system"]
        recorded, refused = sum(map(len, runs)), sum(run.lost_samples for run in runs)
        return Balance(samples, recorded, refused, samples - recorded - refused, kills)
