"""From raw columns to features and targets, with preprocessing fitted on the training rows."""
