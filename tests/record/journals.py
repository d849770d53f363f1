"""What the tests of record/ share: samples that move as memory does, journals of them, and how to compare."""

from __future__ import annotations

import math
import random
import struct

from oomguard.profile import Profile
from oomguard.record.facts import run_facts
from oomguard.record.journal import Journal
from oomguard.record.reader import read_journals
from oomguard.record.runs import COLUMNS
from oomguard.record.segments import Limits
from oomguard.sense.sample import Sample

PAGE = 4096
MIB = 1 << 20
SMALL = Limits(total_bytes=8 * 16384, segment_bytes=16384)
PROFILE = Profile(device_type="tv", sdk_version="7", ram_bytes=2.0 * 2**30, swap_bytes=0.0, cores=4.0,
                  cache_capacity_bytes=64.0 * MIB, buffer_capacity_bytes=32.0 * MIB, bound_kind="evicts")


def facts(name="app", start_s=100.0, **more):
    """Facts of a run called `name`."""
    return run_facts(name, "boot-1:812:5", start_s, PROFILE, **more)


def walk(count, seed=1, limit_bytes=256 * MIB, cadence_s=1.0):
    """Samples of an app whose memory goes up and down by pages."""
    chance = random.Random(seed)
    used, faults, stall_us = 20 * MIB, 100, 0
    for at in range(count):
        used = max(0, min(limit_bytes, used + PAGE * chance.randrange(-300, 320)))
        faults += chance.randrange(3)
        stall_us += chance.choice((0, 0, 0, chance.randrange(10**6)))
        late_s = chance.random() / 1000
        yield Sample(at * cadence_s + late_s, "cgroup:/app", float(limit_bytes), float(limit_bytes - used), float(used),
                     used + 3.0 * MIB, math.nan, 2.0**31 - used, 0.0, 0.0, 0.0, float(stall_us), float(stall_us // 2),
                     float(faults), float(faults // 3), late_s, math.nan, "playback" if at % 100 > 50 else None)


def record(folder, runs, limits=SMALL, **more):
    """Record lists of samples, one sample of each per tick; return the journal, still open."""
    journal = Journal.open(str(folder), limits, **more)
    recorders = [journal.run(facts(f"app-{at}")) for at in range(len(runs))]
    for samples in zip(*runs, strict=True):
        for recorder, sample in zip(recorders, samples, strict=True):
            recorder.sample(sample)
        journal.tick(0.0)
    return journal


def row(sample):
    """A sample as the journal keeps it: COLUMNS, lateness as float32, bit for bit."""
    numbers = [getattr(sample, name) + 0.0 for name in COLUMNS]     # -0.0 is 0.0
    numbers[1] = struct.unpack("f", struct.pack("f", numbers[1]))[0]
    return struct.pack(f"{len(numbers)}d", *numbers)


def rows(run):
    """What was read of a run, in the same form."""
    size = 8 * len(COLUMNS)
    return [bytes(run.rows[at:at + size]) for at in range(0, len(run.rows), size)]


def read(folder):
    """The runs by their app's name, and the losses."""
    recording = read_journals(str(folder))
    return {run.facts.get("app"): run for run in recording.runs}, recording.losses


class Told:
    """Collects what the journal tells."""

    def __init__(self):
        self.events = []

    def __call__(self, event, severity="info", /, **fields):
        """Take an event."""
        self.events.append((event, severity, fields))

    @property
    def names(self):
        """The events, without their fields."""
        return [event for event, _severity, _fields in self.events]
