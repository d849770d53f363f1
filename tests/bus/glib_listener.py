"""Hear low-memory warnings as any GLib program does: g_memory_monitor_dup_default, nothing of ours."""

import ctypes
import signal

gio, gobject, glib = (ctypes.CDLL(f"lib{name}-2.0.so.0") for name in ("gio", "gobject", "glib"))
Handler = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p)


@Handler
def warned(_monitor, level, _data):
    """Print the level."""
    print("warned", level, flush=True)


@ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p)
def asked(_data):
    """Say that the main loop is idle: what GLib did before is done."""
    print("idle", flush=True)
    return 1


gio.g_memory_monitor_dup_default.restype = ctypes.c_void_p
gobject.g_type_name_from_instance.restype = ctypes.c_char_p
gobject.g_type_name_from_instance.argtypes = [ctypes.c_void_p]
pointer = ctypes.c_void_p
gobject.g_signal_connect_data.argtypes = [pointer, ctypes.c_char_p, Handler, pointer, pointer, ctypes.c_int]
glib.g_main_loop_new.restype = ctypes.c_void_p
glib.g_main_loop_run.argtypes = [ctypes.c_void_p]
monitor = gio.g_memory_monitor_dup_default()
gobject.g_signal_connect_data(monitor, b"low-memory-warning", warned, None, None, 0)
glib.g_unix_signal_add(signal.SIGUSR1, asked, None)
print("monitor", gobject.g_type_name_from_instance(monitor).decode(), flush=True)
glib.g_main_loop_run(glib.g_main_loop_new(None, 0))
