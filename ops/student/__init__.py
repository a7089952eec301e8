"""Distil the student, export it, and plan with it."""
