"""Real data sets, one file each: the facts (``SOURCE``), the reader and the leaf's target."""
