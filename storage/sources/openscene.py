"""Logs in the OpenScene / NAVSIM format: pickles of 2 Hz frames, camera images, nuPlan maps.

Lidar and navhard's synthetic scenes are not read. Layouts read: `navsim_logs/<split>/<log>.pkl` (or
`meta_datas/`) with `sensor_blobs/<split>/<log>/<CAMERA>/<token>.jpg`, and maps under `maps/`, the
folder itself, or NUPLAN_MAPS_ROOT. Split folders may lie side by side as the devkit has them,
although mini's logs are those of trainval and test too: a log with the same bytes in two of them is
read once. Names end in any case (`.PKL`, `.JPG`), and an image may have another ending than its
`data_path`. navtrain has the images of history and current frames only: frames without an image
keep their pose, and the codebook's frame pairs come from those 2 s windows.
"""

import filecmp
import hashlib
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from storage.camera import Camera
from storage.errors import SourceError
from storage.names import check_name, name_fault, quoted, safe_name
from storage.sources.contract import (
    Agents,
    Capabilities,
    Lights,
    LogRef,
    MapObject,
    RawImage,
    Signals,
)
from storage.sources.images import image_size
from storage.sources.listing import LogListing, is_image, only_one, only_one_image
from storage.sources.nuplan_map import read_nuplan_map
from storage.sources.openscene_frames import (
    agents_of,
    cameras_in,
    command_of,
    identifier,
    items_of,
    lidar_to_ego_of,
    lights_of,
    names_of,
    notes_of_frames,
    read_log_frames,
)
from storage.sources.raw_files import (
    folders_in,
    is_regular,
    read_json,
    regular_files,
)
from storage.sources.rotations import yaw_of_quaternion
from storage.sources.signal_validation import require_logs, validate_signals, wrap_parse_errors
from storage.trajectory_table import Command

FRONT = "CAM_F0"
INDEX_FOLDERS = ("navsim_logs", "meta_datas")
# Split folder -> fractions of its drives for (train, val), the rest is test. In `trainval`, `mini`
# and `navtrain` the name of the log's drive decides, so a log keeps its split when others are added
# and all pieces of a drive have the same one.
SPLITS = {
    "train": (1.0, 0.0),
    "val": (0.0, 1.0),
    "test": (0.0, 0.0),
    "trainval": (0.9, 0.1),
    "mini": (0.7, 0.1),
    "navtrain": (0.9, 0.1),
    "navtest": (0.0, 0.0),
    "private_test_e2e": (0.0, 0.0),
}
# of a log that lies in two split folders the first counts, so that test logs stay test logs
PRECEDENCE = (
    "private_test_e2e",
    "test",
    "navtest",
    "val",
    "train",
    "trainval",
    "navtrain",
    "mini",
)
PICKLE_ENDINGS = (".pkl", ".PKL", ".Pkl")
# nuPlan's log names: date and time at which the drive began, vehicle, first and last second
_PIECE_OF_DRIVE = re.compile(r"(\d{4}\.\d{2}\.\d{2}[\d.]*_[^_]+)_\d+_\d+")


@dataclass(frozen=True, slots=True)
class OpenSceneLog:
    """One log; holds paths only."""

    log_id: str
    split: str
    location: str
    capabilities: Capabilities
    file: Path  # the pickle
    blobs: Path  # sensor_blobs/<split>
    map_file: Path | None
    notes: tuple[str, ...]

    @wrap_parse_errors
    def cameras(self) -> tuple[Camera, ...]:
        """Calibration from the first frame that has the camera, which is fixed to the vehicle."""
        frames = read_log_frames(self.file)
        return tuple(
            _camera(self, name, next(frame for frame in frames if name in cameras_in(frame)))
            for name in self.capabilities.cameras
        )

    @wrap_parse_errors
    def images(self, camera: str) -> Iterator[RawImage]:
        """The images that exist, in frame order."""
        files = enumerate(zip(read_log_frames(self.file), self._image_files(camera), strict=True))
        return iter(
            [
                RawImage(index, camera, int(frame["timestamp"]), file)
                for index, (frame, file) in files
                if file
            ]
        )

    @wrap_parse_errors
    def signals(self) -> Signals:
        """Ego signals; validate_signals raises SourceError for implausible ones."""
        frames = read_log_frames(self.file)

        def column(name: str, width: int) -> np.ndarray:
            return np.array([frame[name] for frame in frames], dtype=np.float64).reshape(
                len(frames), width
            )

        dynamic = column("ego_dynamic_state", 4)
        has_image = np.array([file is not None for file in self._image_files(FRONT)])
        notes = (*self.notes, *notes_of_frames(self.file))
        if not has_image.all():
            notes = (
                *notes,
                f"{int((~has_image).sum())} of {len(frames)} frames have no front image",
            )
        return validate_signals(
            Signals(
                frame_index=np.arange(len(frames), dtype=np.int32),
                timestamp_us=np.array([frame["timestamp"] for frame in frames], dtype=np.int64),
                pose_world=np.column_stack(
                    [
                        column("ego2global_translation", 3)[:, :2],
                        yaw_of_quaternion(column("ego2global_rotation", 4)),
                    ]
                ),
                velocity_ego=dynamic[:, :2],
                acceleration_ego=dynamic[:, 2:],
                command=np.array(
                    [command_of(frame.get("driving_command")) for frame in frames], dtype=np.int8
                ),
                has_image=has_image,
                route_roadblock_ids=names_of(frames, "roadblock_ids"),
                tags=names_of(frames, "tags"),
                notes=notes,
            ),
            self.log_id,
            self.file,
        )

    @wrap_parse_errors
    def agents(self) -> Agents:
        """Boxes of all frames in the world frame."""
        return agents_of(read_log_frames(self.file), self.file)

    @wrap_parse_errors
    def lights(self) -> Lights:
        """States of the traffic lights: red, or not red (green, yellow and unknown)."""
        states = lights_of(read_log_frames(self.file))
        index, connector, red = zip(*states, strict=True) if states else ((), (), ())
        return Lights(
            np.array(index, np.int32), np.array(connector, dtype=object), np.array(red, dtype=bool)
        )

    @wrap_parse_errors
    def map_objects(self) -> list[MapObject]:
        """The whole map of the log's town; empty without a map."""
        return list(read_nuplan_map(self.map_file)) if self.map_file else []

    def _image_files(self, camera: str) -> list[Path | None]:
        """File of each frame's image, None for images that are not on disk.

        Raises SourceError for a path that is not one of the log's own images, which are the ones in
        its fingerprint.
        """
        names_in: dict[str, dict[str, list[str]]] = {}
        files: list[Path | None] = []
        for index, frame in enumerate(read_log_frames(self.file)):
            cameras = cameras_in(frame)
            data_path = cameras[camera]["data_path"] if camera in cameras else None
            if data_path is None or data_path == "":
                files.append(None)
                continue
            folder, name = _image_path(self, index, data_path)
            if folder not in names_in:
                names_in[folder] = _images_by_stem(self.blobs / self.log_id / folder)
            found = names_in[folder].get(Path(name).stem, [])
            named = [name] if name in found else found
            only_one_image(
                f"log {self.log_id}, frame {index}, {folder}/{name}",
                [self.blobs / self.log_id / folder / item for item in named],
            )
            files.append(self.blobs / self.log_id / folder / named[0] if named else None)
        return files


def _images_by_stem(folder: Path) -> dict[str, list[str]]:
    names: dict[str, list[str]] = {}
    for name in regular_files(folder, is_image):
        names.setdefault(Path(name).stem, []).append(name)
    return names


def _image_path(log: OpenSceneLog, frame: int, data_path: Any) -> tuple[str, str]:
    """Camera folder and file name of a frame's image."""
    parts = data_path.split("/") if isinstance(data_path, str) else []
    if (
        len(parts) != 3
        or parts[0] != log.log_id
        or not _is_camera(parts[1])
        or name_fault(parts[2]) is not None
    ):
        raise SourceError(
            "an image lies outside the log's own folders",
            where=f"log {log.log_id}, frame {frame}",
            expected=f"{log.log_id}/CAM_<name>/<file>, below {log.blobs}",
            found=quoted(data_path),
            do="write the path as OpenScene has it, and put the image there",
        )
    return parts[1], parts[2]


class OpenSceneSource:
    """A folder of OpenScene logs."""

    name = "openscene"

    def __init__(self, raw: Path) -> None:
        self.raw = raw
        self.refused: Mapping[str, SourceError] = {}

    def logs(self) -> list[LogRef]:
        """All logs that can be listed, sorted by name; `refused` holds the others.

        Raises SourceError for a missing or empty folder.
        """
        listing = LogListing()
        self.refused = listing.refused
        files = require_logs(
            self.raw,
            _index_files(self.raw, listing),
            "navsim_logs/<split>/<log>.pkl",
            listing.refused,
        )
        maps_root = self._maps_root()
        maps = sorted(maps_root.glob("*/*/map.gpkg")) if maps_root else []
        sound_maps = tuple(file for file in maps if os.path.isfile(file))
        listing.add_by_name(files, lambda file: file.stem, partial(self._ref, sound_maps))
        return listing.refs

    def _ref(self, maps: tuple[Path, ...], log_id: str, found: list[Path]) -> LogRef:
        files = self._same_log(log_id, found)
        blobs = _blobs_of(log_id, files)
        return LogRef(log_id, _split_of(files[0]), (*files, *maps), _images_of(blobs / log_id))

    @wrap_parse_errors
    def open(self, log_id: str) -> OpenSceneLog:
        """A handle on one log; reads its pickle for the capabilities.

        Raises SourceError if the log does not exist, cannot be read, or has no front image.
        """
        found = self._files_of(log_id)
        if not found:
            raise SourceError(
                f"there is no log '{log_id}'",
                where=self.raw,
                expected="<log>.pkl in a folder of a split",
                found=log_id,
                do="list them: latentvla logs",
            )
        files = self._same_log(log_id, found)
        _require_same_bytes(log_id, files)
        log = self._without_capabilities(log_id, files, found)
        frames = read_log_frames(log.file)
        names = dict.fromkeys(name for frame in frames for name in cameras_in(frame))
        cameras = _front_first(
            check_name(name, "camera") for name in names if any(log._image_files(name))
        )
        if FRONT not in cameras:
            path = cameras_in(frames[0]).get(FRONT, {}).get("data_path", "any path")
            raise SourceError(
                "the log has no front image",
                where=f"log {log_id}, {log.blobs}",
                expected=f"{FRONT} at {path}",
                found=", ".join(cameras) or "no image of any camera",
                do="put the sensor blobs of this split below the raw folder",
            )
        capabilities = Capabilities(
            tuple(cameras),
            agents=any(frame.get("anns") for frame in frames),
            map=log.map_file is not None,
            traffic_lights=any(len(items_of(frame, "traffic_lights")) for frame in frames),
            command=any(
                command_of(frame.get("driving_command")) != Command.UNKNOWN for frame in frames
            ),
        )
        return replace(log, capabilities=capabilities)

    def _without_capabilities(
        self, log_id: str, files: list[Path], found: list[Path]
    ) -> OpenSceneLog:
        file, split = files[0], _split_of(files[0])
        location = identifier(read_log_frames(file)[0].get("map_location") or "")
        map_file = self._map_file(location)
        notes = (
            ()
            if map_file or not location
            else (f"the map of '{location}' was not found: read without a map",)
        )
        if len(found) > 1:
            others = ", ".join(_folder_of(other) for other in found if other != file)
            notes = (*notes, f"read from {_folder_of(file)}, and not again from {others}")
        return OpenSceneLog(
            log_id,
            split,
            location if map_file else "",
            Capabilities((), False, False, False, False),
            file,
            _blobs_of(log_id, files),
            map_file,
            notes,
        )

    def _files_of(self, log_id: str) -> list[Path]:
        """The pickles of one log, in the split folders that have it."""
        if name_fault(log_id) is not None:
            return []
        splits = (split for name in INDEX_FOLDERS for split in folders_in(self.raw / name))
        files = (split / f"{log_id}{ending}" for split in splits for ending in PICKLE_ENDINGS)
        found = [file for file in files if os.path.lexists(file)]
        # a file system that ignores case gives one file under two names
        seen: dict[tuple[Path, int], Path] = {}
        for file in found:
            seen.setdefault((file.parent, os.lstat(file).st_ino), file)
        return list(seen.values())

    def _same_log(self, log_id: str, found: list[Path]) -> list[Path]:
        """The pickles of a log in known split folders, the one that counts first.

        Raises SourceError if they cannot be of the same bytes.
        """
        if len(found) == 1:
            is_regular(found[0])
            return found
        known = [file for file in found if file.parent.name in SPLITS]
        files = sorted(known or found, key=_precedence)
        sizes = {os.stat(file).st_size for file in files if is_regular(file)}
        if len(sizes) > 1:
            _refuse_two(log_id, files)
        return files

    def _maps_root(self) -> Path | None:
        candidates = [self.raw / "maps", self.raw, self.raw / "nuplan-maps-v1.0"]
        if "NUPLAN_MAPS_ROOT" in os.environ:
            candidates.append(Path(os.environ["NUPLAN_MAPS_ROOT"]))
        return next(
            (path for path in candidates if is_regular(path / "nuplan-maps-v1.0.json")), None
        )

    def _map_file(self, location: str) -> Path | None:
        root = self._maps_root()
        if root is None or not location:
            return None
        index = read_json(root / "nuplan-maps-v1.0.json", "the index of nuPlan's maps")
        if location not in index:
            return None
        check_name(location, "map", where=root)
        version = check_name(str(index[location]["version"]), "map's version", where=root)
        file = root / location / version / "map.gpkg"
        return file if is_regular(file) else None


def _precedence(file: Path) -> tuple[int, int, str]:
    split, index = file.parent.name, file.parent.parent.name
    rank = PRECEDENCE.index(split) if split in PRECEDENCE else len(PRECEDENCE)
    return rank, INDEX_FOLDERS.index(index), file.name


def _folder_of(file: Path) -> str:
    return f"{file.parent.parent.name}/{safe_name(file.parent.name)}"


def _refuse_two(log_id: str, files: list[Path]) -> None:
    only_one(
        log_id,
        files,
        files[0].parent.parent.parent,
        "their bytes differ: keep the right one (mini is part of trainval and test)",
    )


def _require_same_bytes(log_id: str, files: list[Path]) -> None:
    """Raises SourceError if two pickles of one name are different logs."""
    if not all(filecmp.cmp(files[0], file, shallow=False) for file in files[1:]):
        _refuse_two(log_id, files)


def _blobs_of(log_id: str, files: list[Path]) -> Path:
    """`sensor_blobs/<split>` of the first split that has the log's images, else of the first."""
    blobs = [file.parent.parent.parent / "sensor_blobs" / file.parent.name for file in files]
    if len(blobs) == 1:
        return blobs[0]
    return next((folder for folder in blobs if (folder / log_id).is_dir()), blobs[0])


def _images_of(folder: Path) -> tuple[Path, ...]:
    cameras = _front_first(path.name for path in folders_in(folder) if _is_camera(path.name))
    return tuple(
        folder / camera / name
        for camera in cameras
        for name in regular_files(folder / camera, is_image)
    )


def _index_files(raw: Path, listing: LogListing) -> Iterator[Path]:
    """The pickles of all logs."""
    for name in INDEX_FOLDERS:
        yield from listing.paths_below(raw / name, lambda name: name.endswith(PICKLE_ENDINGS))


def _is_camera(folder: str) -> bool:
    return folder.startswith("CAM_") and name_fault(folder) is None


def _front_first(names: Iterable[str]) -> list[str]:
    return sorted(names, key=lambda name: (name != FRONT, name))


def drive_of(log_id: str) -> str:
    """Name of the drive that a log is a piece of: date and vehicle of nuPlan's
    `<date>_<vehicle>_<from>_<to>`; the whole name of any other log.
    """
    piece = _PIECE_OF_DRIVE.fullmatch(log_id)
    return piece[1] if piece else log_id


def _split_of(file: Path) -> str:
    folder = file.parent.name
    if folder not in SPLITS:
        raise SourceError(
            "unknown split folder",
            where=file,
            expected=", ".join(SPLITS),
            found=folder,
            do="rename the folder to one of these",
        )
    train, val = SPLITS[folder]
    draw = int(hashlib.sha256(drive_of(file.stem).encode()).hexdigest()[:8], 16) / 16**8
    return "train" if draw < train else "val" if draw < train + val else "test"


def _camera(log: OpenSceneLog, name: str, frame: dict[str, Any]) -> Camera:
    file = next(image.file for image in log.images(name))
    width, height = image_size(file)
    calibration = frame["cams"][name]
    distortion = calibration["distortion"]
    camera_to_lidar = np.eye(4)
    camera_to_lidar[:3, :3] = calibration["sensor2lidar_rotation"]
    camera_to_lidar[:3, 3] = calibration["sensor2lidar_translation"]
    return Camera(
        name,
        width,
        height,
        np.asarray(calibration["cam_intrinsic"], dtype=np.float64).reshape(3, 3),
        lidar_to_ego_of([frame])[0] @ camera_to_lidar,
        () if distortion is None else tuple(float(item) for item in np.ravel(distortion)),
    )
