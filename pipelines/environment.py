"""Chooses the pipeline that a run works on: from the command line, then from the environment, then
the defaults.

LATENTVLA_SCALE    smoke | synthetic (default) | navsim
LATENTVLA_SOURCE   openscene (default) | nuscenes | kitti_raw
LATENTVLA_RAW      folder of raw logs; empty (default): the synthetic world, which is OpenScene only
LATENTVLA_LAKE     folder of the artefacts; default lake/<scale>, with your own logs
                   lake/<source>-<scale>
"""

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from assets.chain.pipeline import Pipeline

RENAMED_SCALES = {"embedded": "synthetic"}  # former name -> present name, for one release


@dataclass(frozen=True, slots=True)
class RunTarget:
    """The pipeline that a run works on, as plain strings."""

    scale: str
    source: str
    raw: str  # "": the synthetic world
    lake: str


def run_target(
    environment: Mapping[str, str] = os.environ,
    *,
    scale: str | None = None,
    source: str | None = None,
    raw: str | None = None,
    lake: str | None = None,
) -> RunTarget:
    """The target of these choices; what is not given comes from the environment, then from the
    defaults.
    """
    scale = _current_name(scale or environment.get("LATENTVLA_SCALE") or "synthetic")
    source = source or environment.get("LATENTVLA_SOURCE") or "openscene"
    raw = raw or environment.get("LATENTVLA_RAW") or ""
    default = f"lake/{source}-{scale}" if raw else f"lake/{scale}"
    return RunTarget(scale, source, raw, lake or environment.get("LATENTVLA_LAKE") or default)


def _current_name(scale: str) -> str:
    """The scale's present name; a former name is accepted with a notice."""
    if scale not in RENAMED_SCALES:
        return scale
    _print_rename_notice(scale)
    return RENAMED_SCALES[scale]


@cache
def _print_rename_notice(scale: str) -> None:
    """Print it once a process: the command line and the definitions both read the environment."""
    current = RENAMED_SCALES[scale]
    print(
        f"notice: scale '{scale}' is now called '{current}'; the old name will be removed in the "
        f"next release. The default lake is lake/{current}; lake/{scale} is no longer used.",
        file=sys.stderr,
    )


def open_pipeline(target: RunTarget) -> "Pipeline":
    """The pipeline of this target. Raises ConfigError for a scale that does not exist."""
    from assets.chain.pipeline import Pipeline
    from pipelines.presets import preset

    return Pipeline(target.source, target.raw, target.lake, preset(target.scale))
