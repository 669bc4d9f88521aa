"""A sweep that chooses its own jobs: Optuna over a space written in Hydra's sweep syntax."""
