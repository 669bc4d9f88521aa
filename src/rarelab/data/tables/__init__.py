"""Tables: raw columns to features and targets, fitted on the training rows."""
