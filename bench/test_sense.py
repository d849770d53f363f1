"""Our sensors beside psutil's documented calls for the same facts."""

from __future__ import annotations

import os

import psutil

from oomguard.profile import Profile
from oomguard.sense.machine import Machine
from oomguard.sense.procfs import Process
from oomguard.sense.sensor import open_sensor
from oomguard.sense.target import Found


def again(function, times=50):
    return lambda: [function() for _ in range(times)]


def test_machine_beside_psutil(side_by_side, figure):
    machine = Machine()
    theirs = again(lambda: (psutil.virtual_memory(), psutil.swap_memory()))
    ours = again(lambda: (machine.read(), machine.pressure()))
    took = side_by_side({"ours": ours, "psutil": theirs}, 100, 50)
    machine.close()
    figure("machine read", took["ours"], "us", how="memory, swap and pressure")
    figure("psutil virtual_memory + swap_memory / machine read", took["psutil"] / took["ours"], "x",
           how="psutil has no pressure")


def test_process_beside_psutil(side_by_side, figure):
    ours, theirs = Process(os.getpid()), psutil.Process()
    took = side_by_side({"ours": again(lambda: (ours.read(), ours.memory_bytes())), "psutil": again(theirs.memory_info),
                         "psutil full": again(theirs.memory_full_info, 5)}, 60, 50)
    ours.close()
    figure("process read", took["ours"], "us",
           how="alive, the same, major faults; own memory with shared memory and swap")
    figure("psutil memory_info / process read", took["psutil"] / took["ours"], "x", how="resident size only")
    figure("psutil memory_full_info / process read", 10 * took["psutil full"] / took["ours"], "x",
           how="what tells swap, too")


def test_whole_sensor_of_a_process(side_by_side, figure):
    machine = Machine()
    sensor = open_sensor(Found("process", os.getpid(), "", "self"), machine, Profile())
    reading = machine.read()
    took = side_by_side({"sensor": again(lambda: sensor.read(1.0, 0.0, reading, float("nan"), None))}, 100, 50)
    sensor.close()
    machine.close()
    figure("sensor of a process", took["sensor"], "us", how="all constraints up the tree, without the machine")
