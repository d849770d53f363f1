"""Measure what was trained beside every simpler rule, and explain where it fails and what it costs."""
