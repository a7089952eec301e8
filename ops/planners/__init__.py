"""Planners: training, checkpoints, plans, baselines and latency."""
