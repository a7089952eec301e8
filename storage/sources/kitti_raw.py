"""Logs in the KITTI raw format (synced, rectified drives): images, GPS/IMU, tracklets.

Layout: `<date>/calib_*.txt` and
`<date>/<date>_drive_<number>_sync/{image_02,oxts,tracklet_labels.xml}`. The format has no map, no
traffic lights, no command and no splits: every drive is `train`. The ego origin is the rear axle on
the ground, from the mounting plan of the sensor car (see REAR_AXLE_IN_IMU).
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from storage.camera import Camera
from storage.errors import SourceError
from storage.names import name_fault, quoted
from storage.sources.bare_log import BareLog
from storage.sources.contract import (
    Agents,
    Capabilities,
    LogRef,
    RawImage,
    Signals,
)
from storage.sources.images import image_size
from storage.sources.kitti_odometry import (
    CAMERAS,
    REAR_AXLE_IN_IMU,
    images_of,
    is_image,
    is_reading,
    read_drive_frames,
    recording_of,
)
from storage.sources.kitti_rows import is_numbered
from storage.sources.kitti_tracklets import read_tracklets
from storage.sources.listing import LogListing, only_one
from storage.sources.raw_files import (
    folders_in,
    is_regular,
    read_text,
    regular_files,
)
from storage.sources.signal_validation import require_logs, validate_signals, wrap_parse_errors
from storage.trajectory_table import Command

_DRIVE = re.compile(r".*_drive_.*_sync", re.DOTALL)


@dataclass(frozen=True, slots=True)
class KittiLog(BareLog):
    """One drive; holds paths only."""

    log_id: str
    split: str
    location: str
    capabilities: Capabilities
    folder: Path  # <date>/<date>_drive_<number>_sync

    @wrap_parse_errors
    def cameras(self) -> tuple[Camera, ...]:
        """Rectified pinhole cameras."""
        cameras = (_camera(self.folder, name) for name in self.capabilities.cameras)
        return tuple(_with_size(self.folder, camera) for camera in cameras)

    @wrap_parse_errors
    def images(self, camera: str) -> Iterator[RawImage]:
        """The images that exist and have a pose, in frame order.

        The number in the file name is the frame index.
        """
        posed = set(read_drive_frames(self.folder).index.tolist())
        recording = recording_of(self.folder, camera)
        time_us = recording.times()
        return iter(
            [
                RawImage(number, camera, time_us[number], file)
                for number, file in recording.files.items()
                if number in posed
            ]
        )

    @wrap_parse_errors
    def signals(self) -> Signals:
        """Poses, velocities and accelerations, interpolated to the camera's time stamps."""
        frames = read_drive_frames(self.folder)
        rows = len(frames.index)
        front = images_of(self.folder, self.capabilities.cameras[0])
        has_image = np.isin(frames.index, list(front))
        notes = [*frames.notes]
        if not has_image.all():
            notes.append(f"{int((~has_image).sum())} of {rows} frames have a pose but no image")
        unnumbered = _unnumbered(self.folder, self.capabilities.cameras[0])
        if unnumbered:
            notes.append(
                f"{len(unnumbered)} images without a number for a name are left out, the first is "
                f"{quoted(unnumbered[0])}"
            )
        return validate_signals(
            Signals(
                frame_index=frames.index,
                timestamp_us=frames.timestamp_us,
                pose_world=frames.pose_world,
                velocity_ego=frames.motion[:, :2],
                acceleration_ego=frames.motion[:, 2:],
                command=np.full(rows, Command.UNKNOWN, np.int8),
                has_image=has_image,
                route_roadblock_ids=[[] for _ in range(rows)],
                tags=[[] for _ in range(rows)],
                notes=tuple(notes),
            ),
            self.log_id,
            self.folder / "oxts",
        )

    @wrap_parse_errors
    def agents(self) -> Agents:
        """Boxes of the drive's tracklets; their velocity comes from neighbouring frames."""
        frames = read_drive_frames(self.folder)
        velodyne_to_ego = np.linalg.inv(_ego_to_velodyne(self.folder))
        return read_tracklets(
            self.folder / "tracklet_labels.xml",
            velodyne_to_ego,
            frames.index,
            frames.timestamp_us * 1e-6,
            frames.pose_world,
        )


class KittiRawSource:
    """A folder of KITTI raw drives."""

    name = "kitti_raw"

    def __init__(self, raw: Path) -> None:
        self.raw = raw
        self.refused: Mapping[str, SourceError] = {}

    def logs(self) -> list[LogRef]:
        """All drives that can be listed, sorted by name; `refused` holds the others.

        Raises SourceError for a missing or empty folder.
        """
        listing = LogListing()
        self.refused = listing.refused
        folders = require_logs(
            self.raw,
            listing.paths_below(self.raw, _DRIVE.fullmatch),
            "<date>/<date>_drive_<number>_sync",
            listing.refused,
        )
        listing.add_by_name(folders, lambda folder: folder.name.removesuffix("_sync"), self._ref)
        return listing.refs

    def _ref(self, log_id: str, found: list[Path]) -> LogRef:
        folder = self._only_folder(log_id, found)
        images = (file for name in CAMERAS for file in images_of(folder, name).values())
        return LogRef(log_id, "train", _index_files(folder), tuple(images))

    @wrap_parse_errors
    def open(self, log_id: str) -> KittiLog:
        """A handle on one drive. Raises SourceError if it does not exist or has no image."""
        found = []
        if name_fault(log_id) is None:
            drives = (date / f"{log_id}_sync" for date in folders_in(self.raw))
            found = [folder for folder in drives if folder.is_dir()]
        if not found:
            raise SourceError(
                f"there is no log '{log_id}'",
                where=self.raw,
                expected="the folder of a drive, without _sync",
                found=log_id,
                do="list them: latentvla logs",
            )
        folder = self._only_folder(log_id, found)
        cameras = tuple(name for name in CAMERAS if images_of(folder, name))
        if not cameras:
            unnumbered = [file for name in CAMERAS for file in _unnumbered(folder, name)]
            others = f", but {len(unnumbered)} images without a number for a name"
            raise SourceError(
                "the log has no image",
                where=f"log {log_id}, {folder}",
                expected="image_02/data/0000000000.png (or .jpg)",
                found=f"none in {', '.join(CAMERAS)}" + (others if unnumbered else ""),
                do="add the drive's images, each with the number of its frame as its name",
            )
        has_agents = is_regular(folder / "tracklet_labels.xml")
        return KittiLog(
            log_id, "train", "", Capabilities(cameras, has_agents, False, False, False), folder
        )

    def _only_folder(self, log_id: str, found: list[Path]) -> Path:
        only_one(log_id, found, self.raw, "keep one of these folders")
        return found[0]


def _unnumbered(folder: Path, camera: str) -> list[str]:
    return regular_files(
        folder / camera / "data", lambda name: is_image(name) and not is_numbered(name)
    )


def _index_files(folder: Path) -> tuple[Path, ...]:
    named = [
        folder / "tracklet_labels.xml",
        *(folder / name / "timestamps.txt" for name in (*CAMERAS, "oxts")),
    ]
    readings = folder / "oxts" / "data"
    return (
        *(folder.parent / name for name in regular_files(folder.parent, _is_calibration)),
        *(file for file in named if is_regular(file)),
        *(readings / name for name in regular_files(readings, is_reading)),
    )


def _is_calibration(name: str) -> bool:
    return name.startswith("calib_") and name.endswith(".txt")


def _camera(folder: Path, name: str) -> Camera:
    """A rectified camera.

    Extrinsics: IMU -> Velodyne -> camera 0 -> rectified camera 0 -> this camera's baseline.
    """
    calibration = _calibration(folder.parent / "calib_cam_to_cam.txt")
    projection = calibration[f"P_rect_{name[-2:]}"].reshape(3, 4)
    rectify, baseline = np.eye(4), np.eye(4)
    rectify[:3, :3] = calibration["R_rect_00"].reshape(3, 3)
    baseline[:3, 3] = np.linalg.solve(projection[:, :3], projection[:, 3])
    velodyne_to_camera = _transform(folder.parent / "calib_velo_to_cam.txt")
    ego_to_camera = baseline @ rectify @ velodyne_to_camera @ _ego_to_velodyne(folder)
    width, height = image_size(next(iter(images_of(folder, name).values())))
    return Camera(name, width, height, projection[:, :3], np.linalg.inv(ego_to_camera))


def _with_size(folder: Path, camera: Camera) -> Camera:
    """The camera with the size of image that its calibration is for, where the file names it."""
    size = _calibration(folder.parent / "calib_cam_to_cam.txt").get(f"S_rect_{camera.name[-2:]}")
    return camera if size is None else replace(camera, calibrated_wh=(int(size[0]), int(size[1])))


def _ego_to_velodyne(folder: Path) -> np.ndarray:
    ego_to_imu = np.eye(4)
    ego_to_imu[:3, 3] = REAR_AXLE_IN_IMU
    return _transform(folder.parent / "calib_imu_to_velo.txt") @ ego_to_imu


def _transform(file: Path) -> np.ndarray:
    calibration = _calibration(file)
    out = np.eye(4)
    out[:3, :3], out[:3, 3] = calibration["R"].reshape(3, 3), calibration["T"]
    return out


def _calibration(file: Path) -> dict[str, np.ndarray]:
    """The numeric entries of a calibration file. Raises SourceError if it does not exist."""
    if not is_regular(file):
        raise SourceError(
            "the calibration is missing",
            where=file,
            expected="a text file of KITTI's calibration",
            found="no file",
            do="copy the day's calib_*.txt files beside its drives",
        )
    entries = [line.split(":", 1) for line in read_text(file).splitlines() if ":" in line]
    return {
        key: np.array(value.split(), dtype=np.float64)
        for key, value in entries
        if key != "calib_time"
    }
