"""Replay: what the guard decided, decides or would have decided on a recording, and why. Off the device."""
