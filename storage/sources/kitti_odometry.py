"""The odometry of a KITTI drive at the rear axle, interpolated to the camera's time stamps.

Handles separate clocks of camera and odometry, uneven frame spacing, and the lever arm between the
odometry unit and the rear axle.
"""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from storage.errors import SourceError
from storage.sources.raw_files import read_text, regular_files
from storage.sources.rotations import wrapped

CAMERAS = ("image_02", "image_03", "image_00", "image_01")  # colour left is the front camera
# metres; Geiger et al., "Vision meets Robotics" (2013), figure 1
REAR_AXLE_IN_IMU = np.array([0.05, -0.32, -0.93])
EARTH_RADIUS_M = 6378137.0
UNEVEN_MS = 1.0  # frame spacings that differ by more get a note
MAX_EXTRAPOLATION_S = 0.12  # camera times may lie one odometry step outside the odometry
# columns of an OXTS line
LAT, LON, YAW, FORWARD, LEFT, ACC_FORWARD, ACC_LEFT, YAW_RATE = 0, 1, 5, 8, 9, 14, 15, 22
OXTS_COLUMNS = 30
MAX_READING_BYTES = 64 * 2**10  # of one odometry file; a sound one has about 500


@dataclass(frozen=True, slots=True)
class DriveFrames:
    """The rows of a drive at the camera's time stamps."""

    index: np.ndarray  # (T,) int32
    timestamp_us: np.ndarray  # (T,) int64
    # (T, 3): east and north of the first odometry reading, heading from east
    pose_world: np.ndarray
    # (T, 4): forward and left velocity, forward and left acceleration
    motion: np.ndarray
    notes: tuple[str, ...]


def read_drive_frames(folder: Path) -> DriveFrames:
    """The rows of the drive in `folder`, cached until its odometry changes.

    Raises SourceError for odometry that is incomplete, damaged, or goes back in time.
    """
    stamps = [folder / "oxts" / "timestamps.txt", folder / "oxts" / "data"]
    return _frames_cached(
        folder, tuple(path.stat().st_mtime_ns if path.exists() else 0 for path in stamps)
    )


@lru_cache(maxsize=4)
def _frames_cached(folder: Path, _stamps: tuple[int, ...]) -> DriveFrames:
    front = next(
        (name for name in CAMERAS if (folder / name / "timestamps.txt").exists()), CAMERAS[0]
    )
    camera_us, oxts_us = (
        read_timestamps_us(folder / name / "timestamps.txt") for name in (front, "oxts")
    )
    oxts = _oxts(folder, len(oxts_us))
    pose, motion = _rear_axle(oxts)
    notes = _clock_notes(camera_us, oxts_us)
    # poses after the last image are kept as the future of earlier frames
    if len(oxts_us) > len(camera_us):
        shift_us = int(np.median(camera_us - oxts_us[: len(camera_us)]))
        camera_us = np.append(camera_us, oxts_us[len(camera_us) :] + shift_us)
    slack_us = MAX_EXTRAPOLATION_S * 1e6
    inside = (camera_us >= oxts_us[0] - slack_us) & (camera_us <= oxts_us[-1] + slack_us)
    if not inside.all():
        notes.append(f"{int((~inside).sum())} images have no pose near their time and are left out")
    index = np.flatnonzero(inside).astype(np.int32)
    values = _at(
        (oxts_us - oxts_us[0]) * 1e-6,
        np.column_stack([pose[:, :2], np.unwrap(pose[:, 2]), motion]),
        (camera_us[index] - oxts_us[0]) * 1e-6,
    )
    return DriveFrames(
        index,
        camera_us[index],
        np.column_stack([values[:, :2], wrapped(values[:, 2])]),
        values[:, 3:],
        tuple(notes),
    )


def _clock_notes(camera_us: np.ndarray, oxts_us: np.ndarray) -> list[str]:
    both = min(len(camera_us), len(oxts_us))
    offset_ms = (oxts_us[:both] - camera_us[:both]) / 1000
    median_ms = np.median(offset_ms)
    order = "behind" if median_ms >= 0 else "ahead of"
    notes = [
        f"the odometry clock is {abs(median_ms):.1f} ms {order} the camera's "
        f"(at most {np.abs(offset_ms).max():.1f} ms apart): "
        f"poses are interpolated to the camera's time stamps"
    ]
    if len(oxts_us) > len(camera_us):
        notes.append(
            f"{len(oxts_us)} poses for {len(camera_us)} images: the "
            f"{len(oxts_us) - len(camera_us)} after the last image stay as rows without an image"
        )
    spacing = {
        name: np.diff(time_us) / 1000
        for name, time_us in (("camera", camera_us), ("odometry", oxts_us))
    }
    uneven = [
        f"{name} {step_ms.min():.1f} to {step_ms.max():.1f} ms"
        for name, step_ms in spacing.items()
        if len(step_ms) and step_ms.max() - step_ms.min() > UNEVEN_MS
    ]
    if uneven:
        notes.append(
            f"uneven frame spacing, {', '.join(uneven)}: "
            f"history and future are interpolated at exact times, not taken by counting rows"
        )
    return notes


def _oxts(folder: Path, lines: int) -> np.ndarray:
    """Odometry readings (n, 30) in the order of their files."""
    readings = folder / "oxts" / "data"
    files = [readings / name for name in regular_files(readings, is_reading)]
    if len(files) != lines or lines < 2:
        raise SourceError(
            "the odometry is incomplete",
            where=folder / "oxts",
            do="copy the drive again",
            expected="one file for each line of timestamps.txt, at least two",
            found=f"{len(files)} files, {lines} times",
        )
    rows = [read_text(file, MAX_READING_BYTES).split() for file in files]
    for file, row in zip(files, rows, strict=True):
        if len(row) != OXTS_COLUMNS:
            raise SourceError(
                "an odometry file is damaged",
                where=f"frame {int(file.stem)}, file {file}",
                expected=f"{OXTS_COLUMNS} numbers",
                found=f"{len(row)}",
                do="copy the drive again",
            )
    return np.array(rows, dtype=np.float64)


def is_reading(name: str) -> bool:
    """True for the name of an odometry file."""
    return name.endswith(".txt")


def _rear_axle(oxts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Poses (n, 3) and motion (n, 4) of the rear axle from the readings (n, 30) of the OXTS unit.

    Position by the Mercator projection with the scale of the first latitude, as in KITTI's devkit.
    """
    scale = np.cos(np.radians(oxts[0, LAT]))
    east = scale * EARTH_RADIUS_M * np.radians(oxts[:, LON])
    north = scale * EARTH_RADIUS_M * np.log(np.tan(np.radians(90 + oxts[:, LAT]) / 2))
    lever_x, lever_y, _ = REAR_AXLE_IN_IMU
    cos, sin = np.cos(oxts[:, YAW]), np.sin(oxts[:, YAW])
    x, y = (
        east - east[0] + cos * lever_x - sin * lever_y,
        north - north[0] + sin * lever_x + cos * lever_y,
    )
    rate = oxts[:, YAW_RATE]
    # v + omega x r
    forward, left = oxts[:, FORWARD] - rate * lever_y, oxts[:, LEFT] + rate * lever_x
    # centripetal part
    acceleration = oxts[:, [ACC_FORWARD, ACC_LEFT]] - (rate**2)[:, None] * REAR_AXLE_IN_IMU[:2]
    return np.column_stack([x, y, oxts[:, YAW]]), np.column_stack([forward, left, acceleration])


def _at(time_s: np.ndarray, values: np.ndarray, query_s: np.ndarray) -> np.ndarray:
    """Columns of `values` (n, c) at the times `query_s`, by linear inter- and extrapolation."""
    if (np.diff(time_s) <= 0).any():
        row = int(np.flatnonzero(np.diff(time_s) <= 0)[0]) + 1
        raise SourceError(
            "odometry time stamps go back or stand still",
            where=f"frame {row} of oxts/timestamps.txt",
            expected=f"above {time_s[row - 1]} s",
            found=f"{time_s[row]} s",
            do="copy the drive again",
        )
    left = np.clip(np.searchsorted(time_s, query_s, side="right") - 1, 0, len(time_s) - 2)
    weight = ((query_s - time_s[left]) / (time_s[left + 1] - time_s[left]))[:, None]
    return values[left] + weight * (values[left + 1] - values[left])


def read_timestamps_us(file: Path) -> np.ndarray:
    """Time stamps (n,) int64 in microseconds. Raises SourceError if the file cannot be read."""
    try:
        lines = read_text(file).split("\n")
        stamps = np.array(
            [line.strip().replace(" ", "T") for line in lines if line.strip()],
            dtype="datetime64[ns]",
        )
    except ValueError as error:
        raise SourceError(
            "time stamps cannot be read",
            where=file,
            expected="one date and time a line",
            found=str(error),
            do="copy the drive again",
        ) from error
    return stamps.astype(np.int64) // 1000
