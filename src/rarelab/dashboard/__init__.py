"""MLflow's dashboard, opened where it answers the question: columns and charts set beforehand."""
