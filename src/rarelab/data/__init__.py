"""Data sets: one file per source, each producing train, validation and test `splits`.

Nothing is imported here, so listing the sets needs neither torch nor scikit-learn.
"""
