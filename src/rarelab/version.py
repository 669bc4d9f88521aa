"""The version of this package; safe to import from anywhere."""

__version__ = "0.1.0"
