"""Formats: readers of raw logs, the frame store, the tables, checkpoints and the catalogue."""
