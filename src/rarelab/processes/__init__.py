"""Multi-process training: starting, grouping and following a run's processes."""
