"""Studies whose answers are kept: a question, its runs as a CSV, and what follows from them."""
