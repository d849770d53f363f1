"""Invented runs and fleets, marked so: what no recording covers, and a truth to find again."""
