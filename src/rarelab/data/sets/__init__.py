"""Real data sets: one file each, with its facts (``SOURCE``), reader and dataset leaf's target."""
