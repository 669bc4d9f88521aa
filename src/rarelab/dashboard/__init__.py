"""MLflow's dashboard, opened on a view with columns and charts already chosen."""
