"""Formats: readers of raw logs, the frame store, tables, checkpoints, artefacts and SQL queries."""
