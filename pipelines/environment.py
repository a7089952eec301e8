"""The one place where it is decided which pipeline a run works on, from the command line or from
the environment.

LATENTVLA_SCALE    smoke | embedded (default) | navsim
LATENTVLA_SOURCE   openscene (default) | nuscenes | kitti_raw
LATENTVLA_RAW      folder of raw logs; empty (default): the embedded world, which is OpenScene only
LATENTVLA_LAKE     folder of the artefacts; default lake/<scale>, and lake/<source>-<scale> for your own logs
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RunTarget:
    """Which pipeline is meant. Plain strings; Dagster is not needed to read it."""

    scale: str
    source: str
    raw: str  # "" means the embedded world
    lake: str


def run_target(
    environment: Mapping[str, str] = os.environ,
    *,
    scale: str | None = None,
    source: str | None = None,
    raw: str | None = None,
    lake: str | None = None,
) -> RunTarget:
    """The pipeline that these choices mean; what is not given comes from the environment, then from
    the defaults.
    """
    scale = scale or environment.get("LATENTVLA_SCALE") or "embedded"
    source = source or environment.get("LATENTVLA_SOURCE") or "openscene"
    raw = raw or environment.get("LATENTVLA_RAW") or ""
    default = f"lake/{source}-{scale}" if raw else f"lake/{scale}"
    return RunTarget(scale, source, raw, lake or environment.get("LATENTVLA_LAKE") or default)
