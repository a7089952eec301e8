"""From raw logs to frame stores and tables, log by log; unreadable logs are quarantined."""
