"""Readers of raw logs: one file and one class a format. `contract` states what they all give."""
