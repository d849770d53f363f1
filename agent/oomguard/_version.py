"""The version, in one place: packaging, `--version`, recordings and the log read it here."""

__version__ = "0.1.0"
