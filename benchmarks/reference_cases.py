"""Reads a file of reference cases of the PDM score.

An .npz file: `n_scenes`; `sNN/...` inputs and outputs of scene NN; `case_scene` and `case_dt`, the
scene and the spacing in seconds of each plan; `cNNN/...` poses and outputs of plan NNN.
"""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from ops.pdm.scene.scene import Scene
from storage.errors import ConfigError

Cases = Mapping[str, np.ndarray]


def cases_of(arguments: Sequence[str], about: str | None, *, required: bool = False) -> Path | None:
    """Parse the command line of a benchmark: the file of reference cases, if one is given."""
    parser = argparse.ArgumentParser(
        description=about, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "cases",
        type=Path,
        nargs=None if required else "?",
        metavar="CASES.npz",
        help="a file of reference cases; its layout is described in benchmarks/reference_cases.py",
    )
    return parser.parse_args(arguments).cases


def read_cases(file: Path) -> Cases:
    """All arrays of a file by name. Raises ConfigError for a missing file or another layout."""
    if not file.is_file():
        raise ConfigError("there is no such file of reference cases", where=file)
    try:
        with np.load(file, allow_pickle=False) as archive:
            data = {name: archive[name] for name in archive.files}
    except (ValueError, AttributeError, EOFError, OSError) as error:
        raise ConfigError(
            "this is no .npz file without pickles", where=file, found=str(error)
        ) from error
    missing = [name for name in ("n_scenes", "case_scene", "case_dt") if name not in data]
    if missing:
        raise ConfigError(
            "the file does not have the layout of reference cases",
            where=file,
            expected=", ".join(missing),
            found=", ".join(list(data)[:8]),
            do="see benchmarks/reference_cases.py for the layout",
        )
    return data


def read_scene(data: Cases, index: int) -> Scene:
    """Scene `index` of a file of reference cases, from its inputs."""

    def get(name: str) -> np.ndarray:
        return data[f"s{index:02d}/{name}"]

    limit, agents = float(get("speed_limit")), get("agents_key")
    return Scene(
        scene_key=(str(get("name")), index),
        time_us=int(get("t0_us")),
        ego=get("ego"),
        past=get("past"),
        past_time_us=get("past_t_us").astype(np.int64),
        human=get("human"),
        # files differ in the values of absent tracks
        agents=np.where(agents[..., :1] > 0, agents, 0.0),
        agent_lwh=get("agents_lwh"),
        agent_category=get("agents_type").astype(np.int8),
        agent_token=get("agents_token"),
        light_token=get("tl_ids"),
        light_red=get("tl_red").astype(bool),
        map_xy=get("map_xy"),
        map_start=get("map_off").astype(np.int64),
        map_layer=get("map_layer").astype(np.int8),
        map_token=get("map_token"),
        route_lane_token=get("route_lane_ids"),
        centerline=get("centerline"),
        speed_limit_mps=limit if np.isfinite(limit) else None,
    )
