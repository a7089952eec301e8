"""The pickle of an OpenScene log: a validated list of frame dicts, and their fields as arrays.

Frames are in order of time, whatever their order in the file. None in the place of a list, a matrix
or a dict counts as an absent one.
"""

from collections.abc import Mapping
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from storage.errors import SourceError
from storage.names import quoted
from storage.sources.contract import Agents
from storage.sources.raw_files import too_large, unreadable
from storage.sources.rotations import rotation_of_quaternion, wrapped
from storage.sources.safe_pickle import read_plain_pickle
from storage.sources.signal_validation import MAX_FRAMES
from storage.trajectory_table import Category, Command

REQUIRED = (
    "token",
    "timestamp",
    "ego2global_translation",
    "ego2global_rotation",
    "ego_dynamic_state",
    "cams",
)
MAX_ROWS = 10_000_000  # boxes, tags, lights, or blocks of the route, of all frames together
MAX_IDENTIFIER = 1000  # characters of a token
NO_BOXES: dict[str, Any] = {
    "gt_boxes": (),
    "gt_names": (),
    "gt_velocity_3d": (),
    "track_tokens": (),
}


def read_log_frames(file: Path) -> list[dict[str, Any]]:
    """The frames of one log by time, cached until the file changes.

    Raises SourceError if the file is missing, is no OpenScene log, a frame lacks a field in
    REQUIRED, or two frames have one token.
    """
    return _log_of(file)[0]


def notes_of_frames(file: Path) -> tuple[str, ...]:
    """What read_log_frames put in order or left out of the file. Raises what it raises."""
    return _log_of(file)[1]


def _log_of(file: Path) -> tuple[list[dict[str, Any]], tuple[str, ...]]:
    try:
        stamp = file.stat()
    except FileNotFoundError as error:
        raise SourceError(
            "the log file does not exist",
            where=file,
            expected="a pickle",
            found="no file",
            do="check the raw folder",
        ) from error
    except OSError as error:
        raise unreadable(error, file) from error
    return _frames_cached(file, stamp.st_mtime_ns, stamp.st_size)


@lru_cache(maxsize=2)  # decode and extract read the same log several times in a row
def _frames_cached(
    file: Path, _mtime_ns: int, _size: int
) -> tuple[list[dict[str, Any]], tuple[str, ...]]:
    frames = read_plain_pickle(file)
    if not isinstance(frames, list) or not frames:
        length = len(frames) if hasattr(frames, "__len__") else 0
        raise SourceError(
            "this is no OpenScene log",
            where=file,
            expected="a list of frames",
            found=f"{type(frames).__name__} of length {length}",
            do="give the pickles of navsim_logs, not the metric cache",
        )
    if len(frames) > MAX_FRAMES:
        raise too_large(file, f"at most {MAX_FRAMES} frames", f"{len(frames)} frames")
    for index, frame in enumerate(frames):
        missing = (
            [name for name in REQUIRED if name not in frame]
            if isinstance(frame, dict)
            else list(REQUIRED)
        )
        if missing:
            raise SourceError(
                "a frame lacks fields",
                where=f"log {file.stem}, frame {index}, file {file}",
                expected=", ".join(REQUIRED),
                found=f"without {', '.join(missing)}",
                do="download or write the log again",
            )
    return _in_order(frames, file)


def _in_order(
    frames: list[dict[str, Any]], file: Path
) -> tuple[list[dict[str, Any]], tuple[str, ...]]:
    """The frames by time, each once, and notes of what that changed."""
    notes = []
    by_time = _by_time(frames)
    if by_time is not frames:
        notes.append("the frames of the file are not in order of time: they are sorted")
    kept: list[dict[str, Any]] = []
    with_token: dict[str, dict[str, Any]] = {}
    for frame in by_time:
        token = identifier(frame["token"])
        if token not in with_token:
            with_token[token] = frame
            kept.append(frame)
        elif not _same_moment(frame, with_token[token]):
            raise SourceError(
                "two frames have one token",
                where=f"log {file.stem}, frame {len(kept)}, file {file}",
                expected="a token for each frame",
                found=quoted(token),
                do="write the log again with each frame once",
            )
    if len(kept) < len(frames):
        notes.append(f"{len(frames) - len(kept)} of {len(frames)} frames of the file are repeated")
    return kept, tuple(notes)


def _by_time(frames: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The frames sorted by time; as they are where that would contradict their `frame_idx`, so that
    a time stamp that goes back is found.
    """
    try:
        times = [int(frame["timestamp"]) for frame in frames]
    except (TypeError, ValueError, OverflowError):
        return frames
    if all(before <= after for before, after in pairwise(times)):
        return frames
    ordered = [frames[row] for row in sorted(range(len(frames)), key=times.__getitem__)]
    numbers = [
        int(frame["frame_idx"])
        for frame in ordered
        if isinstance(frame.get("frame_idx"), (int, np.integer))
    ]
    # in some logs each scene begins anew with frame 0
    if len(numbers) == len(frames):
        one_each = len(set(numbers)) == len({identifier(frame["token"]) for frame in frames})
        if one_each and any(after < before for before, after in pairwise(numbers)):
            return frames
    return ordered


def _same_moment(frame: dict[str, Any], other: dict[str, Any]) -> bool:
    fields = (
        "timestamp",
        "ego2global_translation",
        "ego2global_rotation",
        "ego_dynamic_state",
    )
    return frame is other or all(
        np.array_equal(np.asarray(frame[field]), np.asarray(other[field])) for field in fields
    )


def cameras_in(frame: dict[str, Any]) -> Mapping[str, dict[str, Any]]:
    """The cameras of a frame that it has. Raises TypeError for `cams` that are no dict."""
    cameras = frame["cams"]
    if cameras is None:
        return {}
    if not isinstance(cameras, Mapping):
        raise TypeError(f"cams of type {type(cameras).__name__}")
    return {name: camera for name, camera in cameras.items() if camera is not None}


def items_of(frame: dict[str, Any], field: str) -> Any:
    """The list that a frame has in `field`; empty where it has none or None."""
    items = frame.get(field)
    return () if items is None else items


def names_of(frames: list[dict[str, Any]], field: str) -> list[list[str]]:
    """The list of identifiers that each frame has in `field`, as text; empty where it has none.

    Raises SourceError for more than MAX_ROWS, TypeError for other values than text and numbers.
    """
    lists = [items_of(frame, field) for frame in frames]
    _limit(sum(len(items) for items in lists), field)
    return [[identifier(item) for item in items] for items in lists]


def lights_of(frames: list[dict[str, Any]]) -> list[tuple[int, str, bool]]:
    """Frame, lane connector, and whether its light is red, of all frames.

    Raises what names_of raises.
    """
    lists = [items_of(frame, "traffic_lights") for frame in frames]
    _limit(sum(len(items) for items in lists), "traffic_lights")
    return [
        (index, identifier(connector), bool(red))
        for index, items in enumerate(lists)
        for connector, red in items
    ]


def identifier(value: Any) -> str:
    """The text of a token or a name.

    Raises TypeError for containers, as nested ones can have a text without end, and ValueError for
    a text that is too long or no Unicode.
    """
    if not isinstance(value, (str, int, float, np.generic)):
        raise TypeError(f"an identifier of type {type(value).__name__}")
    text = str(value)
    if len(text) > MAX_IDENTIFIER:
        raise ValueError(f"an identifier of {len(text)} characters")
    text.encode()  # a lone surrogate can be written nowhere
    return text


def _limit(rows: int, what: str) -> None:
    if rows > MAX_ROWS:
        raise too_large(what, f"at most {MAX_ROWS} of all frames", str(rows))


def command_of(one_hot: Any) -> Command:
    """Command of a one-hot vector of four; UNKNOWN for None or zeros."""
    flags = np.asarray(one_hot if one_hot is not None else ()).ravel()
    return (
        Command(int(flags.argmax()))
        if len(flags) == len(Command) and flags.any()
        else Command.UNKNOWN
    )


def agents_of(frames: list[dict[str, Any]], file: Path) -> Agents:
    """Boxes of all frames in the world frame.

    The file gives boxes in the ego frame and velocities in the lidar frame. Raises SourceError for
    an unknown category, and a frame whose boxes, names, velocities and tokens are not of equal
    number.
    """
    boxes = [_boxes_of(frame, index, file) for index, frame in enumerate(frames)]
    for field in NO_BOXES:
        _limit(sum(len(item[field]) for item in boxes), field)
    row = np.repeat(np.arange(len(frames)), [len(item["gt_names"]) for item in boxes])
    box = np.concatenate(
        [np.asarray(item["gt_boxes"], np.float64).reshape(-1, 7) for item in boxes]
    )
    velocity_lidar = np.concatenate(
        [np.asarray(item["gt_velocity_3d"], np.float64).reshape(-1, 3) for item in boxes]
    )
    ego_to_world = _ego_to_world(frames)[row]
    rotation = ego_to_world[:, :3, :3]
    center = np.einsum("aij,aj->ai", rotation, box[:, :3]) + ego_to_world[:, :3, 3]
    center[:, 2] = box[:, 2]
    lidar_to_ego = lidar_to_ego_of(frames)[row, :3, :3]
    velocity = np.einsum("aij,ajk,ak->ai", rotation, lidar_to_ego, velocity_lidar)
    ego_yaw = np.arctan2(rotation[:, 1, 0], rotation[:, 0, 0])
    return Agents(
        frame_index=row.astype(np.int32),
        track_token=np.array(
            [identifier(token) for item in boxes for token in item["track_tokens"]], dtype=object
        ),
        category=np.array(
            [_category(identifier(name), file) for item in boxes for name in item["gt_names"]],
            dtype=np.int8,
        ),
        center_world=center,
        yaw_rad=wrapped(box[:, 6] + ego_yaw),
        velocity_world=velocity[:, :2],
        size_lwh=box[:, 3:6],
    )


def _boxes_of(frame: dict[str, Any], index: int, file: Path) -> dict[str, Any]:
    """The boxes of one frame, as many of each field; velocities that are None are unknown."""
    annotations = frame.get("anns") or NO_BOXES
    boxes = {field: () if annotations[field] is None else annotations[field] for field in NO_BOXES}
    if annotations["gt_velocity_3d"] is None:
        boxes["gt_velocity_3d"] = np.full((len(boxes["gt_boxes"]), 3), np.nan)
    counts = {field: len(items) for field, items in boxes.items()}
    if len(set(counts.values())) > 1:
        raise SourceError(
            "the boxes of a frame are not as many as their names, velocities or tokens",
            where=f"log {file.stem}, frame {index}, file {file}",
            expected="an equal number",
            found=", ".join(f"{count} {field}" for field, count in counts.items()),
            do="write the frame's annotations again, or leave them out",
        )
    return boxes


def lidar_to_ego_of(frames: list[dict[str, Any]]) -> np.ndarray:
    """Lidar-to-ego transforms (T, 4, 4); the identity for frames without one."""
    found = (frame.get("lidar2ego") for frame in frames)
    return np.stack(
        [np.eye(4) if item is None else np.asarray(item, dtype=np.float64) for item in found]
    )


def _ego_to_world(frames: list[dict[str, Any]]) -> np.ndarray:
    transforms = np.tile(np.eye(4), (len(frames), 1, 1))
    quaternions = np.array([frame["ego2global_rotation"] for frame in frames], dtype=np.float64)
    transforms[:, :3, :3] = rotation_of_quaternion(quaternions)
    transforms[:, :3, 3] = [frame["ego2global_translation"] for frame in frames]
    return transforms


def _category(name: str, file: Path) -> Category:
    try:
        return Category[name.upper()]
    except KeyError as error:
        raise SourceError(
            "unknown category of an agent",
            where=f"log {file.stem}, file {file}",
            expected=", ".join(item.name.lower() for item in Category),
            found=name,
            do="add it to storage.trajectory_table.Category",
        ) from error
