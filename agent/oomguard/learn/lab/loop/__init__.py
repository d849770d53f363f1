"""The closed loop: real programs guarded by every trigger side by side, to count who lives at what cost."""
