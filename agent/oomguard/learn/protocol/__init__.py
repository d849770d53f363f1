"""The event protocol (DESIGN 5): what an alarm is, what counts as caught or false, and the figures of it."""
