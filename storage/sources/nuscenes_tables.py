"""The 13 tables of nuScenes (through nuscenes-devkit) and its CAN bus files."""

import os
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from storage.errors import SourceError
from storage.names import quoted
from storage.sources.raw_files import (
    is_regular,
    read_json,
    regular_files,
    too_large,
    unreadable,
)

FRONT, LIDAR = "CAM_FRONT", "LIDAR_TOP"
# Published training scenes -> train, all others -> test: the published test scenes have no labels,
# so papers report on the val scenes. <version>/splits.json, if it exists, names the splits instead.
MAX_TABLE_BYTES = 8 * 2**30  # the largest published one, sample_data of v1.0-trainval, has 1.3 GB
SPLITS = {"train": "train", "mini_train": "train"}


def open_tables(raw: Path, version: str) -> Any:
    """The devkit's NuScenes object of one version, cached until a table changes.

    Raises SourceError if the devkit is not installed or cannot read the tables.
    """
    names = regular_files(raw / version, lambda name: name.endswith(".json"))
    try:
        stamps = [os.stat(raw / version / name) for name in names]
    except OSError as error:
        raise unreadable(error, None) from error
    too_big = [state.st_size for state in stamps if state.st_size > MAX_TABLE_BYTES]
    if too_big:
        raise too_large(raw / version, f"tables of at most {MAX_TABLE_BYTES} bytes", str(too_big))
    return _tables_cached(raw, version, max((state.st_mtime_ns for state in stamps), default=0))


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
    # tables of another shape make the devkit raise nearly anything while it links their rows
    try:
        return NuScenes(version=version, dataroot=str(raw), verbose=False)
    except Exception as error:
        raise SourceError(
            "the tables cannot be read",
            where=raw / version,
            expected="the 13 tables of nuScenes v1.0",
            found=f"{type(error).__name__}: {error}",
            do="download or write the tables again",
        ) from error


@lru_cache(maxsize=1)
def scenes_of(tables: Any) -> dict[object, list[dict[str, Any]]]:
    """The scenes of each name: one, where the tables are sound."""
    scenes: dict[object, list[dict[str, Any]]] = {}
    for scene in tables.scene:
        name = scene.get("name")
        # what is no text has no equal, and may not be hashable
        scenes.setdefault(name if isinstance(name, str) else repr(name), []).append(scene)
    return scenes


def samples_of(tables: Any, log_id: str) -> list[dict[str, Any]]:
    """The samples of a scene in order of time. Raises SourceError if they lead back."""
    samples: list[dict[str, Any]] = []
    token = scenes_of(tables)[log_id][0]["first_sample_token"]
    seen: set[str] = set()
    while token:
        if token in seen:
            raise SourceError(
                "the samples of a scene lead back to one before",
                where=f"log {log_id}, frame {len(samples)}",
                expected="a chain that ends with an empty `next`",
                found=quoted(token),
                do="download or write sample.json again",
            )
        seen.add(token)
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
    return read_json(file, "a CAN bus file") if is_regular(file) else []


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
    """Split of a scene; `folder` holds the tables. Raises SourceError for a damaged splits.json."""
    file = folder / "splits.json"
    if is_regular(file):
        state = file.stat()
        named = _named_splits(file, state.st_mtime_ns, state.st_size)
        return next((split for split in ("train", "val") if log_id in named[split]), "test")
    return next((split for name, split in SPLITS.items() if log_id in _official()[name]), "test")


@lru_cache(maxsize=1)
def _named_splits(file: Path, _mtime_ns: int, _size: int) -> dict[str, frozenset[str]]:
    named = read_json(file, "the splits of the scenes")
    try:
        return {split: frozenset(named.get(split, ())) for split in ("train", "val")}
    except (AttributeError, TypeError) as error:
        raise SourceError(
            "the splits of the scenes cannot be read",
            where=file,
            expected="an object with lists of scene names: train, val, test",
            found=str(error),
            do="write it again, or remove it: scenes then have the official splits",
        ) from error


@cache
def _official() -> dict[str, frozenset[str]]:
    from nuscenes.utils.splits import create_splits_scenes

    return {name: frozenset(scenes) for name, scenes in create_splits_scenes().items()}
