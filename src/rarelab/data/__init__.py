"""Data sets: one file per source, each giving train, validation and test tables with facts."""

from rarelab.data.splits import IGNORE_INDEX, Dataset, Splits, Table, make_splits

__all__ = ["IGNORE_INDEX", "Dataset", "Splits", "Table", "make_splits"]
