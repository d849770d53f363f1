"""Thresholds from kills: per level and per device type, pooled over the fleet where kills are few."""
