"""Names of the columns beside a run's predictions that hold what the data gave a role: the group of
a row, its amount, its weight in the weighted metrics, the score that a model in use gave it."""

GIVEN = "given/"
GROUP = f"{GIVEN}group"
AMOUNT = f"{GIVEN}amount"
WEIGHT = f"{GIVEN}weight"
SCORE = f"{GIVEN}score/"
"""Followed by the name of the column that ``dataset.scores`` names."""
