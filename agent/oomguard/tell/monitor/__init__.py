"""org.freedesktop.LowMemoryMonitor on D-Bus: GLib's GMemoryMonitor apps hear the guard (PROTOCOLS 2)."""
