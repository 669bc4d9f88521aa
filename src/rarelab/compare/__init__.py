"""What recorded runs allow one to claim: arms, paired statistics, figures, a report."""
