"""Giving memory back: hooks, how much to ask of which, and the helper process that runs what may block."""
