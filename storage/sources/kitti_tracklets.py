"""Reads KITTI's `tracklet_labels.xml` into agents.

A tracklet is the bottom centre of a box in the Velodyne frame for consecutive frames (readme of
KITTI's raw-data devkit).
"""

from pathlib import Path
from xml.etree import ElementTree

import numpy as np

from storage.errors import SourceError
from storage.sources.contract import Agents
from storage.sources.raw_files import MAX_TEXT_BYTES, is_regular, read_regular
from storage.sources.rotations import wrapped
from storage.trajectory_table import Category

CATEGORIES = {
    "Car": Category.VEHICLE,
    "Van": Category.VEHICLE,
    "Truck": Category.VEHICLE,
    "Tram": Category.VEHICLE,
    "Pedestrian": Category.PEDESTRIAN,
    "Person (sitting)": Category.PEDESTRIAN,
    "Cyclist": Category.BICYCLE,
    "Misc": Category.GENERIC_OBJECT,
}
_POSE = ("tx", "ty", "tz", "rz")


def read_tracklets(
    file: Path,
    velodyne_to_ego: np.ndarray,
    frame_index: np.ndarray,
    time_s: np.ndarray,
    pose_world: np.ndarray,
) -> Agents:
    """Boxes of the frames `frame_index` (T,) in the world frame; empty without a file.

    `velodyne_to_ego` is (4, 4), `time_s` (T,) and `pose_world` (T, 3) are those of the frames. A
    box belongs to the frame of its number; those of frames that are not there are left out.
    Raises SourceError for a damaged file or an unknown category.
    """
    tracks = (
        [_track(number, item, file) for number, item in enumerate(_items(file))]
        if is_regular(file)
        else []
    )
    parts = [
        _agents_of(track, velodyne_to_ego, frame_index, time_s, pose_world) for track in tracks
    ]
    columns = zip(*parts, strict=True) if parts else _EMPTY
    frame, token, category, center, yaw, velocity, size = (
        np.concatenate(column) for column in columns
    )
    order = np.argsort(frame, kind="stable")
    dropped = sum(len(track[-1]) for track in tracks) - len(frame)
    return Agents(
        frame[order].astype(np.int32),
        token[order],
        category[order].astype(np.int8),
        center[order],
        yaw[order],
        velocity[order],
        size[order],
        (f"{dropped} boxes belong to frames that the drive does not have: left out",)
        if dropped
        else (),
    )


_EMPTY = tuple(
    [np.zeros(shape, dtype)]
    for shape, dtype in (
        (0, int),
        (0, object),
        (0, int),
        ((0, 3), float),
        (0, float),
        ((0, 2), float),
        ((0, 3), float),
    )
)


def _items(file: Path) -> list[ElementTree.Element]:
    try:
        data = read_regular(file, MAX_TEXT_BYTES)
        return ElementTree.fromstring(data).findall("./tracklets/item")
    except ElementTree.ParseError as error:
        raise SourceError(
            "the tracklets cannot be read",
            where=file,
            found=str(error),
            expected="an XML file",
            do="copy the drive again, or remove the file to read the drive without agents",
        ) from error


def _track(number: int, item: ElementTree.Element, file: Path) -> tuple:
    """Token, category, size (l, w, h), first frame, and poses (n, 4): x, y, z, yaw of the bottom
    centre.
    """
    kind = item.findtext("objectType", "")
    if kind not in CATEGORIES:
        raise SourceError(
            "unknown category of an agent",
            where=f"{file}, tracklet {number}",
            found=kind,
            expected=", ".join(CATEGORIES),
            do="add it to storage.sources.kitti_tracklets.CATEGORIES",
        )
    poses = [
        [float(pose.findtext(key, "nan")) for key in _POSE] for pose in item.findall("./poses/item")
    ]
    size = [float(item.findtext(key, "nan")) for key in "lwh"]
    return (
        f"track_{number:03d}",
        CATEGORIES[kind],
        size,
        int(item.findtext("first_frame", "0")),
        np.array(poses),
    )


def _agents_of(
    track: tuple,
    velodyne_to_ego: np.ndarray,
    frame_index: np.ndarray,
    time_s: np.ndarray,
    pose_world: np.ndarray,
) -> tuple:
    token, category, size, first, poses = track
    rows = np.flatnonzero((frame_index >= first) & (frame_index < first + len(poses)))
    boxes = poses[frame_index[rows] - first]
    bottom = boxes[:, :3] @ velodyne_to_ego[:3, :3].T + velodyne_to_ego[:3, 3]
    ego_yaw = pose_world[rows, 2]
    cos, sin = np.cos(ego_yaw), np.sin(ego_yaw)
    center = np.column_stack(
        [
            pose_world[rows, 0] + cos * bottom[:, 0] - sin * bottom[:, 1],
            pose_world[rows, 1] + sin * bottom[:, 0] + cos * bottom[:, 1],
            bottom[:, 2] + size[2] / 2,
        ]
    )
    velodyne_yaw = np.arctan2(velodyne_to_ego[1, 0], velodyne_to_ego[0, 0])
    velocity = (
        np.gradient(center[:, :2], time_s[rows], axis=0)
        if len(rows) > 1
        else np.zeros((len(rows), 2))
    )
    return (
        frame_index[rows],
        np.full(len(rows), token, dtype=object),
        np.full(len(rows), category),
        center,
        wrapped(boxes[:, 3] + velodyne_yaw + ego_yaw),
        velocity,
        np.tile(size, (len(rows), 1)),
    )
