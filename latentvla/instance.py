"""The classes of a Dagster instance that dagster.yaml names, under public names."""

import latentvla  # noqa: F401  # makes the packages of a wheel importable
from pipelines.history import LakeInstance, WatchedRunLauncher

__all__ = ["LakeInstance", "WatchedRunLauncher"]
