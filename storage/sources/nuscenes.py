"""Logs in the nuScenes format, read through nuscenes-devkit.

A log is a scene, a frame is a 2 Hz sample. Layout: `<version>/*.json` (13 tables),
`samples/<CAMERA>/`, and if present `maps/expansion/<location>.json` and
`can_bus/<scene>_{pose,route}.json`; sweeps are not read. The command follows from the planned route
of the CAN bus expansion by OpenScene's rule; without a route it is unknown, never guessed from the
recorded future.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from storage.camera import Camera
from storage.errors import SourceError
from storage.names import check_name, name_fault, quoted
from storage.sources.bare_log import BareLog
from storage.sources.checked import interpolated
from storage.sources.contract import (
    Agents,
    Capabilities,
    Category,
    LogRef,
    MapObject,
    RawImage,
    Signals,
)
from storage.sources.images import image_size
from storage.sources.listing import LogListing, only_one, with_any_ending
from storage.sources.motion import motion_of_past_poses
from storage.sources.nuscenes_map import read_nuscenes_map
from storage.sources.nuscenes_tables import (
    FRONT,
    box_velocity,
    can_bus,
    can_bus_files,
    ego_pose_of,
    named_splits,
    open_tables,
    samples_of,
    scenes_of,
    split_of,
)
from storage.sources.raw_files import is_regular, regular_files
from storage.sources.rotations import (
    rotation_of_quaternion,
    wrapped,
    yaw_of_quaternion,
    yaw_or_nan,
)
from storage.sources.route_command import commands_of_route
from storage.sources.signal_validation import require_logs, validate_signals, wrap_parse_errors
from storage.trajectory_table import Command

# the first of these that exists is read, else any other v*
VERSIONS = ("v1.0-trainval", "v1.0-test", "v1.0-mini")
# the first prefix that matches decides
CATEGORIES = (
    ("vehicle.bicycle", Category.BICYCLE),
    ("vehicle.motorcycle", Category.BICYCLE),
    ("vehicle.", Category.VEHICLE),
    ("human.", Category.PEDESTRIAN),
    ("movable_object.barrier", Category.BARRIER),
    ("movable_object.trafficcone", Category.TRAFFIC_CONE),
    ("", Category.GENERIC_OBJECT),
)


@dataclass(frozen=True, slots=True)
class NuScenesLog(BareLog):
    """One scene; holds paths only."""

    log_id: str
    split: str
    location: str
    capabilities: Capabilities
    raw: Path
    version: str
    notes: tuple[str, ...]

    @wrap_parse_errors
    def cameras(self) -> tuple[Camera, ...]:
        """Calibration from the first sample that has the camera."""
        tables = open_tables(self.raw, self.version)
        samples = samples_of(tables, self.log_id)
        first = {
            name: next(sample["data"][name] for sample in samples if name in sample["data"])
            for name in self.capabilities.cameras
        }
        return tuple(
            _camera(tables, token, next(self.images(name))) for name, token in first.items()
        )

    @wrap_parse_errors
    def images(self, camera: str) -> Iterator[RawImage]:
        """The samples' images that exist, in order, with the camera's time stamps."""
        tables = open_tables(self.raw, self.version)
        samples = samples_of(tables, self.log_id)
        times = {
            index: int(tables.get("sample_data", sample["data"][camera])["timestamp"])
            for index, sample in enumerate(samples)
            if camera in sample["data"]
        }
        return iter(
            [
                RawImage(index, camera, times[index], file)
                for index, file in _image_files(tables, self.raw, self.log_id, camera).items()
            ]
        )

    @wrap_parse_errors
    def signals(self) -> Signals:
        """Poses at the samples' lidar sweeps; motion from the CAN bus, else from the past poses."""
        tables = open_tables(self.raw, self.version)
        poses = [ego_pose_of(tables, sample) for sample in samples_of(tables, self.log_id)]
        time_us = np.array([pose["timestamp"] for pose in poses], dtype=np.int64)
        pose_world = np.column_stack(
            [
                np.array([pose["translation"][:2] for pose in poses]),
                yaw_of_quaternion(np.array([pose["rotation"] for pose in poses])),
            ]
        )
        motion, note = self._motion(time_us, pose_world)
        with_image = {image.frame_index for image in self.images(FRONT)}
        route = can_bus(self.raw, self.log_id, "route")
        command = (
            commands_of_route(pose_world, np.array(route))
            if route
            else np.full(len(poses), Command.UNKNOWN)
        )
        return validate_signals(
            Signals(
                frame_index=np.arange(len(poses), dtype=np.int32),
                timestamp_us=time_us,
                pose_world=pose_world,
                velocity_ego=motion[:, :2],
                acceleration_ego=motion[:, 2:],
                command=command.astype(np.int8),
                has_image=np.array([index in with_image for index in range(len(poses))]),
                route_roadblock_ids=[[] for _ in poses],
                tags=[[] for _ in poses],
                notes=(*self.notes, note),
            ),
            self.log_id,
            self.raw / self.version,
        )

    @wrap_parse_errors
    def agents(self) -> Agents:
        """Annotated boxes; the devkit has no velocity for an object annotated once: it is zero."""
        tables = open_tables(self.raw, self.version)
        samples = samples_of(tables, self.log_id)
        boxes = [
            (index, tables.get("sample_annotation", token))
            for index, sample in enumerate(samples)
            for token in sample["anns"]
        ]
        index = np.array([row for row, _ in boxes], dtype=np.int32)
        ground_z = np.array([ego_pose_of(tables, sample)["translation"][2] for sample in samples])
        center = np.array([box["translation"] for _, box in boxes], dtype=np.float64).reshape(-1, 3)
        velocity = np.array(
            [box_velocity(tables, box, f"log {self.log_id}, frame {row}") for row, box in boxes]
        ).reshape(-1, 2)
        size_wlh = np.array([box["size"] for _, box in boxes], dtype=np.float64).reshape(-1, 3)
        quaternion = np.array([box["rotation"] for _, box in boxes], dtype=np.float64).reshape(
            -1, 4
        )
        return Agents(
            frame_index=index,
            track_token=np.array([box["instance_token"] for _, box in boxes], dtype=object),
            category=np.array([_category(box["category_name"]) for _, box in boxes], dtype=np.int8),
            center_world=center - np.column_stack([np.zeros((len(boxes), 2)), ground_z[index]]),
            yaw_rad=wrapped(yaw_or_nan(quaternion)),
            velocity_world=velocity,
            size_lwh=size_wlh[:, [1, 0, 2]],
        )

    @wrap_parse_errors
    def map_objects(self) -> list[MapObject]:
        """The map expansion of the scene's town; empty without it."""
        return list(read_nuscenes_map(self.raw, self.location)) if self.capabilities.map else []

    def _motion(self, time_us: np.ndarray, pose_world: np.ndarray) -> tuple[np.ndarray, str]:
        """Forward and left velocity and acceleration (T, 4) in the ego frame, and their source."""
        messages = can_bus(self.raw, self.log_id, "pose")
        if not messages:
            return motion_of_past_poses(
                (time_us - time_us[0]) * 1e-6, pose_world
            ), "velocities come from the past poses"
        messages = sorted(messages, key=lambda message: message["utime"])
        at_us = np.array([message["utime"] for message in messages], dtype=np.float64)
        values = np.array(
            [[*message["vel"][:2], *message["accel"][:2]] for message in messages], dtype=np.float64
        )
        motion, covered = interpolated(at_us, values, time_us)
        if covered.all():
            return motion, "velocities come from the CAN bus"
        of_poses = motion_of_past_poses((time_us - time_us[0]) * 1e-6, pose_world)
        note = (
            f"velocities come from the CAN bus, those of {int((~covered).sum())} of {len(covered)} "
            f"frames, where it has none, from the past poses"
        )
        return np.where(covered[:, None], motion, of_poses), note


class NuScenesSource:
    """A folder of nuScenes data."""

    name = "nuscenes"

    def __init__(self, raw: Path) -> None:
        self.raw = raw
        self.refused: Mapping[str, SourceError] = {}

    def logs(self) -> list[LogRef]:
        """All scenes that can be listed, sorted by name; `refused` holds the others.

        Raises SourceError for a missing or empty folder, and for tables or splits that cannot be
        read.
        """
        listing = LogListing()
        self.refused = listing.refused
        version = self._version()
        tables = open_tables(self.raw, version)
        named_splits(self.raw / version)
        shared = tuple(
            self.raw / version / name
            for name in regular_files(self.raw / version, lambda name: name.endswith(".json"))
        )
        for name, scenes in sorted(scenes_of(tables).items(), key=lambda item: str(item[0])):
            listing.add(name, partial(self._ref, tables, version, scenes, shared))
        return listing.refs

    def _ref(
        self, tables: Any, version: str, scenes: list[dict[str, Any]], shared: tuple[Path, ...]
    ) -> LogRef:
        log_id = check_name(scenes[0]["name"])
        self._only_scene(log_id, version, scenes)
        scene_files = (
            _expansion_file(self.raw, _location_of(tables, scenes[0])),
            *can_bus_files(self.raw, log_id),
        )
        images = tuple(
            file
            for camera in _camera_names(tables, log_id)
            for file in _image_files(tables, self.raw, log_id, camera).values()
        )
        files = (*shared, *(file for file in scene_files if is_regular(file)))
        return LogRef(log_id, split_of(self.raw / version, log_id), files, images)

    @wrap_parse_errors
    def open(self, log_id: str) -> NuScenesLog:
        """A handle on one scene. Raises SourceError if it does not exist or has no front image."""
        version = self._version()
        tables = open_tables(self.raw, version)
        scenes = [] if name_fault(log_id) else scenes_of(tables).get(log_id, [])
        if not scenes:
            raise SourceError(
                f"there is no log '{log_id}'",
                where=self.raw,
                expected=f"one of {len(tables.scene)} scenes",
                found=log_id,
                do="list them: latentvla logs",
            )
        self._only_scene(log_id, version, scenes)
        location = _location_of(tables, scenes[0])
        has_map = is_regular(_expansion_file(self.raw, location))
        has_route = is_regular(can_bus_files(self.raw, log_id)[1])
        cameras = tuple(
            name
            for name in _camera_names(tables, log_id)
            if _image_files(tables, self.raw, log_id, name)
        )
        if FRONT not in cameras:
            raise SourceError(
                "the log has no front image",
                where=f"log {log_id}, {self.raw}",
                expected=f"samples/{FRONT}/",
                found=", ".join(cameras) or "no image of any camera",
                do="put the samples' images below the raw folder",
            )
        notes = [
            note
            for exists, note in (
                (has_map, f"no map expansion of '{location}': the log is read without a map"),
                (has_route, "no planned route (can_bus/): the driving command is unknown"),
            )
            if not exists
        ]
        samples = samples_of(tables, log_id)
        notes.extend(_notes_of_tables(tables, scenes[0], len(samples)))
        has_agents = any(sample["anns"] for sample in samples)
        return NuScenesLog(
            log_id,
            split_of(self.raw / version, log_id),
            location if has_map else "",
            Capabilities(cameras, has_agents, has_map, False, has_route),
            self.raw,
            version,
            tuple(notes),
        )

    def _only_scene(self, log_id: str, version: str, scenes: list[dict[str, Any]]) -> None:
        tokens = [f"token {quoted(scene['token'])}" for scene in scenes]
        only_one(log_id, tokens, self.raw / version / "scene.json", "give each scene its own name")

    def _version(self) -> str:
        files = require_logs(self.raw, self.raw.glob("v*/scene.json"), "v1.0-<part>/scene.json")
        versions = [file.parent.name for file in files]
        return next((name for name in VERSIONS if name in versions), versions[0])


def _notes_of_tables(tables: Any, scene: dict[str, Any], samples: int) -> list[str]:
    """What was closed up while the tables were joined."""
    notes = []
    named = scene.get("nbr_samples")
    if isinstance(named, int) and named != samples:
        notes.append(f"the scene names {named} samples and has {samples}")
    if tables.repeated:
        counts = ", ".join(f"{count} of {name}" for name, count in sorted(tables.repeated.items()))
        notes.append(f"rows that stand in the tables twice are read once: {counts}")
    return notes


def _location_of(tables: Any, scene: dict[str, Any]) -> str:
    return check_name(tables.get("log", scene["log_token"])["location"], "map")


def _expansion_file(raw: Path, location: str) -> Path:
    return raw / "maps" / "expansion" / f"{location}.json"


def _camera_names(tables: Any, log_id: str) -> list[str]:
    """Cameras of all samples, front first."""
    names = {
        name
        for sample in samples_of(tables, log_id)
        for name in sample["data"]
        if name.startswith("CAM_")
    }
    return sorted(
        (check_name(name, "camera") for name in names), key=lambda name: (name != FRONT, name)
    )


def _image_files(tables: Any, raw: Path, log_id: str, camera: str) -> dict[int, Path]:
    """Frame index -> image file, of the files that exist.

    Raises SourceError for a path that leads out of the raw folder.
    """
    files = {
        index: _file_below(raw, tables.get("sample_data", sample["data"][camera])["filename"])
        for index, sample in enumerate(samples_of(tables, log_id))
        if camera in sample["data"]
    }
    found = {index: with_any_ending(file) for index, file in files.items()}
    return {index: file for index, file in found.items() if file is not None}


def _file_below(raw: Path, filename: Any) -> Path:
    parts = filename.split("/") if isinstance(filename, str) else []
    if not parts or any(name_fault(part) is not None for part in parts):
        raise SourceError(
            "the path of an image leads out of the raw folder",
            where="sample_data.json",
            expected="samples/<CAMERA>/<file>, below the raw folder",
            found=quoted(filename),
            do="write the path as nuScenes has it, and put the image there",
        )
    return raw / filename


def _camera(tables: Any, data_token: str, image: RawImage) -> Camera:
    data = tables.get("sample_data", data_token)
    calibration = tables.get("calibrated_sensor", data["calibrated_sensor_token"])
    camera_to_ego = np.eye(4)
    camera_to_ego[:3, :3] = rotation_of_quaternion(np.array([calibration["rotation"]]))[0]
    camera_to_ego[:3, 3] = calibration["translation"]
    width, height = image_size(image.file)
    intrinsics = np.array(calibration["camera_intrinsic"], dtype=np.float64).reshape(3, 3)
    named = (data.get("width"), data.get("height"))
    size = None if None in named else (int(named[0]), int(named[1]))
    return Camera(image.camera, width, height, intrinsics, camera_to_ego, calibrated_wh=size)


def _category(name: str) -> Category:
    return next(category for prefix, category in CATEGORIES if name.startswith(prefix))
