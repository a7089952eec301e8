"""What the nine assets share: their specifications, one materialization, checks, metadata, code
versions.
"""
