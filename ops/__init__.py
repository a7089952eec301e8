"""What is done: plain functions over opened readers. No Dagster in here."""
