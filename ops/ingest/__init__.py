"""From raw logs to frame stores and tables, log by log, with a quarantine."""
