"""Real data sets: download by pinned hash, extraction of members, cache of prepared splits."""
