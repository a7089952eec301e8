"""The PDM score: NAVSIM PDMS (v1.1) and EPDMS (v2.2) in array code, batched over plans.

The NAVSIM devkit is not needed. docs/metrics.md states every rule. The public names are
those of `latentvla.pdm`.
"""
