"""A program under a unit of its own that prints a line for each SIGUSR1."""

import signal

signal.signal(signal.SIGUSR1, lambda *_: print("asked", flush=True))
print("up", flush=True)
while True:
    signal.pause()
