"""Hyperparameter search with Optuna, over a space written in Hydra's sweep syntax."""
