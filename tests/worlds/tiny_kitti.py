"""Writes a tiny drive in the KITTI raw format: a car on a circle, odometry 12 ms behind camera."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np

from tests.worlds.tiny_openscene import write_image

DRIVE = "2011_09_26_drive_0001"
EARTH_RADIUS_M = 6378137.0
LATITUDE, LONGITUDE = 49.0, 8.4
SPEED_MPS, RADIUS_M = 6.0, 40.0
UNIT_IN_REAR_AXLE = np.array([-0.05, 0.32])  # where the odometry unit sits, seen from the rear axle


def rear_axle_pose(time_s: np.ndarray) -> np.ndarray:
    """Poses (n, 3) on the circle, relative to its centre."""
    angle = SPEED_MPS / RADIUS_M * np.asarray(time_s)
    return np.stack([RADIUS_M * np.sin(angle), -RADIUS_M * np.cos(angle), angle], axis=-1)


def write_drive(
    raw: Path,
    *,
    images: int = 70,
    poses: int = 70,
    camera_offset_s: float = 0.012,
    size_hw: tuple[int, int] = (33, 64),
) -> Path:
    """Write one drive at 10 Hz with slightly uneven spacing; returns its folder."""
    folder = raw / "2011_09_26" / f"{DRIVE}_sync"
    (folder / "oxts" / "data").mkdir(parents=True)
    jitter = 0.003 * np.sin(np.arange(max(images, poses)))
    camera_s, oxts_s = (
        0.1 * np.arange(images) + jitter[:images],
        0.1 * np.arange(poses) + camera_offset_s,
    )
    for index in range(images):
        write_image(folder / "image_02" / "data" / f"{index:010d}.png", index, size_hw)
    for name, stamps in (("image_02", camera_s), ("oxts", oxts_s)):
        (folder / name / "timestamps.txt").write_text(
            "".join(f"{_stamp(stamp)}\n" for stamp in stamps)
        )
    for index, line in enumerate(_oxts(oxts_s)):
        (folder / "oxts" / "data" / f"{index:010d}.txt").write_text(
            " ".join(f"{value:.12f}" for value in line)
        )
    for name, content in _calibration().items():
        (folder.parent / name).write_text(content)
    (folder / "tracklet_labels.xml").write_text(_tracklets(images))
    return folder


def _stamp(time_s: float) -> str:
    start = datetime(2011, 9, 26, 13, 4, 32, tzinfo=UTC)
    return (start + timedelta(seconds=time_s)).strftime("%Y-%m-%d %H:%M:%S.%f") + "000"


def _oxts(time_s: np.ndarray) -> np.ndarray:
    """Readings (n, 30) of the unit: Mercator projection of its position, rigid-body motion."""
    pose = rear_axle_pose(time_s)
    lever_x, lever_y = UNIT_IN_REAR_AXLE
    cos, sin = np.cos(pose[:, 2]), np.sin(pose[:, 2])
    east, north = (
        pose[:, 0] + cos * lever_x - sin * lever_y,
        pose[:, 1] + sin * lever_x + cos * lever_y,
    )
    scale, rate = np.cos(np.radians(LATITUDE)), SPEED_MPS / RADIUS_M
    north0 = EARTH_RADIUS_M * scale * np.log(np.tan(np.radians(90 + LATITUDE) / 2)) - north[0]
    out = np.zeros((len(time_s), 30))
    out[:, 0] = np.degrees(2 * np.arctan(np.exp((north + north0) / (EARTH_RADIUS_M * scale)))) - 90
    out[:, 1] = LONGITUDE + np.degrees(east / (EARTH_RADIUS_M * scale))
    out[:, 5] = (pose[:, 2] + np.pi) % (2 * np.pi) - np.pi
    out[:, 8], out[:, 9] = SPEED_MPS - rate * lever_y, rate * lever_x
    out[:, 14], out[:, 15] = -(rate**2) * lever_x, rate * SPEED_MPS - rate**2 * lever_y
    out[:, 22] = rate
    return out


def _calibration() -> dict[str, str]:
    axes = "0 -1 0 0 0 -1 1 0 0"
    return {
        "calib_imu_to_velo.txt": "calib_time: x\nR: 1 0 0 0 1 0 0 0 1\nT: -0.81 0.32 -0.80\n",
        "calib_velo_to_cam.txt": f"calib_time: x\nR: {axes}\nT: 0 -0.08 -0.27\n",
        "calib_cam_to_cam.txt": "calib_time: x\nR_rect_00: 1 0 0 0 1 0 0 0 1\n"
        "P_rect_02: 60 0 31.5 3.6 0 60 16 0 0 0 1 0\n",
    }


def _tracklets(frames: int) -> str:
    """One car 10 m ahead of the Velodyne for the whole drive."""
    pose = "<item><tx>10</tx><ty>0</ty><tz>-1.7</tz><rx>0</rx><ry>0</ry><rz>0</rz></item>"
    return (
        f"<boost_serialization><tracklets><count>1</count><item><objectType>Car</objectType>"
        f"<h>1.6</h><w>1.8</w><l>4.2</l><first_frame>0</first_frame>"
        f"<poses><count>{frames}</count>{pose * frames}</poses></item>"
        f"</tracklets></boost_serialization>"
    )
