"""Oomguard measured by itself: what each stage costs on this machine, with real sensors and a real daemon."""
