"""Chooses the pipeline that a run works on: from the command line, then from the environment, then
the defaults.

LATENTVLA_SCALE    smoke | synthetic (default) | navsim
LATENTVLA_SOURCE   openscene (default) | nuscenes | kitti_raw | kitti_odometry | comma2k19 |
                   video
LATENTVLA_RAW      folder of raw logs; empty (default): the synthetic world, which is OpenScene only
LATENTVLA_LAKE     folder of the artefacts; default lake/<scale>, with your own logs
                   lake/<source>-<scale>
LATENTVLA_RULES    file of changed data rules, see docs/quality.md

How patient the sensors are, in seconds:

LATENTVLA_POLL_S   how often they look; default 30
LATENTVLA_SETTLE_S a log whose newest file is younger may still be being copied; default 60
LATENTVLA_RETRY_S  wait after a failed run, four times as long after each further one; default 60
"""

import math
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from storage.errors import ConfigError, unknown_name

if TYPE_CHECKING:
    from assets.chain.pipeline import Pipeline

SETTINGS = "dagster.yaml"  # of Dagster, in the root of a checkout
RENAMED_SCALES = {"embedded": "synthetic"}  # former name -> present name, for one release
SCALES = ("smoke", "synthetic", "navsim")  # PRESETS of presets.py, which takes longer to import


@dataclass(frozen=True, slots=True)
class RunTarget:
    """The pipeline that a run works on, as plain strings."""

    scale: str
    source: str
    raw: str  # "": the synthetic world
    lake: str


@dataclass(frozen=True, slots=True)
class SensorTiming:
    """How patient the sensors are; seconds."""

    poll_s: float = 30.0
    settle_s: float = 60.0
    retry_s: float = 60.0


def sensor_timing(environment: Mapping[str, str] = os.environ) -> SensorTiming:
    """The timing that the environment chooses. Raises ConfigError for what is no time."""
    names = [field.name for field in fields(SensorTiming)]
    given = {name: environment.get(f"LATENTVLA_{name.upper()}") for name in names}
    return SensorTiming(
        **{
            name: _seconds(f"LATENTVLA_{name.upper()}", text)
            for name, text in given.items()
            if text
        }
    )


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


def is_checkout(folder: Path) -> bool:
    """True for the current folder if it is the root of a checkout."""
    return (
        (folder / SETTINGS).exists()
        and (folder / "pyproject.toml").exists()
        and folder.samefile(Path.cwd())
    )


def _seconds(name: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if 0 <= value < math.inf:
        return value
    raise ConfigError(
        f"{name} is no time", where=name, expected="seconds, 0 or more", found=text, do="correct it"
    )


def checked_target(environment: Mapping[str, str] = os.environ, **options: str | None) -> RunTarget:
    """The target of these options (scale, source, raw, lake), as `run_target` chooses it.

    Raises ConfigError for an option that is empty, a scale or a source that does not exist, and a
    lake that is a file, lies below one, or is no path of the system at all; the error says which
    option or variable named it.
    """
    for name, value in options.items():
        if value is not None and not value.strip():
            raise ConfigError(
                f"--{name} is empty",
                expected=f"a value, or no --{name} for the default",
                found=repr(value),
                do="look at the variable of the shell that should hold the value",
            )
    from storage.sources import SOURCES

    target = run_target(environment, **options)

    def origin(name: str) -> str | None:
        variable = f"LATENTVLA_{name.upper()}"
        return variable if options.get(name) is None and environment.get(variable) else None

    for name, value, known in (("scale", target.scale, SCALES), ("source", target.source, SOURCES)):
        if value not in known:
            raise _from_origin(unknown_name(name, value, known), origin(name))
    _require_lake_path(target.lake, origin("lake"))
    return target


def _require_lake_path(lake: str, origin: str | None) -> None:
    """Raise ConfigError unless a folder is, or can be, at this path."""
    path = Path(lake)
    try:
        nearest = next(
            item for item in (path, *path.absolute().parents) if item.exists() or item.is_symlink()
        )
        found = "" if nearest.is_dir() else "a file" if nearest.exists() else "a link to nowhere"
    except (OSError, ValueError) as error:
        nearest, found = path, str(error)
    if found:
        raise _from_origin(
            ConfigError(
                "the lake is no folder",
                where=nearest,
                expected="a folder, or a path at which one can be made",
                found=found,
                do="choose another folder with --lake",
            ),
            origin,
        )


def _from_origin(error: ConfigError, origin: str | None) -> ConfigError:
    """The error with the variable that led to it in `where`."""
    if origin is None:
        return error
    where = origin if error.where is None else f"{origin}, {error.where}"
    return ConfigError(
        error.what, where=where, expected=error.expected, found=error.found, do=error.do
    )


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
    """The pipeline of this target. Raises ConfigError for a scale that does not exist, and for a
    LATENTVLA_NUSCENES that its scale reads and that is no folder.
    """
    from assets.chain.pipeline import Pipeline
    from ops.quality.config import QualityConfig
    from pipelines.presets import preset

    chosen = preset(target.scale)
    zero_shot = chosen.evaluation.zero_shot
    folder = zero_shot.logs.nuscenes if zero_shot is not None else ""
    if folder and not Path(folder).is_dir():
        raise ConfigError(
            "the folder of nuScenes does not exist",
            where=f"LATENTVLA_NUSCENES, {folder}",
            expected="a folder of nuScenes, for the zero-shot table",
            do="correct the folder, or unset the variable",
        )
    if rules := os.environ.get("LATENTVLA_RULES"):
        chosen = replace(chosen, quality=QualityConfig(rules))
    return Pipeline(target.source, target.raw, target.lake, chosen)
