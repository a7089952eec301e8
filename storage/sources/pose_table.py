"""Poses of a car in a CSV file, for logs of the plain video format.

Legend: P rows of the file, T times.
"""

from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np

from storage.errors import SourceError
from storage.sources.checked import require_us
from storage.sources.earth import east_north_up, ecef_from_degrees
from storage.sources.motion import (
    motion_of_poses,
    require_heading,
    signed_speed,
    whole_microseconds,
)
from storage.sources.raw_files import MAX_TEXT_BYTES, REPAIR, read_regular
from storage.sources.rotations import wrapped, yaw_of_quaternion

# one of each group; every other column is ignored
TIME = (("timestamp_us",), ("time_s",))
PLACE = (("x_m", "y_m"), ("latitude_deg", "longitude_deg"))
HEADING = (("yaw_rad",), ("yaw_deg",), ("heading_deg",), ("qw", "qx", "qy", "qz"))
SPEED, ALTITUDE = "speed_mps", "altitude_m"
MAX_GAP_S = 1.1  # no pose is interpolated between rows farther apart
UNIT_TOLERANCE = 0.01  # of a quaternion's length


@dataclass(frozen=True, slots=True)
class PoseTable:
    """The poses of a log on their own clock."""

    time_us: np.ndarray  # (P,) int64, increasing
    pose_world: np.ndarray  # (P, 3)
    motion: np.ndarray  # (P, 4) as motion_of_poses gives it


def read_columns(file: Path, groups: tuple[tuple[tuple[str, ...], ...], ...]) -> dict:
    """Columns (P,) of a CSV file with a header: of each group the one set that the file has, and
    speed and altitude if there. Whole microseconds are int64, all else float64.

    Raises SourceError for a set that is missing or there twice, and with the line for a value that
    is no finite number.
    """
    import pyarrow as pa
    from pyarrow import csv

    try:
        data = read_regular(file, MAX_TEXT_BYTES)
        header = data.split(b"\n", 1)[0].decode("utf-8-sig").strip().split(",")
        names = [name.strip().strip('"') for name in header]
        chosen = [_chosen(file, names, group) for group in groups]
        wanted = [name for group in chosen for name in group]
        wanted += [name for name in (SPEED, ALTITUDE) if name in names]
        kinds = {
            name: pa.int64() if name in ("timestamp_us", "frame_index") else pa.float64()
            for name in wanted
        }
        table = csv.read_csv(
            BytesIO(data),
            read_options=csv.ReadOptions(column_names=names, skip_rows=1, use_threads=False),
            convert_options=csv.ConvertOptions(column_types=kinds, include_columns=wanted),
        )
    except (pa.ArrowInvalid, pa.ArrowKeyError, UnicodeDecodeError) as error:
        raise _bad(file, "lines of numbers, separated by commas", str(error)) from error
    columns = {}
    for name in wanted:
        values = table[name].combine_chunks()
        bad = np.flatnonzero(~np.isfinite(values.cast(pa.float64(), safe=False).to_numpy(False)))
        if len(bad):
            raise _bad(f"{file}, line {bad[0] + 2}", f"a finite number in {name}", "none")
        columns[name] = values.to_numpy(zero_copy_only=False)
    if not len(table):
        raise _bad(file, "at least one line below the header", "none")
    return columns


def read_poses(file: Path, pose_in_ego: tuple[float, float]) -> PoseTable:
    """Poses of the rear axle and their motion.

    `pose_in_ego`: where the recorded point lies, metres forward and left of the rear axle. Latitude
    and longitude become metres east and north of the first row. Raises SourceError as read_columns,
    for time that does not increase, latitudes beyond the poles, quaternions that are not of unit
    length, and a speed that is not that of the poses.
    """
    columns = read_columns(file, (TIME, PLACE, HEADING))
    time_us = columns.get("timestamp_us")
    if time_us is None:
        time_us = whole_microseconds(columns["time_s"], f"{file}, column time_s")
    else:
        require_us(time_us, f"{file}, column timestamp_us")
    _require(file, np.diff(time_us, prepend=time_us[0] - 1) > 0, "times that increase", time_us)
    xy, yaw_rad = _place(file, columns), _yaw(file, columns)
    cos, sin = np.cos(yaw_rad), np.sin(yaw_rad)
    forward, left = pose_in_ego
    x, y = xy[:, 0] - cos * forward + sin * left, xy[:, 1] - sin * forward - cos * left
    pose_world = np.column_stack([x, y, wrapped(yaw_rad)])
    motion = motion_of_poses((time_us - time_us[0]) * 1e-6, pose_world)
    require_heading(motion, file)
    if SPEED in columns:
        motion[:, 0] = signed_speed(columns[SPEED], motion[:, 0], f"{file}, column {SPEED}")
    return PoseTable(time_us, pose_world, motion)


def poses_between(table: PoseTable, time_us: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pose and motion (T, 7) at `time_us` (T,), linear between rows, headings the short way round;
    and (T,) bool: the time lies between two rows at most MAX_GAP_S apart, or on a row.
    """
    if len(table.time_us) == 1:
        values = np.column_stack([table.pose_world, table.motion])
        return np.repeat(values, len(time_us), axis=0), time_us == table.time_us[0]
    at = np.clip(np.searchsorted(table.time_us, time_us, "right") - 1, 0, len(table.time_us) - 2)
    step_us = table.time_us[at + 1] - table.time_us[at]
    weight = ((time_us - table.time_us[at]) / step_us)[:, None]
    yaw = np.unwrap(table.pose_world[:, 2])
    values = np.column_stack([table.pose_world[:, :2], yaw, table.motion])
    between = values[at] + weight * (values[at + 1] - values[at])
    between[:, 2] = wrapped(between[:, 2])
    on_row = (weight[:, 0] == 0) | (weight[:, 0] == 1)
    inside = (weight[:, 0] >= 0) & (weight[:, 0] <= 1)
    return between, inside & ((step_us <= MAX_GAP_S * 1e6) | on_row)


def _chosen(file: Path, names: list[str], group: tuple[tuple[str, ...], ...]) -> tuple[str, ...]:
    found = [item for item in group if set(item) <= set(names)]
    if len(found) != 1 or any(names.count(name) > 1 for name in found[0]):
        choices = " or ".join(", ".join(item) for item in group)
        raise _bad(file, f"the columns {choices}", ", ".join(names)[:500])
    return found[0]


def _place(file: Path, columns: dict) -> np.ndarray:
    if "x_m" in columns:
        return np.column_stack([columns["x_m"], columns["y_m"]])
    degrees = np.column_stack([columns["latitude_deg"], columns["longitude_deg"]])
    _require(file, (np.abs(degrees) <= [90, 360]).all(axis=1), "degrees", degrees)
    altitude = columns.get(ALTITUDE, np.zeros(len(degrees)))
    ecef = ecef_from_degrees(np.column_stack([degrees, altitude]))
    return ((ecef - ecef[0]) @ east_north_up(ecef[0]).T)[:, :2]


def _yaw(file: Path, columns: dict) -> np.ndarray:
    if "yaw_rad" in columns:
        return columns["yaw_rad"]
    if "yaw_deg" in columns:
        return np.radians(columns["yaw_deg"])
    if "heading_deg" in columns:  # clockwise from north
        return np.radians(90 - columns["heading_deg"])
    wxyz = np.column_stack([columns[name] for name in HEADING[3]])
    length = np.linalg.norm(wxyz, axis=1)
    _require(file, np.abs(length - 1) <= UNIT_TOLERANCE, "quaternions of unit length", wxyz)
    return yaw_of_quaternion(wxyz / length[:, None])


def _require(file: Path, sound: np.ndarray, expected: str, values: np.ndarray) -> None:
    if not sound.all():
        row = int(np.flatnonzero(~sound)[0])
        raise _bad(f"{file}, line {row + 2}", expected, f"{values[row]}")


def _bad(where: object, expected: str, found: str) -> SourceError:
    return SourceError(
        "a table of a log cannot be read",
        where=where,
        expected=expected,
        found=found,
        do=f"{REPAIR}; columns: docs/bring_your_own_logs.md",
    )
