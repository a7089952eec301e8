"""Logs of the KITTI odometry benchmark: rectified images and the left grey camera's poses.

Layout: `poses/<NN>.txt` and `sequences/<NN>/{calib.txt, times.txt, image_<0..3>/<number>.png}`, in
the raw folder or in `dataset/` below it, as the archives unpack. Line n of poses and times belongs
to the images with the number n. Images 0 and 1 are grey, 2 and 3 coloured. No odometry, so velocity
and acceleration come from the poses; no boxes, no map, no command, no splits: every sequence is
`train`. The benchmark keeps the poses of sequences 11 to 21 for itself: they are refused.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from storage.camera import Camera
from storage.errors import SourceError
from storage.names import name_fault
from storage.sources.bare_log import BareLog
from storage.sources.camera_file import OPTICAL
from storage.sources.contract import Capabilities, LogRef, RawImage, Signals
from storage.sources.images import image_size
from storage.sources.listing import LogListing, only_one
from storage.sources.motion import (
    bare_signals,
    motion_of_poses,
    require_heading,
    whole_microseconds,
)
from storage.sources.raw_files import REPAIR, is_regular, read_text, regular_files
from storage.sources.signal_validation import require_logs, validate_signals, wrap_parse_errors

CAMERAS = ("image_2", "image_3", "image_0", "image_1")  # colour left is the front camera
# metres forward, left and up of the rear axle: Geiger et al., "Vision meets Robotics" (2013),
# figure 1
VELODYNE_IN_EGO = np.array([0.76, 0.0, 1.73])
CAMERA_0_IN_EGO = np.array([1.03, 0.0, 1.65])
ORTHONORMAL_TOLERANCE = 1e-3
_SEQUENCE = re.compile(r"\d+", re.ASCII)
_PREFIX = "sequence_"


@dataclass(frozen=True, slots=True)
class SequenceLog(BareLog):
    """One sequence; holds paths only."""

    log_id: str
    split: str
    location: str
    capabilities: Capabilities
    folder: Path  # sequences/<NN>

    @wrap_parse_errors
    def cameras(self) -> tuple[Camera, ...]:
        """Rectified pinhole cameras."""
        calibration = _calibration(self.folder / "calib.txt")
        return tuple(_camera(self.folder, name, calibration) for name in self.capabilities.cameras)

    @wrap_parse_errors
    def images(self, camera: str) -> Iterator[RawImage]:
        """The images that exist, in order; the number in the file name is the frame index."""
        time_us = _times_us(self.folder)
        files = _image_files(self.folder, camera)
        _require_lines(self.folder, files, len(time_us))
        return iter(
            [
                RawImage(number, camera, int(time_us[number]), file)
                for number, file in sorted(files.items())
            ]
        )

    @wrap_parse_errors
    def signals(self) -> Signals:
        """Poses of the rear axle in the level frame of the first pose; velocity and acceleration
        are derivatives of the poses.
        """
        time_us = _times_us(self.folder)
        poses_file = _poses_file(self.folder)
        world_camera = _poses(poses_file, len(time_us))
        files = _image_files(self.folder, self.capabilities.cameras[0])
        _require_lines(self.folder, files, len(time_us))
        pose = _rear_axle(world_camera, _ego_to_camera_0(_calibration(self.folder / "calib.txt")))
        motion = motion_of_poses((time_us - time_us[0]) * 1e-6, pose)
        require_heading(motion, poses_file)
        has_image = np.isin(np.arange(len(time_us)), list(files))
        notes = ["velocity and acceleration are derivatives of the poses: the format has no others"]
        if not has_image.all():
            missing = int((~has_image).sum())
            notes.append(f"{missing} of {len(time_us)} frames have a pose but no image")
        return validate_signals(
            bare_signals(
                np.arange(len(time_us)),
                time_us,
                pose,
                motion,
                has_image,
                tuple(notes),
            ),
            self.log_id,
            poses_file,
        )


class KittiOdometrySource:
    """A folder of sequences of the KITTI odometry benchmark."""

    name = "kitti_odometry"

    def __init__(self, raw: Path) -> None:
        self.raw = raw
        self.refused: Mapping[str, SourceError] = {}

    def logs(self) -> list[LogRef]:
        """All sequences with poses, sorted by name; `refused` holds the others.

        Raises SourceError for a missing or empty folder.
        """
        listing = LogListing()
        self.refused = listing.refused
        found = (
            folder
            for parent in (self.raw, self.raw / "dataset")
            if parent.is_dir()
            for folder in listing.paths_below(parent, _SEQUENCE.fullmatch)
            if folder.parent.name == "sequences"
        )
        folders = require_logs(self.raw, found, "[dataset/]sequences/<NN>", listing.refused)
        listing.add_by_name(folders, lambda folder: _PREFIX + folder.name, self._ref)
        return listing.refs

    @wrap_parse_errors
    def open(self, log_id: str) -> SequenceLog:
        """A handle on one sequence. Raises SourceError if it does not exist, or has no image or no
        poses.
        """
        number = log_id.removeprefix(_PREFIX) if name_fault(log_id) is None else ""
        places = (self.raw / "sequences", self.raw / "dataset" / "sequences")
        found = [place / number for place in places if (place / number).is_dir()]
        if not log_id.startswith(_PREFIX) or not _SEQUENCE.fullmatch(number) or not found:
            raise SourceError(
                f"there is no log '{log_id}'",
                where=self.raw,
                expected=f"{_PREFIX}<NN>",
                found=log_id,
                do="list them: latentvla logs",
            )
        ref = self._ref(log_id, found)
        cameras = tuple(name for name in CAMERAS if _image_files(found[0], name))
        capabilities = Capabilities(cameras, False, False, False, False)
        return SequenceLog(log_id, ref.split, "", capabilities, found[0])

    def _ref(self, log_id: str, found: list[Path]) -> LogRef:
        only_one(log_id, found, self.raw, "keep one of these folders")
        folder = found[0]
        files = [_poses_file(folder), folder / "calib.txt", folder / "times.txt"]
        images = [
            file for name in CAMERAS for _, file in sorted(_image_files(folder, name).items())
        ]
        missing = [file for file in files if not is_regular(file)]
        if missing or not images:
            expected = missing[0] if missing else folder / "image_2" / "000000.png"
            held_back = " The benchmark publishes no poses for 11 to 21" if missing else ""
            raise SourceError(
                "the log is not complete",
                where=f"log {log_id}, {folder}",
                expected=expected,
                found=f"no such file.{held_back}",
                do="add it, or leave out this sequence",
            )
        return LogRef(log_id, "train", tuple(files), tuple(images))


def _poses_file(folder: Path) -> Path:
    return folder.parent.parent / "poses" / f"{folder.name}.txt"


def _image_files(folder: Path, camera: str) -> dict[int, Path]:
    """Frame index -> image. Raises SourceError for two images of one frame."""
    files: dict[int, Path] = {}
    for name in regular_files(folder / camera, _is_image):
        file = folder / camera / name
        other = files.setdefault(int(file.stem), file)
        if other != file:
            raise SourceError(
                "a frame has two images",
                where=f"camera {camera}, frame {int(file.stem)}",
                expected="one image a number",
                found=f"{other}, {file}",
                do="keep one of them",
            )
    return files


def _is_image(name: str) -> bool:
    stem, dot, suffix = name.rpartition(".")
    is_number = stem.isascii() and stem.isdecimal()
    return bool(dot) and suffix.lower() in ("png", "jpg", "jpeg") and is_number


def _require_lines(folder: Path, files: Mapping[int, Path], lines: int) -> None:
    """Raise SourceError for an image without a line in times.txt: the sequence was cut, and its
    lines belong to other images.
    """
    last = max(files, default=-1)
    if last >= lines:
        raise SourceError(
            "an image has no line in times.txt",
            where=f"frame {last}, file {files[last]}",
            expected=f"numbers below {lines}, the number of lines in {folder / 'times.txt'}",
            found=f"{last}: the numbers of images and lines do not belong together",
            do="give the whole times.txt and poses, or number the images from 0",
        )


def _numbers(file: Path, columns: int) -> np.ndarray:
    """Lines of `columns` finite numbers each, (n, columns)."""
    lines = [line.split() for line in read_text(file).splitlines() if line.strip()]
    for row, line in enumerate(lines):
        if len(line) != columns:
            raise _damaged(f"line {row + 1}, file {file}", f"{columns} numbers", f"{len(line)}")
    values = np.array(lines, dtype=np.float64).reshape(-1, columns)
    finite = np.isfinite(values).all(axis=1)
    if not finite.all():
        row = int(np.flatnonzero(~finite)[0])
        raise _damaged(f"line {row + 1}, file {file}", "finite numbers", f"{values[row]}")
    return values


def _times_us(folder: Path) -> np.ndarray:
    """Time stamps (T,) int64 in microseconds since the first image."""
    file = folder / "times.txt"
    time_us = whole_microseconds(_numbers(file, 1)[:, 0], file)
    if not len(time_us):
        raise _damaged(file, "one time in seconds a line", "an empty file")
    return time_us


def _poses(file: Path, lines: int) -> np.ndarray:
    """Camera 0 in the frame of its first pose, (T, 4, 4)."""
    values = _numbers(file, 12)
    if len(values) != lines:
        raise _damaged(file, f"{lines} poses, one for each line of times.txt", f"{len(values)}")
    out = np.tile(np.eye(4), (lines, 1, 1))
    out[:, :3] = values.reshape(-1, 3, 4)
    turns = out[:, :3, :3]
    wrong = np.abs(turns @ turns.transpose(0, 2, 1) - np.eye(3)).max(axis=(1, 2))
    wrong = (wrong > ORTHONORMAL_TOLERANCE) | (np.linalg.det(turns) < 0)
    if wrong.any():
        row = int(np.flatnonzero(wrong)[0])
        raise _damaged(f"frame {row}, file {file}", "a rotation", f"{turns[row].tolist()}")
    return out


def _rear_axle(world_camera: np.ndarray, ego_to_camera: np.ndarray) -> np.ndarray:
    """Poses (T, 3) of the rear axle: x forward and y left of the first one."""
    camera_to_ego = np.linalg.inv(ego_to_camera)
    poses = camera_to_ego @ world_camera @ ego_to_camera
    return np.column_stack([poses[:, :2, 3], np.arctan2(poses[:, 1, 0], poses[:, 0, 0])])


def _ego_to_camera_0(calibration: Mapping[str, np.ndarray]) -> np.ndarray:
    """From the rear axle to the rectified camera 0, (4, 4): through the Velodyne, whose place is
    that of the mounting plan; by the plan alone for a calibration without `Tr`.
    """
    to_ego, to_camera = np.eye(4), np.eye(4)
    if "Tr" in calibration:
        to_ego[:3, 3] = VELODYNE_IN_EGO
        to_camera[:3] = calibration["Tr"].reshape(3, 4)
    else:
        to_ego[:3, :3], to_ego[:3, 3] = OPTICAL, CAMERA_0_IN_EGO
    return to_camera @ np.linalg.inv(to_ego)


def _camera(folder: Path, name: str, calibration: Mapping[str, np.ndarray]) -> Camera:
    key = f"P{name[-1]}"
    if key not in calibration:
        found = ", ".join(calibration)
        raise _damaged(folder / "calib.txt", f"{key}, the projection of {name}", found)
    projection = calibration[key].reshape(3, 4)
    baseline = np.eye(4)
    baseline[:3, 3] = np.linalg.solve(projection[:, :3], projection[:, 3])
    ego_to_camera = baseline @ _ego_to_camera_0(calibration)
    width, height = image_size(min(_image_files(folder, name).items())[1])
    return Camera(name, width, height, projection[:, :3], np.linalg.inv(ego_to_camera))


def _calibration(file: Path) -> dict[str, np.ndarray]:
    """The 12 numbers of every entry: P0 to P3, and Tr in newer archives."""
    entries: dict[str, np.ndarray] = {}
    for line in read_text(file).splitlines():
        key, colon, values = line.partition(":")
        if colon:
            entries[key.strip()] = np.array(values.split(), dtype=np.float64)
            if entries[key.strip()].shape != (12,):
                found = f"{len(values.split())}"
                raise _damaged(file, f"12 numbers in {key.strip()}", found)
    return entries


def _damaged(where: object, expected: str, found: str) -> SourceError:
    return SourceError(
        "a file of the sequence is damaged", where=where, expected=expected, found=found, do=REPAIR
    )
