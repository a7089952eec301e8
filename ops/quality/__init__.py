"""Data quality: what is measured of each log once, the rules on it, leakage between splits, drift.

What is measured of a log lies in `<lake>/quality/<asset>/<log_id>.json`; checks of the whole lake
read these files only.
"""
