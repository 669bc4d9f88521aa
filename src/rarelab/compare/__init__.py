"""What can be claimed about recorded runs: arms, paired statistics, figures, one report."""
