"""The PDM score: NAVSIM PDMS (v1.1) and EPDMS (v2.2) in array code, batched over scenes and proposals.
Needs no devkit. The public names are those of `latentvla.pdm`.
"""
