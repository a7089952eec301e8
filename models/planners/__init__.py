"""Planner networks: the host planner, its fusion with a VLM, the student, the ego-status MLP."""
