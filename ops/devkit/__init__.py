"""Uses of an installed NAVSIM devkit: the student as its agent, submissions, comparison of
scores.
"""
