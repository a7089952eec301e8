"""Logs in the OpenScene / NAVSIM format: pickles of 2 Hz frames, camera images, nuPlan maps. Not lidar, not navhard's
synthetic scenes.

Layouts read: `navsim_logs/<split>/<log>.pkl` (or `meta_datas/`) with `sensor_blobs/<split>/<log>/<CAMERA>/<token>.jpg`,
and maps under `maps/`, the folder itself, or NUPLAN_MAPS_ROOT. navtrain ships the images of history and current frames
only: frames without an image keep their pose, so the frame pairs of the codebook then come from those 2 s windows.
"""

import hashlib
import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from storage.errors import SourceError
from storage.sources.contract import (
    Agents,
    Camera,
    Capabilities,
    Category,
    Lights,
    LogRef,
    MapObject,
    RawImage,
    Signals,
)
from storage.sources.images import image_size
from storage.sources.nuplan_map import read_nuplan_map
from storage.sources.rotations import rotation_of_quaternion, wrapped, yaw_of_quaternion
from storage.sources.safe_pickle import read_plain_pickle
from storage.sources.soundness import require_sound
from storage.trajectory_table import Command

FRONT = "CAM_F0"
INDEX_FOLDERS = ("navsim_logs", "meta_datas")
# Split folder -> share of logs for (train, val, test). `trainval` and `mini` name no split of their own: the log's
# name decides, so that a log never changes its split when others are added.
SPLITS = {"train": (1.0, 0.0), "val": (0.0, 1.0), "test": (0.0, 0.0), "trainval": (0.9, 0.1), "mini": (0.7, 0.1),
          "navtrain": (0.9, 0.1), "navtest": (0.0, 0.0)}
REQUIRED = ("token", "timestamp", "ego2global_translation", "ego2global_rotation", "ego_dynamic_state", "cams")


@dataclass(frozen=True, slots=True)
class OpenSceneLog:
    """One log; holds paths only."""

    log_id: str
    split: str
    location: str
    capabilities: Capabilities
    file: Path                      # the pickle
    blobs: Path                     # sensor_blobs/<split>
    map_file: Path | None
    notes: tuple[str, ...]

    def cameras(self) -> tuple[Camera, ...]:
        """Calibration from the first frame; a log's cameras do not move."""
        frames = _frames(self.file)
        return tuple(_camera(self, name, frames[0]) for name in self.capabilities.cameras)

    def images(self, camera: str) -> Iterator[RawImage]:
        """The images that exist, in frame order."""
        for index, (frame, file) in enumerate(zip(_frames(self.file), self._image_files(camera), strict=True)):
            if file is not None:
                yield RawImage(index, camera, int(frame["timestamp"]), file)

    def signals(self) -> Signals:
        """Ego signals, checked. Raises SourceError for NaN, jumps, or time that goes back."""
        frames = _frames(self.file)

        def column(name: str, width: int) -> np.ndarray:
            return np.array([frame[name] for frame in frames], dtype=np.float64).reshape(len(frames), width)

        dynamic = column("ego_dynamic_state", 4)
        has_image = np.array([file is not None for file in self._image_files(FRONT)])
        notes = self.notes
        if not has_image.all():
            notes = (*notes, f"{int((~has_image).sum())} of {len(frames)} frames have no front image")
        return require_sound(Signals(
            frame_index=np.arange(len(frames), dtype=np.int32),
            timestamp_us=np.array([frame["timestamp"] for frame in frames], dtype=np.int64),
            pose_world=np.column_stack([column("ego2global_translation", 3)[:, :2],
                                        yaw_of_quaternion(column("ego2global_rotation", 4))]),
            velocity_ego=dynamic[:, :2], acceleration_ego=dynamic[:, 2:],
            command=np.array([_command(frame.get("driving_command")) for frame in frames], dtype=np.int8),
            has_image=has_image,
            route_roadblock_ids=[[str(item) for item in frame.get("roadblock_ids", ())] for frame in frames],
            tags=[[str(item) for item in frame.get("tags", ())] for frame in frames], notes=notes),
            self.log_id, self.file)

    def agents(self) -> Agents:
        """Boxes of all frames, moved from each frame's ego frame to the world."""
        frames = _frames(self.file)
        boxes = [frame.get("anns") or _NO_BOXES for frame in frames]
        count = [len(item["gt_names"]) for item in boxes]
        ego_to_world, lidar_to_ego = _ego_to_world(frames), _lidar_to_ego(frames)
        row = np.repeat(np.arange(len(frames)), count)
        box = np.concatenate([np.asarray(item["gt_boxes"], np.float64).reshape(-1, 7) for item in boxes])
        speed = np.concatenate([np.asarray(item["gt_velocity_3d"], np.float64).reshape(-1, 3) for item in boxes])
        turn = ego_to_world[row, :3, :3]
        center = np.einsum("aij,aj->ai", turn, box[:, :3]) + ego_to_world[row, :3, 3]
        center[:, 2] = box[:, 2]
        velocity = np.einsum("aij,ajk,ak->ai", turn, lidar_to_ego[row, :3, :3], speed)
        ego_yaw = np.arctan2(turn[:, 1, 0], turn[:, 0, 0])
        names = [str(name) for item in boxes for name in item["gt_names"]]
        return Agents(
            frame_index=row.astype(np.int32),
            track_token=np.array([str(token) for item in boxes for token in item["track_tokens"]], dtype=object),
            category=np.array([_category(name, self) for name in names], dtype=np.int8),
            center_world=center, yaw_rad=wrapped(box[:, 6] + ego_yaw), velocity_world=velocity[:, :2],
            size_lwh=box[:, 3:6])

    def lights(self) -> Lights:
        """States of the traffic lights; all but red count as not red."""
        states = [(index, str(connector), bool(red)) for index, frame in enumerate(_frames(self.file))
                  for connector, red in frame.get("traffic_lights", ())]
        index, connector, red = zip(*states, strict=True) if states else ((), (), ())
        return Lights(np.array(index, np.int32), np.array(connector, dtype=object), np.array(red, dtype=bool))

    def map_objects(self) -> list[MapObject]:
        """The whole map of the log's town; empty if the log has none."""
        return list(read_nuplan_map(self.map_file)) if self.map_file else []

    def _image_files(self, camera: str) -> list[Path | None]:
        """File of each frame's image, None where there is none on disk."""
        files = [self.blobs / frame["cams"][camera]["data_path"] if camera in frame["cams"] else None
                 for frame in _frames(self.file)]
        there = {folder: set(os.listdir(folder)) if folder.is_dir() else set()
                 for folder in {file.parent for file in files if file is not None}}
        return [file if file is not None and file.name in there[file.parent] else None for file in files]


class OpenSceneSource:
    """A folder of OpenScene logs."""

    name = "openscene"

    def __init__(self, raw: Path) -> None:
        self.raw = raw

    def logs(self) -> list[LogRef]:
        """All logs, sorted by name. Raises SourceError for a folder that is missing or holds none."""
        found = self._index_files()
        maps_root = self._maps_root()
        maps = tuple(sorted(maps_root.glob("*/*/map.gpkg"))) if maps_root else ()
        return [LogRef(log_id, _split_of(file), (file, *maps), self._images_of(file))
                for log_id, file in sorted(found.items())]

    def open(self, log_id: str) -> OpenSceneLog:
        """A handle on one log; reads its pickle once to learn what it holds."""
        found = self._index_files()
        if log_id not in found:
            raise SourceError(f"there is no log '{log_id}'", where=self.raw, expected=f"one of {len(found)} logs",
                              do="list them: latentvla logs")
        file = found[log_id]
        frames = _frames(file)
        blobs = file.parent.parent.parent / "sensor_blobs" / file.parent.name
        location = str(frames[0].get("map_location") or "")
        map_file = self._map_file(location)
        notes = () if map_file or not location else (f"the map of '{location}' was not found: read without a map",)
        bare = OpenSceneLog(log_id, _split_of(file), location if map_file else "",
                            Capabilities((), False, False, False, False), file, blobs, map_file, notes)
        cameras = _front_first(name for name in frames[0]["cams"] if any(bare._image_files(name)))
        if FRONT not in cameras:
            raise SourceError("the log has no front image", where=f"log {log_id}, {blobs}",
                              expected=f"{FRONT} at {frames[0]['cams'].get(FRONT, {}).get('data_path', 'any path')}",
                              do="put the sensor blobs of this split below the raw folder")
        capabilities = Capabilities(tuple(cameras), agents=any(frame.get("anns") for frame in frames),
                                    map=map_file is not None,
                                    traffic_lights=any(frame.get("traffic_lights") for frame in frames),
                                    command=any(_command(f.get("driving_command")) != Command.UNKNOWN for f in frames))
        return OpenSceneLog(log_id, bare.split, bare.location, capabilities, file, blobs, map_file, notes)

    def _index_files(self) -> dict[str, Path]:
        if not self.raw.is_dir():
            raise SourceError("the raw folder does not exist", where=self.raw, do="give the folder with --raw")
        files = [file for name in INDEX_FOLDERS for file in sorted((self.raw / name).glob("*/*.pkl"))]
        if not files:
            raise SourceError("there is no log in the raw folder", where=self.raw,
                              expected="navsim_logs/<split>/<log>.pkl", do="check the folder given with --raw")
        found: dict[str, Path] = {}
        for file in files:
            other = found.setdefault(file.stem, file)
            if other != file:
                raise SourceError(f"the log '{file.stem}' exists twice", where=self.raw, found=f"{other}, {file}",
                                  do="keep one split folder (mini is part of trainval and test)")
        return found

    def _images_of(self, file: Path) -> tuple[Path, ...]:
        folder = file.parent.parent.parent / "sensor_blobs" / file.parent.name / file.stem
        cameras = _front_first(path.name for path in folder.glob("CAM_*") if path.is_dir())
        return tuple(folder / camera / name for camera in cameras for name in sorted(os.listdir(folder / camera)))

    def _maps_root(self) -> Path | None:
        candidates = [self.raw / "maps", self.raw, self.raw / "nuplan-maps-v1.0"]
        if "NUPLAN_MAPS_ROOT" in os.environ:
            candidates.append(Path(os.environ["NUPLAN_MAPS_ROOT"]))
        return next((path for path in candidates if (path / "nuplan-maps-v1.0.json").exists()), None)

    def _map_file(self, location: str) -> Path | None:
        root = self._maps_root()
        if root is None or not location:
            return None
        index = json.loads((root / "nuplan-maps-v1.0.json").read_text())
        if location not in index:
            return None
        file = root / location / str(index[location]["version"]) / "map.gpkg"
        return file if file.exists() else None


_NO_BOXES: dict[str, Any] = {"gt_boxes": (), "gt_names": (), "gt_velocity_3d": (), "track_tokens": ()}


def _frames(file: Path) -> list[dict[str, Any]]:
    try:
        stamp = file.stat()
    except FileNotFoundError as error:
        raise SourceError("the log file does not exist", where=file, do="check the raw folder") from error
    return _frames_cached(file, stamp.st_mtime_ns, stamp.st_size)


@lru_cache(maxsize=2)       # decode and extract ask the same log several times in a row
def _frames_cached(file: Path, _mtime_ns: int, _size: int) -> list[dict[str, Any]]:
    frames = read_plain_pickle(file)
    if not isinstance(frames, list) or not frames:
        raise SourceError("this is no OpenScene log", where=file, expected="a list of frames",
                          found=f"{type(frames).__name__} of length {len(frames) if hasattr(frames, '__len__') else 0}",
                          do="give the pickles of navsim_logs, not the metric cache")
    for index, frame in enumerate(frames):
        lacking = [name for name in REQUIRED if name not in frame] if isinstance(frame, dict) else list(REQUIRED)
        if lacking:
            raise SourceError("a frame lacks fields", where=f"log {file.stem}, frame {index}, file {file}",
                              expected=", ".join(REQUIRED), found=f"without {', '.join(lacking)}",
                              do="download or write the log again")
    return frames


def _front_first(names: Iterable[str]) -> list[str]:
    return sorted(names, key=lambda name: (name != FRONT, name))


def _split_of(file: Path) -> str:
    folder = file.parent.name
    if folder not in SPLITS:
        raise SourceError("unknown split folder", where=file.parent, expected=", ".join(SPLITS), found=folder,
                          do="rename the folder to one of these")
    train, val = SPLITS[folder]
    place = int(hashlib.sha256(file.stem.encode()).hexdigest()[:8], 16) / 16**8
    return "train" if place < train else "val" if place < train + val else "test"


def _camera(log: OpenSceneLog, name: str, frame: dict[str, Any]) -> Camera:
    file = next(image.file for image in log.images(name))
    width, height = image_size(file)
    calibration = frame["cams"][name]
    camera_to_lidar = np.eye(4)
    camera_to_lidar[:3, :3] = calibration["sensor2lidar_rotation"]
    camera_to_lidar[:3, 3] = calibration["sensor2lidar_translation"]
    return Camera(name, width, height, np.asarray(calibration["cam_intrinsic"], dtype=np.float64),
                  _lidar_to_ego([frame])[0] @ camera_to_lidar,
                  tuple(float(item) for item in np.asarray(calibration["distortion"]).ravel()))


def _command(one_hot: Any) -> Command:
    flags = np.asarray(one_hot if one_hot is not None else ()).ravel()
    return Command(int(flags.argmax())) if len(flags) == len(Command) and flags.any() else Command.UNKNOWN


def _category(name: str, log: OpenSceneLog) -> Category:
    try:
        return Category[name.upper()]
    except KeyError as error:
        raise SourceError("unknown category of an agent", where=f"log {log.log_id}, file {log.file}",
                          expected=", ".join(item.name.lower() for item in Category), found=name,
                          do="add it to storage.trajectory_table.Category") from error


def _ego_to_world(frames: list[dict[str, Any]]) -> np.ndarray:
    out = np.tile(np.eye(4), (len(frames), 1, 1))
    turns = np.array([frame["ego2global_rotation"] for frame in frames], dtype=np.float64)
    out[:, :3, :3] = rotation_of_quaternion(turns)
    out[:, :3, 3] = [frame["ego2global_translation"] for frame in frames]
    return out


def _lidar_to_ego(frames: list[dict[str, Any]]) -> np.ndarray:
    return np.stack([np.asarray(frame.get("lidar2ego", np.eye(4)), dtype=np.float64) for frame in frames])
