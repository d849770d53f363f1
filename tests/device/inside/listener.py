"""Wait for one memory-pressure event as any systemd program does: libsystemd's own sd_event source."""

import ctypes
import sys

library = ctypes.CDLL("libsystemd.so.0")
Handler = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)


@Handler
def heard(_source, _data):
    """Print and leave the loop."""
    print("heard", flush=True)
    return library.sd_event_exit(event, 0)


hoard = [bytearray(b"x") * (int(sys.argv[1]) << 20)]
event, source = ctypes.c_void_p(), ctypes.c_void_p()
for status in (library.sd_event_default(ctypes.byref(event)),
               library.sd_event_add_memory_pressure(event, ctypes.byref(source), heard, None)):
    if status < 0:
        sys.exit(f"libsystemd: error {-status}")
print("listening", flush=True)
sys.exit(library.sd_event_loop(event))
