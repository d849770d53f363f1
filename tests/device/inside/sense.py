"""Read one cgroup with oomguard's own sensor and print the sample beside what the kernel's files say."""

import json
import sys

from oomguard.clock import now_s
from oomguard.decide.plan import TargetPlan
from oomguard.sense.facts import detect_profile
from oomguard.sense.machine import open_machine
from oomguard.sense.sensor import open_sensor
from oomguard.sense.target import resolve


def kernels_words(directory: str) -> dict[str, int]:
    with open(f"{directory}/memory.stat") as file:
        stat = {name: int(value) for name, value in map(str.split, file)}
    with open(f"{directory}/memory.current") as file:
        stat["current"] = int(file.read())
    return stat


machine = open_machine()
sensor = open_sensor(resolve(TargetPlan("lab", "cgroup", sys.argv[1])), machine, detect_profile())
sample = sensor.read(now_s(), 0.0, machine.read(), float("nan"), None)
print(json.dumps({"sample": sample._asdict(), "kills": sensor.kills(), "pids": sensor.pids(), "trouble": sensor.trouble,
                  "kernel": kernels_words(f"/sys/fs/cgroup{sys.argv[1]}")}))
sensor.close()
