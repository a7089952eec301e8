"""The one place where it is decided which pipeline a run works on, from the command line or from
the environment.

LATENTVLA_SCALE    smoke | synthetic (default) | navsim
LATENTVLA_SOURCE   openscene (default) | nuscenes | kitti_raw
LATENTVLA_RAW      folder of raw logs; empty (default): the synthetic world, which is OpenScene only
LATENTVLA_LAKE     folder of the artefacts; default lake/<scale>, and lake/<source>-<scale> for your own logs
"""

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from assets.chain.pipeline import Pipeline


RENAMED_SCALES = {"embedded": "synthetic"}  # former name -> present name, for one release


@dataclass(frozen=True, slots=True)
class RunTarget:
    """Which pipeline is meant. Plain strings; Dagster is not needed to read it."""

    scale: str
    source: str
    raw: str  # "" means the synthetic world
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
    scale = _current_name(scale or environment.get("LATENTVLA_SCALE") or "synthetic")
    source = source or environment.get("LATENTVLA_SOURCE") or "openscene"
    raw = raw or environment.get("LATENTVLA_RAW") or ""
    default = f"lake/{source}-{scale}" if raw else f"lake/{scale}"
    return RunTarget(scale, source, raw, lake or environment.get("LATENTVLA_LAKE") or default)


def _current_name(scale: str) -> str:
    """The scale's present name; a former one is understood with a notice."""
    current = RENAMED_SCALES.get(scale)
    if current is None:
        return scale
    print(
        f"notice: scale '{scale}' is now called '{current}'; the old name goes with the next "
        f"release. Artefacts lie in lake/{current}; lake/{scale} can be removed.",
        file=sys.stderr,
    )
    return current


def open_pipeline(target: RunTarget) -> "Pipeline":
    """The pipeline of this target. Raises ConfigError for a scale that does not exist."""
    from assets.chain.pipeline import Pipeline
    from pipelines.presets import preset

    return Pipeline(target.source, target.raw, target.lake, preset(target.scale))
