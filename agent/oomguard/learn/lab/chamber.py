"""One run: its cell, its driver, what the sensor reads of it, and how it ends."""

from __future__ import annotations

import json
import math
import os
import platform
import subprocess
import sys
import time
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from oomguard.clock import now_s
from oomguard.decide.plan import TargetPlan
from oomguard.errors import TargetGoneError
from oomguard.learn.lab.cell import Cell
from oomguard.learn.lab.drive import Orders
from oomguard.learn.lab.plan import CURVE_STEP_S, curve_of
from oomguard.learn.lab.program import Spec, driver_of
from oomguard.profile import Profile
from oomguard.sense.sensor import open_sensor
from oomguard.sense.target import resolve

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from oomguard.learn.lab.plan import RunPlan
    from oomguard.sense.machine import Machine, MachineReading
    from oomguard.sense.portable import PortableSensor
    from oomguard.sense.sample import Sample
    from oomguard.sense.sensor import Sensor

START_S = 60.0              # how long a program may take to start
AFTERMATH_S = 3.0           # how long a killed program's driver may take to notice
NEIGHBOUR_PROGRAM = "perl"
PICKED_OOM_SCORE = 500      # so that it is the target whom the kernel picks, and not the larger neighbour
TARGET_SHARE = 0.3          # of the curve, where a neighbour holds the rest


class Killed(NamedTuple):
    """A kill that was seen."""

    t_s: float
    killer: str
    whole_target: bool


class Driver:
    """The process that drives a program, and what it says."""

    def __init__(self, orders: Orders) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "oomguard.learn.lab.drive"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, start_new_session=True)
        assert self._process.stdin is not None and self._process.stdout is not None
        self._stdin, self._stdout, self._rest = self._process.stdin, self._process.stdout, b""
        os.set_blocking(self._stdout.fileno(), False)
        self._stdin.write(json.dumps(orders._asdict()).encode() + b"\n")
        self._stdin.flush()

    def said(self) -> list[dict[str, Any]]:
        """Return what it said since it was last asked; {"gone": …} where it died itself."""
        text = self._stdout.read() or b""
        *lines, self._rest = (self._rest + text).split(b"\n")
        told = [json.loads(line) for line in lines if line]
        if self._process.poll() is not None and not any("gone" in each for each in told):
            told.append({"gone": self.trouble() or "the driver has ended"})
        return told

    def evict(self, size_bytes: float) -> None:
        """Ask it to give back so much of its cache."""
        with suppress(BrokenPipeError):
            self._stdin.write(json.dumps({"evict": size_bytes}).encode() + b"\n")
            self._stdin.flush()

    def trouble(self) -> str:
        """Return the last line of what went wrong, once it has ended."""
        assert self._process.stderr is not None
        lines = self._process.stderr.read().decode("utf-8", "replace").strip().splitlines()
        return lines[-1] if lines else ""

    def ask_to_stop(self) -> None:
        """Close its input: it stops the program and ends."""
        with suppress(BrokenPipeError):
            self._stdin.close()

    def wait(self) -> None:
        """Wait for its end; kill it where it hangs."""
        try:
            self._process.wait(10.0)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        for stream in (self._stdout, self._process.stderr):
            if stream is not None:
                stream.close()


class Chamber:
    """One run while it lasts. `ended` is empty until it is over; `samples`, `kills` are what was recorded."""

    def __init__(self, plan: RunPlan, machine: Machine, cache_bytes: float = 0.0, refill_bytes_per_s: float = 0.0,
                 ) -> None:
        """Make the cell and start the program. Raises NotPermittedError, UsageError."""
        self.plan, self._machine, kind = plan, machine, driver_of(plan.program)
        self.bound_kind = kind.bound_kind
        self._cell = Cell(plan.run_id, plan.limit_bytes, plan.swap_bytes, plan.has_neighbour)
        self._sensor: Sensor | PortableSensor | None = None     # opened when the program is in, for its PSI
        self.samples: list[Sample] = []
        self.kills: list[Killed] = []
        self.evictions: list[dict[str, float]] = []
        self.ended, self.ended_after_s, self.why = "", math.nan, ""
        self._kills_seen, self._begun_s, self.started_at, self._boot_id = 0, math.nan, "", ""
        self._made_s = time.monotonic()
        spec = Spec(plan.program, plan.limit_bytes, self._cell.folder, plan.seed, plan.bound_bytes,
                    plan.churn_bytes_per_s)
        curve = curve_of(plan)
        own = curve * TARGET_SHARE if plan.has_neighbour else curve
        self.drivers = [Driver(Orders(spec._asdict(), self._cell.procs, _rounded(own), CURVE_STEP_S,
                                      cache_bytes, refill_bytes_per_s,
                                      oom_score_adj=PICKED_OOM_SCORE if plan.has_neighbour else 0))]
        if plan.has_neighbour:
            self.drivers.append(self._neighbour(spec, curve - own))

    def _neighbour(self, spec: Spec, curve: NDArray[np.float64]) -> Driver:
        folder = f"{self._cell.folder}/neighbour"
        os.mkdir(folder)
        orders = spec._replace(program=NEIGHBOUR_PROGRAM, folder=folder, bound_bytes=math.nan)
        return Driver(Orders(orders._asdict(), [self._cell.neighbour_procs, *self._cell.procs[1:]], _rounded(curve),
                             CURVE_STEP_S))

    @property
    def t_s(self) -> float:
        """Seconds since the program took orders; NaN before."""
        return now_s() - self._begun_s

    @property
    def is_over(self) -> bool:
        """Whether the run has ended."""
        return bool(self.ended)

    def tick(self, late_s: float, reading: MachineReading) -> Sample | None:
        """Read the target once, and see whether it is still there; None where there was nothing to read.

        Raises:
            NotPermittedError, UsageError: its cgroup cannot be read.
        """
        told = self.drivers[0].said()
        self.evictions += [each for each in told if "evicted" in each]
        gone = next((each["gone"] for each in told if "gone" in each), None)
        if self._sensor is None:
            self._begin(gone, any("started" in each for each in told))
            return None
        t_s = self.t_s
        if self._see_kills(t_s, gone) or t_s >= self.plan.planned_s:
            self._end(self.ended or "stopped", t_s)
            return None
        try:
            sample = self._sensor.read(t_s, late_s, reading, math.nan, self._phase(t_s))
        except TargetGoneError as error:
            self._end("unknown", t_s, str(error))
            return None
        self.samples.append(sample)
        return sample

    def _begin(self, gone: str | None, has_started: bool) -> None:
        if has_started and gone is None:
            self._sensor = open_sensor(
                resolve(TargetPlan(self.plan.run_id, "cgroup", self._cell.path)), self._machine, Profile())
            self._begun_s, self._kills_seen = now_s(), self._cell.kills()
            self._boot_id = self._sensor.identity.partition(":")[0]
            self.started_at = datetime.now(UTC).isoformat()
        elif gone is not None or time.monotonic() - self._made_s > START_S:
            self._end("failed", 0.0, gone or f"did not start within {START_S:.0f} s")

    def _see_kills(self, t_s: float, gone: str | None) -> bool:
        """Note what the kernel killed; return whether the run is over."""
        kills = self._cell.kills()
        if kills > self._kills_seen:
            self.kills.append(Killed(t_s, "kernel", True))
            self._kills_seen = kills
        if gone is None:
            if self.kills and t_s - self.kills[-1].t_s > AFTERMATH_S:       # it lives on without whom it lost
                self.kills[-1] = self.kills[-1]._replace(whole_target=False)
            return False
        self.why = gone
        if self.kills and t_s - self.kills[-1].t_s <= AFTERMATH_S + 1.0:
            self.ended, self.ended_after_s = "oom", self.kills[-1].t_s
        elif self.bound_kind == "aborts" and self.plan.bound_bytes == self.plan.bound_bytes:
            self.kills.append(Killed(t_s, "app", True))
            self.ended, self.ended_after_s = "oom", t_s
        else:
            self.ended, self.ended_after_s = "crash", t_s
        return True

    def _phase(self, t_s: float) -> str | None:
        if not self.plan.is_phase_told:
            return None
        return "loading" if t_s < self.plan.loading_until_s else "steady"

    def _end(self, ended: str, t_s: float, why: str = "") -> None:
        self.ended, self.why = ended, why or self.why
        if self.ended_after_s != self.ended_after_s:
            self.ended_after_s = t_s
        if ended == "oom":
            self.samples = [sample for sample in self.samples if sample.t_s < self.ended_after_s]
        for driver in self.drivers:
            driver.ask_to_stop()

    def close(self) -> None:
        """Leave nothing behind; may take some seconds."""
        for driver in self.drivers:
            driver.ask_to_stop()
        if self._sensor is not None:
            self._sensor.close()
        for driver in self.drivers:
            driver.wait()
        self._cell.remove()

    def facts(self) -> dict[str, Any]:
        """Return the row of `runs` (DESIGN 4.9), plain JSON; the bound only where the recording may know it."""
        plan = self.plan
        told = plan.bound_bytes if plan.is_bound_told and plan.bound_bytes == plan.bound_bytes else None
        is_heap = self.bound_kind == "aborts"
        return {
            "run_id": plan.run_id, "boot_id": self._boot_id, "device_id": platform.node(),
            "device_type": plan.device_type, "sdk_version": f"linux-{platform.release()}", "app": plan.program,
            "app_version": None, "limit_bytes": plan.limit_bytes,
            "cache_capacity_bytes": int(told) if told is not None and not is_heap else None,
            "heap_limit_bytes": int(told) if told is not None and is_heap else None,
            "bound_kind": self.bound_kind if told is not None else None, "started_at": self.started_at,
            "ended": self.ended, "ended_after_s": self.ended_after_s}


def _rounded(curve: NDArray[np.float64]) -> list[float]:
    return [float(value) for value in np.round(curve)]
