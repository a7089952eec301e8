"""Reads a file of reference cases of the PDM score. Not the comparison: that is pdm_reference.py.

The layout is the one of ../shared/pdm_reference/README.md: `sNN/...` inputs and outputs of scenes,
`cNNN/...` of plans.
"""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from ops.pdm.scene.scene import Scene
from storage.errors import ConfigError

Cases = Mapping[str, np.ndarray]


def cases_of(arguments: Sequence[str], about: str | None, *, required: bool = False) -> Path | None:
    """The file that a benchmark's command line names; exits with its usage, or its help, where that
    was asked for.
    """
    parser = argparse.ArgumentParser(
        description=about, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "cases",
        type=Path,
        nargs=None if required else "?",
        metavar="CASES.npz",
        help="a file of reference cases, in the layout of ../shared/pdm_reference/README.md",
    )
    return parser.parse_args(arguments).cases


def read_cases(file: Path) -> Cases:
    """Every array of a file by its name. Raises ConfigError for a file that is not there or of
    another layout.
    """
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
            "this file has not the layout of reference cases",
            where=file,
            expected=", ".join(missing),
            found=", ".join(list(data)[:8]),
            do="see ../shared/pdm_reference/README.md",
        )
    return data


def read_scene(data: Cases, index: int) -> Scene:
    """Scene `index` of a file of reference cases, from its inputs alone."""

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
        # whatever a file has where nothing was seen
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
