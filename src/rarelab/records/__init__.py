"""Finished runs read back: found, their configuration checked, their metrics as plain data."""
