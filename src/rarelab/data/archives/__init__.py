"""Real data sets: fetched by pinned hash, read by member, kept prepared."""
