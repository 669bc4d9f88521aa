"""A single run, from its configuration to a finished folder."""
