"""The Dagster definitions under a public name: `dagster dev -m latentvla.definitions`."""

import sys

import latentvla

# Dagster takes the first folder off the path while it imports a module
if latentvla._CODE not in sys.path:
    sys.path.insert(0, latentvla._CODE)

from pipelines.definitions import defs

__all__ = ["defs"]
