"""Logs in the KITTI raw format (synced, rectified drives): images, GPS/IMU, tracklets. No map, lights or command.

Layout: `<date>/calib_*.txt` and `<date>/<date>_drive_<number>_sync/{image_02,oxts,tracklet_labels.xml}`. This is the
pattern for anybody's dash-cam logs: video and odometry only. Every drive is `train`: the format knows no splits.
The ego origin is the rear axle on the ground, found from the mounting plan of the sensor car (see REAR_AXLE_IN_IMU).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from storage.errors import SourceError
from storage.sources.contract import Agents, Camera, Capabilities, Lights, LogRef, MapObject, RawImage, Signals
from storage.sources.images import image_size
from storage.sources.kitti_tracklets import read_tracklets
from storage.sources.rotations import wrapped
from storage.sources.soundness import require_sound
from storage.trajectory_table import Command

CAMERAS = ("image_02", "image_03", "image_00", "image_01")      # colour left is the front camera
REAR_AXLE_IN_IMU = np.array([0.05, -0.32, -0.93])   # metres; Geiger et al., "Vision meets Robotics" (2013), figure 1
EARTH_RADIUS_M = 6378137.0
MAX_EXTRAPOLATION_S = 0.12      # camera times may lie one odometry step outside the odometry
LAT, LON, YAW, FORWARD, LEFT, ACC_FORWARD, ACC_LEFT, YAW_RATE = 0, 1, 5, 8, 9, 14, 15, 22   # columns of an OXTS line
OXTS_COLUMNS = 30


@dataclass(frozen=True, slots=True)
class KittiLog:
    """One drive; holds paths only."""

    log_id: str
    split: str
    location: str
    capabilities: Capabilities
    folder: Path                    # <date>/<date>_drive_<number>_sync

    def cameras(self) -> tuple[Camera, ...]:
        """Rectified pinhole cameras."""
        return tuple(_camera(self.folder, name) for name in self.capabilities.cameras)

    def images(self, camera: str) -> Iterator[RawImage]:
        """The images that exist and have a pose, in frame order; the number in the file name is the frame."""
        posed = set(_frames(self.folder).index.tolist())
        time_us = _timestamps_us(self.folder / camera / "timestamps.txt")
        for index, file in sorted(_image_files(self.folder, camera).items()):
            if index in posed:
                yield RawImage(index, camera, int(time_us[index]), file)

    def signals(self) -> Signals:
        """Poses, velocities and accelerations at the camera's time stamps, interpolated between odometry readings."""
        frames = _frames(self.folder)
        rows = len(frames.index)
        has_image = np.isin(frames.index, list(_image_files(self.folder, self.capabilities.cameras[0])))
        notes = frames.notes
        if not has_image.all():
            notes = (*notes, f"{int((~has_image).sum())} of {rows} frames have a pose but no image")
        return require_sound(Signals(
            frame_index=frames.index, timestamp_us=frames.timestamp_us, pose_world=frames.pose_world,
            velocity_ego=frames.motion[:, :2], acceleration_ego=frames.motion[:, 2:],
            command=np.full(rows, Command.UNKNOWN, np.int8), has_image=has_image,
            route_roadblock_ids=[[] for _ in range(rows)], tags=[[] for _ in range(rows)], notes=notes),
            self.log_id, self.folder / "oxts")

    def agents(self) -> Agents:
        """Boxes of the tracklets, if the drive has any; their velocity comes from neighbouring frames."""
        frames = _frames(self.folder)
        velodyne_to_ego = np.linalg.inv(_ego_to_velodyne(self.folder))
        return read_tracklets(self.folder / "tracklet_labels.xml", velodyne_to_ego, frames.index,
                              frames.timestamp_us * 1e-6, frames.pose_world)

    def lights(self) -> Lights:
        """None: the format has no traffic lights."""
        return Lights(np.zeros(0, np.int32), np.zeros(0, dtype=object), np.zeros(0, dtype=bool))

    def map_objects(self) -> list[MapObject]:
        """None: the format has no map."""
        return []


class KittiRawSource:
    """A folder of KITTI raw drives."""

    name = "kitti_raw"

    def __init__(self, raw: Path) -> None:
        self.raw = raw

    def logs(self) -> list[LogRef]:
        """All drives, sorted by name. Raises SourceError for a folder that is missing or holds none."""
        return [LogRef(log_id, "train", _index_files(folder),
                       tuple(file for name in CAMERAS for _, file in sorted(_image_files(folder, name).items())))
                for log_id, folder in self._drives().items()]

    def open(self, log_id: str) -> KittiLog:
        """A handle on one drive."""
        drives = self._drives()
        if log_id not in drives:
            raise SourceError(f"there is no log '{log_id}'", where=self.raw, expected=f"one of {len(drives)} drives",
                              do="list them: latentvla logs")
        folder = drives[log_id]
        cameras = tuple(name for name in CAMERAS if _image_files(folder, name))
        if not cameras:
            raise SourceError("the log has no image", where=f"log {log_id}, {folder}",
                              expected="image_02/data/0000000000.png (or .jpg)", do="add the drive's images")
        has_agents = (folder / "tracklet_labels.xml").exists()
        return KittiLog(log_id, "train", "", Capabilities(cameras, has_agents, False, False, False), folder)

    def _drives(self) -> dict[str, Path]:
        if not self.raw.is_dir():
            raise SourceError("the raw folder does not exist", where=self.raw, do="give the folder with --raw")
        folders = sorted(self.raw.glob("*/*_drive_*_sync"))
        if not folders:
            raise SourceError("there is no log in the raw folder", where=self.raw,
                              expected="<date>/<date>_drive_<number>_sync", do="check the folder given with --raw")
        return {folder.name.removesuffix("_sync"): folder for folder in folders}


@dataclass(frozen=True, slots=True)
class _Frames:
    """The rows of a drive at the camera's time stamps."""

    index: np.ndarray               # (T,) int32
    timestamp_us: np.ndarray        # (T,) int64
    pose_world: np.ndarray          # (T, 3): east and north of the first odometry reading, heading from east
    motion: np.ndarray              # (T, 4): forward and left velocity, forward and left acceleration
    notes: tuple[str, ...]


def _frames(folder: Path) -> _Frames:
    stamps = [folder / "oxts" / "timestamps.txt", folder / "oxts" / "data"]
    return _frames_cached(folder, tuple(path.stat().st_mtime_ns if path.exists() else 0 for path in stamps))


@lru_cache(maxsize=4)
def _frames_cached(folder: Path, _stamps: tuple[int, ...]) -> _Frames:
    front = next((name for name in CAMERAS if (folder / name / "timestamps.txt").exists()), CAMERAS[0])
    camera_us, oxts_us = (_timestamps_us(folder / name / "timestamps.txt") for name in (front, "oxts"))
    oxts = _oxts(folder, len(oxts_us))
    pose, motion = _rear_axle(oxts)
    notes = _clock_notes(camera_us, oxts_us)
    if len(oxts_us) > len(camera_us):       # poses after the last image: they still are the future of earlier frames
        shift_us = int(np.median(camera_us - oxts_us[:len(camera_us)]))
        camera_us = np.append(camera_us, oxts_us[len(camera_us):] + shift_us)
    slack_us = MAX_EXTRAPOLATION_S * 1e6
    inside = (camera_us >= oxts_us[0] - slack_us) & (camera_us <= oxts_us[-1] + slack_us)
    if not inside.all():
        notes.append(f"{int((~inside).sum())} images have no pose near their time and are left out")
    index = np.flatnonzero(inside).astype(np.int32)
    values = _at((oxts_us - oxts_us[0]) * 1e-6, np.column_stack([pose[:, :2], np.unwrap(pose[:, 2]), motion]),
                 (camera_us[index] - oxts_us[0]) * 1e-6)
    return _Frames(index, camera_us[index], np.column_stack([values[:, :2], wrapped(values[:, 2])]), values[:, 3:],
                   tuple(notes))


def _clock_notes(camera_us: np.ndarray, oxts_us: np.ndarray) -> list[str]:
    both = min(len(camera_us), len(oxts_us))
    offset_ms = (oxts_us[:both] - camera_us[:both]) / 1000
    notes = [f"the odometry clock is {np.median(offset_ms):.1f} ms behind the camera's (at most "
             f"{np.abs(offset_ms).max():.1f} ms apart): poses are interpolated to the camera's time stamps"]
    if len(oxts_us) != len(camera_us):
        notes.append(f"{len(oxts_us)} poses and {len(camera_us)} images")
    step_ms = np.diff(camera_us) / 1000
    if len(step_ms) and step_ms.max() - step_ms.min() > 1.0:
        notes.append(f"uneven frame spacing: {step_ms.min():.1f} to {step_ms.max():.1f} ms")
    return notes


def _oxts(folder: Path, lines: int) -> np.ndarray:
    """(n, 30) odometry readings in the order of their files."""
    files = sorted((folder / "oxts" / "data").glob("*.txt"))
    if len(files) != lines or lines < 2:
        raise SourceError("the odometry is incomplete", where=folder / "oxts", do="copy the drive again",
                          expected="one file for each line of timestamps.txt, at least two",
                          found=f"{len(files)} files, {lines} times")
    rows = [file.read_text().split() for file in files]
    for file, row in zip(files, rows, strict=True):
        if len(row) != OXTS_COLUMNS:
            raise SourceError("an odometry file is damaged", where=file, expected=f"{OXTS_COLUMNS} numbers",
                              found=f"{len(row)}", do="copy the drive again")
    return np.array(rows, dtype=np.float64)


def _rear_axle(oxts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Poses (n, 3) and motion (n, 4) of the rear axle from readings of the unit beside it.

    Position by the Mercator projection with the scale of the first latitude, as the data set's devkit defines it.
    """
    scale = np.cos(np.radians(oxts[0, LAT]))
    east = scale * EARTH_RADIUS_M * np.radians(oxts[:, LON])
    north = scale * EARTH_RADIUS_M * np.log(np.tan(np.radians(90 + oxts[:, LAT]) / 2))
    lever_x, lever_y, _ = REAR_AXLE_IN_IMU
    cos, sin = np.cos(oxts[:, YAW]), np.sin(oxts[:, YAW])
    x, y = east - east[0] + cos * lever_x - sin * lever_y, north - north[0] + sin * lever_x + cos * lever_y
    rate = oxts[:, YAW_RATE]
    forward, left = oxts[:, FORWARD] - rate * lever_y, oxts[:, LEFT] + rate * lever_x       # v + omega x r
    acceleration = oxts[:, [ACC_FORWARD, ACC_LEFT]] - (rate**2)[:, None] * REAR_AXLE_IN_IMU[:2]     # centripetal part
    return np.column_stack([x, y, oxts[:, YAW]]), np.column_stack([forward, left, acceleration])


def _at(time_s: np.ndarray, values: np.ndarray, query_s: np.ndarray) -> np.ndarray:
    """Columns of `values` (n, c) at other times, linear, also a little outside the ends."""
    if (np.diff(time_s) <= 0).any():
        row = int(np.flatnonzero(np.diff(time_s) <= 0)[0]) + 1
        raise SourceError("odometry time stamps go back or stand still", where=f"frame {row} of oxts/timestamps.txt",
                          expected=f"above {time_s[row - 1]} s", found=f"{time_s[row]} s", do="copy the drive again")
    left = np.clip(np.searchsorted(time_s, query_s, side="right") - 1, 0, len(time_s) - 2)
    weight = ((query_s - time_s[left]) / (time_s[left + 1] - time_s[left]))[:, None]
    return values[left] + weight * (values[left + 1] - values[left])


def _timestamps_us(file: Path) -> np.ndarray:
    try:
        lines = file.read_text().split("\n")
        stamps = np.array([line.strip().replace(" ", "T") for line in lines if line.strip()], dtype="datetime64[ns]")
    except (OSError, ValueError) as error:
        raise SourceError("time stamps cannot be read", where=file, expected="one date and time a line",
                          found=str(error), do="copy the drive again") from error
    return stamps.astype(np.int64) // 1000


def _image_files(folder: Path, camera: str) -> dict[int, Path]:
    return {int(file.stem): file for file in (folder / camera / "data").glob("*.*")
            if file.suffix in (".png", ".jpg") and file.stem.isdigit()}


def _index_files(folder: Path) -> tuple[Path, ...]:
    named = [folder / "tracklet_labels.xml", *(folder / name / "timestamps.txt" for name in (*CAMERAS, "oxts"))]
    return tuple(path for path in [*sorted(folder.parent.glob("calib_*.txt")), *named,
                                   *sorted((folder / "oxts" / "data").glob("*.txt"))] if path.exists())


def _camera(folder: Path, name: str) -> Camera:
    """A rectified camera; the extrinsics chain IMU -> Velodyne -> camera 0 -> rectified -> this camera's baseline."""
    calibration = _calibration(folder.parent / "calib_cam_to_cam.txt")
    projection = calibration[f"P_rect_{name[-2:]}"].reshape(3, 4)
    rectify, baseline = np.eye(4), np.eye(4)
    rectify[:3, :3] = calibration["R_rect_00"].reshape(3, 3)
    baseline[:3, 3] = np.linalg.solve(projection[:, :3], projection[:, 3])
    velodyne_to_camera = _transform(folder.parent / "calib_velo_to_cam.txt")
    ego_to_camera = baseline @ rectify @ velodyne_to_camera @ _ego_to_velodyne(folder)
    width, height = image_size(min(_image_files(folder, name).items())[1])
    return Camera(name, width, height, projection[:, :3], np.linalg.inv(ego_to_camera))


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
    """The numeric entries of a calibration file."""
    try:
        entries = [line.split(":", 1) for line in file.read_text().splitlines() if ":" in line]
    except OSError as error:
        raise SourceError("the calibration is missing", where=file,
                          do="copy the day's calib_*.txt files beside its drives") from error
    return {key: np.array(value.split(), dtype=np.float64) for key, value in entries if key != "calib_time"}
