"""The options with which every command chooses its pipeline: scale, source, raw folder and lake."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from pipelines.environment import RunTarget, checked_target, open_pipeline
from storage.lake import Lake

if TYPE_CHECKING:
    from assets.chain.pipeline import Pipeline


def add_target_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare --scale, --source, --raw and --lake."""
    group = parser.add_argument_group(
        "the pipeline", "defaults: LATENTVLA_SCALE, _SOURCE, _RAW and _LAKE, then those named here"
    )
    group.add_argument("--scale", help="smoke | synthetic | navsim; default: synthetic")
    group.add_argument(
        "--source",
        help="format of the raw logs: openscene | nuscenes | kitti_raw | kitti_odometry | "
        "comma2k19 | video; default: openscene",
    )
    group.add_argument("--raw", help="folder of your raw logs; default: the synthetic world")
    group.add_argument(
        "--lake",
        help="folder of the artefacts; default: lake/<scale>, with --raw lake/<source>-<scale>",
    )


def target_of(options: argparse.Namespace) -> RunTarget:
    """What the options and the environment choose. Raises ConfigError as `checked_target` does."""
    return checked_target(
        scale=options.scale, source=options.source, raw=options.raw, lake=options.lake
    )


def pipeline_of(options: argparse.Namespace) -> "Pipeline":
    """The chosen pipeline. Raises ConfigError for a scale that does not exist."""
    return open_pipeline(target_of(options))


def lake_of(options: argparse.Namespace) -> Lake:
    """The chosen lake; it need not exist."""
    return Lake(Path(target_of(options).lake))
