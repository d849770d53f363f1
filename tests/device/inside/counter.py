"""Count memory-pressure callbacks and wake-ups of libsystemd's own sd_event source; write both to a file each 0.2 s."""

import ctypes
import json
import os
import sys
import time

library = ctypes.CDLL("libsystemd.so.0")
Handler = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)
counts = {"callbacks": 0, "wakeups": 0, "cpu_s": 0.0, "watch": os.environ.get("MEMORY_PRESSURE_WATCH"),
          "write": os.environ.get("MEMORY_PRESSURE_WRITE")}


@Handler
def heard(_source, _data):
    """Count."""
    counts["callbacks"] += 1
    return 0


def write():
    """Replace the file, so that a reader sees it whole."""
    counts["cpu_s"] = time.process_time()
    with open(f"{sys.argv[1]}.new", "w") as file:
        json.dump(counts, file)
    os.rename(f"{sys.argv[1]}.new", sys.argv[1])


event, source = ctypes.c_void_p(), ctypes.c_void_p()
for status in (library.sd_event_default(ctypes.byref(event)),
               library.sd_event_add_memory_pressure(event, ctypes.byref(source), heard, None)):
    if status < 0:
        sys.exit(f"libsystemd: error {-status}")
due_s = 0.0
while True:
    status = library.sd_event_run(event, ctypes.c_uint64(100_000))
    if status < 0:
        sys.exit(f"libsystemd: error {-status}")
    counts["wakeups"] += status > 0
    if time.monotonic() >= due_s:
        write()
        due_s = time.monotonic() + 0.2
