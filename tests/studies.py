"""A study as a user writes it."""

CONTEST = """# @package _global_
# Question: does focal loss help?
# Run:      make studies STUDY=mine
# Jobs:     4
# Compare:  baseline=bce margin=0.002
defaults:
  - override /dataset: toy
  - override /model: linear
  - override /schedule: constant
dataset:
  n_samples: 400
trainer:
  max_epochs: 1
hydra:
  sweeper:
    params:
      dataset.pos_rate: 0.2,0.3
sweep:
  arms:
    - [loss=bce]
    - [loss=sigmoid_focal]
  search:
    trials: 2
    space:
      loss=sigmoid_focal:
        loss.gamma: interval(0.5,4)
"""
