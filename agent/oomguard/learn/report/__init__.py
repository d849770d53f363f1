"""The report of an evaluation: one HTML page that needs nothing else, and its pictures as PNG files."""

from oomguard.learn.report.page import Extras, write_report

__all__ = ["Extras", "write_report"]
