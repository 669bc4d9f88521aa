"""Committed studies: a question, its runs as a CSV, and the results computed from them."""
