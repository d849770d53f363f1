"""Inside a device: run the survey's apps as services, one phase after another, watch, and print what was seen.

`drive.py SPEC`: a JSON file, `{guard, journal, kill_words, phases: [{name, seconds, units: {NAME: text},
reports: {APP: {path, rate, unit, is_client}}, redis_value_bytes}]}` (bench/lab/workload.py). Prints one JSON object.
"""

import glob
import itertools
import json
import os
import re
import socket
import subprocess
import sys
import time

UNITS = "/run/systemd/system"
CGROUPS = "/sys/fs/cgroup"
WINDOW_S = 10.0
FOOTPRINT_EVERY = 5     # looks
TRIES = 4


def clock_s():
    """Return the time since boot."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def words(path):
    """Return a file of `name number` lines as a mapping; empty where there is none."""
    try:
        with open(path) as file:
            return {name: int(number) for name, number in (line.split() for line in file)}
    except OSError:
        return {}


def stalled_us():
    """Return how long some task has waited for memory, in microseconds since boot."""
    with open("/proc/pressure/memory") as file:
        return int(file.readline().rpartition("=")[2])


def busy_s():
    """Return what the device's processors have worked since boot."""
    with open("/proc/stat") as file:
        numbers = [int(word) for word in file.readline().split()[1:9]]
    return (sum(numbers) - numbers[3] - numbers[4]) / os.sysconf("SC_CLK_TCK")


def systemctl(*arguments):
    """Call it, again where systemd itself does not answer in a thrashing device; return what it prints."""
    for _try in range(TRIES):
        done = subprocess.run(["systemctl", *arguments], capture_output=True, text=True, check=False)
        if done.returncode == 0:
            break
    return done.stdout


def guard_rss_bytes(cgroups):
    """Return the resident memory of all processes of the guard."""
    total = 0
    for path in cgroups:
        for name in glob.glob(f"{CGROUPS}/{path}/**/cgroup.procs", recursive=True):
            with open(name) as file:
                for pid in file.read().split():
                    try:
                        with open(f"/proc/{pid}/statm") as statm:
                            total += int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
                    except OSError:
                        pass        # ended meanwhile
    return total


def guard_cpu_s(cgroups):
    """Return the processor time of the guard."""
    return sum(words(f"{CGROUPS}/{path}/cpu.stat").get("usage_usec", 0) for path in cgroups) / 1e6


def watch(seconds, cgroups):
    """Look once a second; return the stall, the longest silence between two looks, and the guard's peak."""
    start_s = clock_s()
    looks, rss_bytes = [(0.0, stalled_us())], 0
    while looks[-1][0] < seconds:
        due_s = min(int(looks[-1][0]) + 1, seconds)
        time.sleep(max(0.0, start_s + due_s - clock_s()))
        if len(looks) % FOOTPRINT_EVERY == 0:
            rss_bytes = max(rss_bytes, guard_rss_bytes(cgroups))
        looks.append((clock_s() - start_s, stalled_us()))
    return {"stall_s": (looks[-1][1] - looks[0][1]) / 1e6, "stall_worst_ratio": worst_ratio(looks),
            "silent_worst_s": max(after[0] - before[0] for before, after in itertools.pairwise(looks)),
            "seconds": looks[-1][0], "guard_rss_bytes": rss_bytes}


def worst_ratio(looks):
    """Return the largest share of about ten seconds in which some task waited for memory."""
    worst = 0.0
    for at, (end_s, end_us) in enumerate(looks):
        begin_s, begin_us = next(look for look in looks if look[0] >= end_s - WINDOW_S - 0.5)
        if at and end_s - begin_s >= WINDOW_S - 1.5:
            worst = max(worst, (end_us - begin_us) / 1e6 / (end_s - begin_s))
    return min(worst, 1.0)


def lives(path, is_cumulative, until_s=float("inf")):
    """Return an app's lives: when each ended as far as it said, and what it had counted by then.

    What it said after `until_s` does not count: a device that is short of memory is slow to end its apps.
    """
    found = {}
    with open(path) as file:
        for line in file:
            try:
                told = json.loads(line)
            except ValueError:
                continue            # cut by a kill
            if told["t_s"] <= until_s:
                found[told["life"]] = told
    last = sorted(found.values(), key=lambda told: told["t_s"])
    if is_cumulative:               # the client outlives its server: its last word counts all
        return [{**told, "hits": 0, "answered": 0} for told in last[:-1]] + last[-1:]
    return last


def text_of(path):
    """Return a file, empty where there is none."""
    try:
        with open(path) as file:
            return file.read()
    except OSError:
        return ""


def redis_evicted_bytes(value_bytes):
    """Return what redis has evicted in this life of its."""
    try:
        with socket.create_connection(("127.0.0.1", 6379), timeout=10) as redis:
            redis.sendall(b"INFO stats\r\n")
            data = b""
            while b"evicted_keys" not in data or not data.endswith(b"\r\n"):
                piece = redis.recv(65536)
                if not piece:
                    break
                data += piece
    except OSError:
        return 0
    found = re.search(rb"evicted_keys:(\d+)", data)
    return int(found[1]) * value_bytes if found else 0


def guard_log(spec, since):
    """Return what the guard's units have logged since a time of the wall clock."""
    if not spec["journal"]:
        return ""
    return subprocess.run(["journalctl", "-b", "-o", "cat", "--no-pager", f"--since=@{since:.0f}",
                           *(f"--unit={unit}" for unit in spec["journal"])], capture_output=True, text=True,
                          check=False).stdout


def killed_by_guard(log, pattern):
    """Return how many processes a guard says it killed; the pattern's group names the process, or its cgroup."""
    found = re.findall(pattern, log) if pattern else []
    # A process is asked twice, first to end and then made to: one kill. A cgroup comes back under the same name.
    return len({name for name in found if name.isdigit()}) + sum(not name.isdigit() for name in found)


def spoken(log):
    """Return how often oomguard's level rose, by who scored, and how often it had memory given back."""
    rises = [scorer for was, level, scorer in re.findall(r"event=level .*?was=(\d) .*?level=(\d) scorer=(\w+)", log)
             if level > was]
    return {"rises": {scorer: rises.count(scorer) for scorer in sorted(set(rises))},
            "releases": len(re.findall(r"event=release ", log))}


def run_phase(spec, phase):
    """Start the apps, watch them for the time, end them, and say what became of them."""
    for name, text in phase["units"].items():
        with open(f"{UNITS}/{name}.service", "w") as file:
            file.write(text)
    reports = phase["reports"]
    for each in reports.values():
        if os.path.exists(each["path"]):
            os.unlink(each["path"])
    systemctl("daemon-reload")
    kills, since, busy, cpu_s = words("/proc/vmstat")["oom_kill"], time.time(), busy_s(), guard_cpu_s(spec["guard"])
    systemctl("start", *phase["units"])
    start_s = clock_s()
    seen = watch(phase["seconds"], spec["guard"])
    seen["kernel_kills"] = words("/proc/vmstat")["oom_kill"] - kills
    restarts = {name: int(systemctl("show", "-P", "NRestarts", name) or 0) for name in phase["units"]}
    evicted_bytes = redis_evicted_bytes(phase["redis_value_bytes"]) if phase["redis_value_bytes"] else 0
    seen |= {"guard_cpu_s": guard_cpu_s(spec["guard"]) - cpu_s, "busy_s": busy_s() - busy}
    systemctl("stop", *phase["units"])
    log = guard_log(spec, since)
    seen |= {"restarts": restarts,
             "guard_kills": killed_by_guard(log, spec["kill_words"]), "spoken": spoken(log),
             "redis_evicted_bytes": evicted_bytes, "apps": {}, "said": {"guard": log}}
    for app, each in reports.items():
        seen["said"][app] = text_of(each["path"])
        last = lives(each["path"], each["is_client"], start_s + seen["seconds"]) if os.path.exists(each["path"]) else []
        seen["apps"][app] = {
            "lives": len(last), "requests": int(each["rate"] * seen["seconds"]),
            "answered": sum(told["answered"] for told in last), "hits": sum(told["hits"] for told in last),
            "evicted_bytes": sum(told["evicted_bytes"] for told in last),
            # To the end of its first life; a client's may end without its server's.
            "survived_s": max(0.0, last[0]["t_s"] - start_s) if last and restarts[each["unit"]] else seen["seconds"]}
    return seen


def main():
    """Carry out the specification."""
    with open("/proc/self/oom_score_adj", "w") as file:
        file.write("-1000")
    with open(sys.argv[1]) as file:
        spec = json.load(file)
    result = {}
    for phase in spec["phases"]:
        result[phase["name"]] = run_phase(spec, phase)
        with open("/proc/sys/vm/drop_caches", "w") as file:
            file.write("3")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
