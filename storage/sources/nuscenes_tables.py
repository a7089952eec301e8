"""The 13 tables of nuScenes (through nuscenes-devkit) and its CAN bus files.

Rows are joined by their tokens, in whatever order the files have them. A row that names one that
does not exist, or one of several with the same token, concerns the scene that it belongs to alone.
"""

import os
from functools import cache, lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from storage.errors import SourceError
from storage.names import quoted
from storage.sources.contract import SPLIT_NAMES
from storage.sources.raw_files import (
    is_regular,
    read_json,
    regular_files,
    too_large,
    unreadable,
)

FRONT, LIDAR = "CAM_FRONT", "LIDAR_TOP"
SPLITS_FILE = "splits.json"
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
    states = tuple((state.st_mtime_ns, state.st_size, state.st_ino) for state in stamps)
    return _tables_cached(raw, version, tuple(zip(names, states, strict=True)))


@lru_cache(maxsize=1)  # the full set takes gigabytes
def _tables_cached(raw: Path, version: str, _states: tuple[object, ...]) -> Any:
    try:
        from storage.sources.nuscenes_joined import JoinedTables
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
        return JoinedTables(version=version, dataroot=str(raw), verbose=False)
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
    """The samples of a scene in order of time, each with its `data` and `anns`.

    Raises SourceError if their chain leads back, nowhere or into another scene, leaves out samples
    of this one, or if the rows of one of them do not fit together.
    """
    scene = scenes_of(tables)[log_id][0]
    tables.get("scene", scene["token"])
    samples: list[dict[str, Any]] = []
    token, before = scene["first_sample_token"], ""
    seen: set[str] = set()
    while token:

        def broken(what: str, expected: str, found: object) -> SourceError:
            return _broken_chain(what, f"log {log_id}, frame {len(samples)}", expected, found)

        if token in seen:
            raise broken(
                "the samples of a scene lead back to one before",
                "a chain that ends with an empty `next`",
                token,
            )
        seen.add(token)
        sample = tables.get("sample", token)
        if sample["scene_token"] != scene["token"]:
            raise broken(
                "the samples of a scene lead into another one",
                f"samples of scene {quoted(scene['token'])}",
                f"sample {token} of scene {sample['scene_token']}",
            )
        if sample.get("prev", before) != before:
            raise broken(
                "`prev` of a sample is not the sample before it",
                quoted(before),
                sample["prev"],
            )
        if token in tables.faults:
            raise tables.faults[token].of_log(log_id)
        samples.append(sample)
        token, before = sample["next"], token
    missing = tables.samples_in[scene["token"]] - len(samples)
    if not samples or missing or scene.get("last_sample_token", before) != before:
        raise _broken_chain(
            "the chain of a scene's samples ends before its last one",
            f"log {log_id}, frame {len(samples)}",
            f"the sample {quoted(scene.get('last_sample_token'))}",
            f"{before}, and {missing} samples of the scene are not in the chain",
        )
    return samples


def _broken_chain(what: str, where: str, expected: str, found: object) -> SourceError:
    return SourceError(
        what,
        where=where,
        expected=expected,
        found=quoted(found),
        do="download or write sample.json and scene.json again",
    )


def ego_pose_of(tables: Any, sample: dict[str, Any]) -> dict[str, Any]:
    """Ego pose of a sample at its lidar sweep, as its boxes; without lidar at its front image.

    Raises SourceError for a sample with neither.
    """
    token = sample["data"].get(LIDAR) or sample["data"].get(FRONT)
    if token is None:
        raise SourceError(
            "a sample has no pose: it has neither a lidar sweep nor a front image",
            where=f"sample.json, {quoted(sample['token'])}",
            expected=f"a key frame of {LIDAR} or {FRONT}",
            found=", ".join(sorted(quoted(name) for name in sample["data"])) or "no key frame",
            do="download or write sample_data.json again",
        )
    return tables.get("ego_pose", tables.get("sample_data", token)["ego_pose_token"])


def box_velocity(tables: Any, box: dict[str, Any], where: str) -> np.ndarray:
    """Velocity (2,) of an annotated box in the world, m/s, as the devkit has it; zero for one that
    has no neighbour in time.

    Raises SourceError if `prev` or `next` lead nowhere, to another object or scene, or not back and
    forth in time.
    """
    times = []
    for link in ("prev", None, "next"):
        if link is not None and not box[link]:
            continue
        other = box if link is None else tables.get("sample_annotation", box[link])
        sample = tables.get("sample", other["sample_token"])
        times.append(sample["timestamp"])
        here = tables.get("sample", box["sample_token"])
        if (
            other["instance_token"] != box["instance_token"]
            or sample["scene_token"] != here["scene_token"]
        ):
            raise _wrong_neighbor(box, where, f"`{link}` is a box of another object or scene")
    if any(after <= before for before, after in pairwise(times)):
        raise _wrong_neighbor(box, where, f"time stamps {times}")
    velocity = tables.box_velocity(box["token"])[:2]
    if np.isfinite(velocity).all():
        return velocity  # type: ignore[no-any-return]
    links = [tables.get("sample_annotation", box[key]) for key in ("prev", "next") if box[key]]
    of_places = np.isfinite([item["translation"] for item in (box, *links)]).all()
    # without a neighbour near in time it has none; with a place that is no number it is unknown
    return np.nan_to_num(velocity) if of_places else velocity


def _wrong_neighbor(box: dict[str, Any], where: str, found: str) -> SourceError:
    return SourceError(
        "the boxes of an object are not in order of time",
        where=f"{where}, box {quoted(box['token'])}",
        expected="`prev` and `next`: the same object earlier and later in the scene",
        found=found,
        do="download or write sample_annotation.json again",
    )


def can_bus_files(raw: Path, log_id: str) -> tuple[Path, ...]:
    """Paths of a scene's CAN bus files (pose, route), whether they exist or not."""
    return tuple(raw / "can_bus" / f"{log_id}_{message}.json" for message in ("pose", "route"))


def can_bus(raw: Path, log_id: str, message: str) -> list[Any]:
    """CAN bus messages of one kind ("pose" or "route"); empty if the scene has none.

    Raises SourceError if the file cannot be read.
    """
    file = raw / "can_bus" / f"{log_id}_{message}.json"
    return read_json(file, "a CAN bus file") if is_regular(file) else []


def split_of(folder: Path, log_id: str) -> str:
    """Split of a scene; `folder` holds the tables.

    Raises SourceError for a damaged splits.json, and one that names the scene twice.
    """
    named = named_splits(folder)
    if named is None:
        return next(
            (split for name, split in SPLITS.items() if log_id in _official()[name]), "test"
        )
    found = [split for split, scenes in named.items() if log_id in scenes]
    if len(found) > 1:
        raise SourceError(
            "a scene is in two splits",
            where=folder / SPLITS_FILE,
            expected="each scene in one of them",
            found=f"{log_id} in {', '.join(found)}",
            do="name it in one split",
        )
    return found[0] if found else "test"


def named_splits(folder: Path) -> dict[str, frozenset[str]] | None:
    """The scenes of each split that splits.json names; None without this file.

    Raises SourceError if it is damaged.
    """
    file = folder / SPLITS_FILE
    if not is_regular(file):
        return None
    state = file.stat()
    return _named_splits(file, state.st_mtime_ns, state.st_size)


@lru_cache(maxsize=1)
def _named_splits(file: Path, _mtime_ns: int, _size: int) -> dict[str, frozenset[str]]:
    named = read_json(file, "the splits of the scenes")
    lists = [named.get(split, []) for split in SPLIT_NAMES] if isinstance(named, dict) else []
    if not lists or not all(
        isinstance(names, list) and all(isinstance(name, str) for name in names) for names in lists
    ):
        raise SourceError(
            "the splits of the scenes cannot be read",
            where=file,
            expected="an object with lists of scene names: train, val, test",
            found="something else in place of a list" if lists else type(named).__name__,
            do="write it again, or remove it: scenes then have the official splits",
        )
    return {split: frozenset(names) for split, names in zip(SPLIT_NAMES, lists, strict=True)}


@cache
def _official() -> dict[str, frozenset[str]]:
    from nuscenes.utils.splits import create_splits_scenes

    return {name: frozenset(scenes) for name, scenes in create_splits_scenes().items()}
