"""The 13 tables of nuScenes (through nuscenes-devkit) and its CAN bus files."""

import json
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from storage.errors import SourceError

FRONT, LIDAR = "CAM_FRONT", "LIDAR_TOP"
# Published training scenes -> train, all others -> test: the published test scenes have no labels,
# so papers report on the val scenes. <version>/splits.json, if it exists, names the splits instead.
SPLITS = {"train": "train", "mini_train": "train"}


def open_tables(raw: Path, version: str) -> Any:
    """The devkit's NuScenes object of one version, cached until a table changes.

    Raises SourceError if the devkit is not installed or cannot read the tables.
    """
    return _tables_cached(
        raw, version, max(file.stat().st_mtime_ns for file in (raw / version).glob("*.json"))
    )


@lru_cache(maxsize=1)  # the full set takes gigabytes
def _tables_cached(raw: Path, version: str, _mtime_ns: int) -> Any:
    try:
        from nuscenes.nuscenes import NuScenes
    except ImportError as error:
        raise SourceError(
            "nuscenes-devkit is not installed",
            where=raw / version,
            expected="nuscenes-devkit 1.2.0",
            found=str(error),
            do="pip install nuscenes-devkit==1.2.0",
        ) from error
    try:
        return NuScenes(version=version, dataroot=str(raw), verbose=False)
    except (OSError, AssertionError, KeyError, IndexError, json.JSONDecodeError) as error:
        raise SourceError(
            "the tables cannot be read",
            where=raw / version,
            expected="the 13 tables of nuScenes v1.0",
            found=f"{type(error).__name__}: {error}",
            do="download or write the tables again",
        ) from error


def samples_of(tables: Any, log_id: str) -> list[dict[str, Any]]:
    """The samples of a scene in order of time."""
    scene = next(scene for scene in tables.scene if scene["name"] == log_id)
    samples, token = [], scene["first_sample_token"]
    while token:
        sample = tables.get("sample", token)
        samples.append(sample)
        token = sample["next"]
    return samples


def ego_pose_of(tables: Any, sample: dict[str, Any]) -> dict[str, Any]:
    """Ego pose of a sample at its lidar sweep, as its boxes; without lidar at its front image."""
    data = tables.get("sample_data", sample["data"].get(LIDAR) or sample["data"][FRONT])
    return tables.get("ego_pose", data["ego_pose_token"])


def can_bus_files(raw: Path, log_id: str) -> tuple[Path, ...]:
    """Paths of a scene's CAN bus files (pose, route), whether they exist or not."""
    return tuple(raw / "can_bus" / f"{log_id}_{message}.json" for message in ("pose", "route"))


def can_bus(raw: Path, log_id: str, message: str) -> list[Any]:
    """CAN bus messages of one kind ("pose" or "route"); empty if the scene has none.

    Raises SourceError if the file cannot be read.
    """
    file = raw / "can_bus" / f"{log_id}_{message}.json"
    try:
        return json.loads(file.read_text()) if file.exists() else []
    except json.JSONDecodeError as error:
        raise SourceError(
            "a CAN bus file cannot be read",
            where=file,
            expected="a JSON list",
            found=str(error),
            do="download it again, or remove it to read the scene without it",
        ) from error


def motion_of_poses(time_s: np.ndarray, pose_world: np.ndarray) -> np.ndarray:
    """Forward and left velocity and acceleration (T, 4) in the ego frame, m/s and m/s2.

    From the parabola through each pose and the two before it, so no future is used; the first two
    frames take the parabola of the first three.
    """
    last = np.maximum(np.arange(len(time_s)), 2)
    t0, t1, t2 = (time_s[last - back] for back in (0, 1, 2))
    p0, p1, p2 = (pose_world[last - back, :2] for back in (0, 1, 2))
    first, second = (p0 - p1) / (t0 - t1)[:, None], (p1 - p2) / (t1 - t2)[:, None]
    curvature = (first - second) / (t0 - t2)[:, None]
    velocity = first + curvature * (2 * time_s - t0 - t1)[:, None]
    cos, sin = np.cos(pose_world[:, 2]), np.sin(pose_world[:, 2])
    return np.column_stack(
        [
            part
            for x, y in (velocity.T, 2 * curvature.T)
            for part in (cos * x + sin * y, cos * y - sin * x)
        ]
    )


def split_of(folder: Path, log_id: str) -> str:
    """Split of a scene; `folder` holds the tables."""
    if (folder / "splits.json").exists():
        named = json.loads((folder / "splits.json").read_text())
        return next((split for split in ("train", "val") if log_id in named.get(split, ())), "test")
    from nuscenes.utils.splits import create_splits_scenes

    official = create_splits_scenes()
    return next((split for name, split in SPLITS.items() if log_id in official[name]), "test")
