"""Data sets: one file per source, each giving the train, validation and test tables of `splits`.

Nothing is imported here, so that listing the sets needs neither torch nor scikit-learn.
"""
