"""The NAVSIM devkit beside our own score: our student as its agent, its submission file, a
comparison.
"""
