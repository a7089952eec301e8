"""The odometry of a KITTI drive at the rear axle, interpolated to the camera's time stamps.

Handles separate clocks of camera and odometry, uneven frame spacing, and the lever arm between the
odometry unit and the rear axle.
"""

from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from storage.errors import SourceError
from storage.sources.kitti_rows import (
    Recording,
    best_of,
    check_clocks,
    is_numbered,
    numbered_files,
    shared_numbers,
    stamp_text,
    ways_to_join,
)
from storage.sources.raw_files import read_text, regular_files
from storage.sources.rotations import wrapped

CAMERAS = ("image_02", "image_03", "image_00", "image_01")  # colour left is the front camera
# metres; Geiger et al., "Vision meets Robotics" (2013), figure 1
REAR_AXLE_IN_IMU = np.array([0.05, -0.32, -0.93])
EARTH_RADIUS_M = 6378137.0
UNEVEN_MS = 1.0  # frame spacings that differ by more get a note
MAX_EXTRAPOLATION_S = 0.12  # camera times may lie one odometry step outside the odometry
MAX_GAP_S = 1.1  # no pose is interpolated between readings farther apart than this
MAX_INDEX = 2**31 - 1  # a frame_index is an int32
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
    """The rows of the drive in `folder`, cached until a file of times or odometry changes.

    Raises SourceError for odometry that is incomplete, damaged, or goes back in time, for time
    stamps that fit to no numbers, and for two clocks.
    """
    return _frames_cached(folder, _state(folder))


def recording_of(folder: Path, camera: str) -> Recording:
    """The images of one camera with their numbers and times. Raises SourceError as
    read_drive_frames.
    """
    front, odometry = _recordings(folder, _state(folder))
    if camera == _front(folder):
        return front
    files = images_of(folder, camera)
    return best_of((way, odometry) for way in _camera_ways(folder, camera, files, odometry))[0]


def images_of(folder: Path, camera: str) -> dict[int, Path]:
    """Number -> image of one camera, in numeric order. Raises SourceError for two images of one
    number.
    """
    return numbered_files(folder / camera / "data", is_image, "images")


def is_image(name: str) -> bool:
    """True for a name with the ending of an image."""
    return name.lower().endswith((".png", ".jpg", ".jpeg"))


def is_reading(name: str) -> bool:
    """True for the name of an odometry file."""
    return name.endswith(".txt") and is_numbered(name)


def _state(folder: Path) -> tuple[tuple[str, int, int], ...]:
    """Time of change and size of all that the rows come from; of images, of their folders."""
    readings = folder / "oxts" / "data"
    files = [
        *(folder / name / part for name in CAMERAS for part in ("timestamps.txt", "data")),
        folder / "oxts" / "timestamps.txt",
        *(readings / name for name in regular_files(readings, is_reading)),
    ]
    states = []
    for file in files:
        with suppress(FileNotFoundError, NotADirectoryError):
            state = file.stat()
            states.append((str(file), state.st_mtime_ns, state.st_size))
    return tuple(states)


def _front(folder: Path) -> str:
    return next((name for name in CAMERAS if images_of(folder, name)), CAMERAS[0])


def _camera_ways(
    folder: Path, camera: str, files: dict[int, Path], odometry: Recording | None, first: int = 0
) -> list[Recording]:
    stamps = folder / camera / "timestamps.txt"
    first = first if odometry is None else int(odometry.number[0])
    what = f"the time stamps of {camera} and its images do not belong together"
    return ways_to_join(stamps, read_timestamps_us(stamps), files, first, what)


@lru_cache(maxsize=4)
def _recordings(folder: Path, _state: tuple) -> tuple[Recording, Recording]:
    """The front camera's recording and the odometry's."""
    front = _front(folder)
    images = images_of(folder, front)
    readings = numbered_files(folder / "oxts" / "data", is_reading, "readings")
    stamps = folder / "oxts" / "timestamps.txt"
    cameras = _camera_ways(folder, front, images, None, min(readings, default=0))
    times, first = read_timestamps_us(stamps), min(images, default=0)
    what = "the odometry is incomplete"
    odometries = ways_to_join(stamps, times, readings, first, what) if len(readings) > 1 else []
    if not odometries:
        raise SourceError(
            what,
            where=folder / "oxts",
            do="copy the drive again",
            expected="one file for each line of timestamps.txt, at least two",
            found=f"{len(readings)} files, {len(times)} times",
        )
    return best_of((camera, odometry) for camera in cameras for odometry in odometries)


@lru_cache(maxsize=4)
def _frames_cached(folder: Path, state: tuple) -> DriveFrames:
    camera, odometry = _recordings(folder, state)
    _check_order(odometry)
    check_clocks(camera, odometry, folder)
    number, time_us, notes = _rows(camera, odometry)
    pose, motion = _rear_axle(_oxts(odometry))
    read = np.isin(odometry.number, list(odometry.files))
    oxts_us = odometry.time_us[read]
    inside = _near_odometry(time_us, oxts_us)
    left_out = sum(index in camera.files for index in number[~inside].tolist())
    if left_out:
        notes.append(f"{left_out} images have no pose near their time and are left out")
    values = _at(
        (oxts_us - oxts_us[0]) * 1e-6,
        np.column_stack([pose[:, :2], np.unwrap(pose[:, 2]), motion]),
        (time_us[inside] - oxts_us[0]) * 1e-6,
    )
    return DriveFrames(
        number[inside].astype(np.int32),
        time_us[inside],
        np.column_stack([values[:, :2], wrapped(values[:, 2])]),
        values[:, 3:],
        tuple(notes),
    )


def _rows(camera: Recording, odometry: Recording) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Number and time (T,) of each row, by number: the camera's, and those of the odometry alone,
    which are past and future of the others, at its time less the median offset of the clocks.
    """
    both, ours, theirs = shared_numbers(camera, odometry)
    highest = max(int(camera.number[-1]), int(odometry.number[-1]))
    if highest > MAX_INDEX:
        raise SourceError(
            "the number of a frame is too high",
            where=f"frame {highest}",
            expected=f"at most {MAX_INDEX}",
            found=str(highest),
            do="number the files of the drive from 0",
        )
    notes = _clock_notes(camera, odometry, ours, theirs)
    if not len(both):
        return camera.number, camera.time_us, notes
    alone = ~np.isin(odometry.number, camera.number)
    shift_us = int(np.median(camera.time_us[ours] - odometry.time_us[theirs]))
    number = np.concatenate([camera.number, odometry.number[alone]])
    time_us = np.concatenate([camera.time_us, odometry.time_us[alone] + shift_us])
    order = np.argsort(number, kind="stable")
    return number[order], time_us[order], notes


def _near_odometry(time_us: np.ndarray, oxts_us: np.ndarray) -> np.ndarray:
    """Mask (T,) of the times that lie at most MAX_EXTRAPOLATION_S from a reading, or between two
    that are at most MAX_GAP_S apart.
    """
    right = np.clip(np.searchsorted(oxts_us, time_us), 1, len(oxts_us) - 1)
    before, after = oxts_us[right - 1], oxts_us[right]
    nearest = np.minimum(np.abs(time_us - before), np.abs(time_us - after))
    between = (before <= time_us) & (time_us <= after) & (after - before <= MAX_GAP_S * 1e6)
    return between | (nearest <= MAX_EXTRAPOLATION_S * 1e6)


def _clock_notes(
    camera: Recording, odometry: Recording, ours: np.ndarray, theirs: np.ndarray
) -> list[str]:
    notes = []
    if len(ours):
        offset_ms = (odometry.time_us[theirs] - camera.time_us[ours]) / 1000
        median_ms = np.median(offset_ms)
        order = "behind" if median_ms >= 0 else "ahead of"
        notes.append(
            f"the odometry clock is {abs(median_ms):.1f} ms {order} the camera's "
            f"(at most {np.abs(offset_ms).max():.1f} ms apart): "
            f"poses are interpolated to the camera's time stamps"
        )
        notes += _gap_notes(camera, odometry)
    else:
        notes.append(
            "images and odometry are numbered differently: joined by their time stamps alone"
        )
    lost = len(odometry.number) - len(odometry.files)
    if lost:
        notes.append(
            f"{lost} of {len(odometry.number)} odometry readings have no file: poses are "
            f"interpolated across gaps of up to {MAX_GAP_S} s"
        )
    spacing = {
        name: np.diff(item.time_us) / 1000
        for name, item in (("camera", camera), ("odometry", odometry))
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


def _gap_notes(camera: Recording, odometry: Recording) -> list[str]:
    """What one of both has and the other has not."""
    alone = odometry.number[~np.isin(odometry.number, camera.number)]
    later = int((alone > camera.number[-1]).sum())
    notes = []
    if later:
        notes.append(
            f"{len(odometry.number)} poses for {len(camera.number)} images: the "
            f"{later} after the last image stay as rows without an image"
        )
    if len(alone) > later:
        notes.append(
            f"{len(alone) - later} poses before the last image have no image of their number and "
            f"stay as rows without an image"
        )
    gaps = int((np.diff(camera.number) > 1).sum())
    if gaps:
        notes.append(f"the numbers of the images have {gaps} gaps, which stay gaps in time")
    if camera.number[0] > 0:
        notes.append(f"the frames are numbered from {int(camera.number[0])}, as their files are")
    return notes


def _oxts(odometry: Recording) -> np.ndarray:
    """Odometry readings (n, 30) in the order of their numbers."""
    rows = []
    for number, file in odometry.files.items():
        row = read_text(file, MAX_READING_BYTES).split()
        if len(row) != OXTS_COLUMNS:
            raise SourceError(
                "an odometry file is damaged",
                where=f"frame {number}, file {file}",
                expected=f"{OXTS_COLUMNS} numbers",
                found=f"{len(row)}",
                do="copy the drive again",
            )
        rows.append(row)
    return np.array(rows, dtype=np.float64)


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


def _check_order(odometry: Recording) -> None:
    time_us = odometry.time_us
    if (np.diff(time_us) <= 0).any():
        row = int(np.flatnonzero(np.diff(time_us) <= 0)[0]) + 1
        raise SourceError(
            "odometry time stamps go back or stand still",
            where=f"frame {int(odometry.number[row])}, line {row + 1} of oxts/timestamps.txt",
            expected=f"later than {stamp_text(time_us[row - 1])}",
            found=stamp_text(time_us[row]),
            do="copy the drive again",
        )


def _at(time_s: np.ndarray, values: np.ndarray, query_s: np.ndarray) -> np.ndarray:
    """Columns of `values` (n, c) at the times `query_s`, by linear inter- and extrapolation."""
    left = np.clip(np.searchsorted(time_s, query_s, side="right") - 1, 0, len(time_s) - 2)
    weight = ((query_s - time_s[left]) / (time_s[left + 1] - time_s[left]))[:, None]
    return values[left] + weight * (values[left + 1] - values[left])


def read_timestamps_us(file: Path) -> np.ndarray:
    """Time stamps (n,) int64 in microseconds, one a line; empty lines at the end do not count.

    Raises SourceError if the file cannot be read, also for an empty line before its end: the place
    of a line is the number of its frame.
    """
    lines = [line.strip() for line in read_text(file).rstrip().split("\n")]
    empty = lines.index("") + 1 if "" in lines[:-1] else 0
    try:
        found = f"line {empty} is empty"
        stamps = np.array(
            [line.replace(" ", "T") for line in lines if line], dtype="datetime64[ns]"
        )
        bad = np.flatnonzero(np.isnat(stamps))
        empty, found = (int(bad[0]) + 1, "NaT") if len(bad) and not empty else (empty, found)
    except ValueError as error:
        empty, found = 1, str(error)
    if empty:
        raise SourceError(
            "time stamps cannot be read",
            where=file,
            expected="one date and time a line",
            found=found,
            do="copy the drive again",
        )
    return stamps.astype(np.int64) // 1000
