"""Writes a tiny segment of comma2k19: a car on a circle, filmed by a camera that hangs aslant."""

from pathlib import Path

import numpy as np

from storage.sources.camera_file import OPTICAL, mounted
from storage.sources.comma2k19 import CAMERA_IN_EGO
from tests.worlds.tiny_kitti import SPEED_MPS, rear_axle_pose
from tests.worlds.tiny_video import encode

ROUTE, SEGMENT = "b0c9d2329ad1606b|2018-08-02--08-34-47", 40
LOG = f"{ROUTE.replace('|', '_')}--{SEGMENT}"
BOOT_S = 46408.5
LATITUDE, LONGITUDE = np.radians([37.72, -122.47])
YAW_RAD, PITCH_RAD = np.radians([1.5, 3.0])  # the camera looks to the left, and down


def earth_axes() -> np.ndarray:
    """East, north and up (3, 3) in ECEF, a row each."""
    (sin_lat, cos_lat), (sin_lon, cos_lon) = (
        (np.sin(angle), np.cos(angle)) for angle in (LATITUDE, LONGITUDE)
    )
    return np.array(
        [
            [-sin_lon, cos_lon, 0],
            [-sin_lat * cos_lon, -sin_lat * sin_lon, cos_lat],
            [cos_lat * cos_lon, cos_lat * sin_lon, sin_lat],
        ]
    )


def write_segment(
    raw: Path, *, route: str = ROUTE, frames: int = 150, videos: int | None = None
) -> Path:
    """Write one segment at 20 Hz, `videos` frames of it in the video; returns its folder."""
    folder = raw / "Chunk_1" / route / str(SEGMENT)
    time_s = 0.05 * np.arange(frames)
    encode(folder / "video.hevc", range(videos or frames))
    pose = rear_axle_pose(time_s)
    heading = pose[:, 2]
    to_world = np.zeros((frames, 3, 3))
    to_world[:, 0, 0] = to_world[:, 1, 1] = np.cos(heading)
    to_world[:, 1, 0], to_world[:, 0, 1] = np.sin(heading), -np.sin(heading)
    to_world[:, 2, 2] = 1
    camera = np.column_stack([pose[:, :2], np.zeros(frames)]) + to_world @ CAMERA_IN_EGO
    # the camera's forward, right and down
    device = mounted(YAW_RAD, PITCH_RAD, 0) @ OPTICAL.T @ np.diag([1.0, -1.0, -1.0])
    axes = earth_axes()
    # the normal of the ellipsoid of WGS 84, from its surface to the axis
    normal = 6378137.0 / np.sqrt(1 - 0.00669437999014 * np.sin(LATITUDE) ** 2)
    place = axes[2] * normal - [0, 0, 0.00669437999014 * normal * np.sin(LATITUDE)]
    arrays = {
        "global_pose/frame_times": BOOT_S + time_s,
        "global_pose/frame_positions": place + camera @ axes,
        "global_pose/frame_orientations": np.array(
            [_quaternion(axes.T @ turn @ device) for turn in to_world]
        ),
        "processed_log/CAN/speed/t": BOOT_S + np.arange(0, frames * 0.05, 0.012),
    }
    arrays["processed_log/CAN/speed/value"] = np.full(
        (len(arrays["processed_log/CAN/speed/t"]), 1), SPEED_MPS
    )
    for name, values in arrays.items():
        save(folder / name, values)
    return folder


def save(file: Path, values: np.ndarray) -> None:
    """Write an array under a name without ending, as the data set has it."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("wb") as stream:
        np.save(stream, values)


def _quaternion(turn: np.ndarray) -> np.ndarray:
    from scipy.spatial.transform import Rotation

    return Rotation.from_matrix(turn).as_quat()[[3, 0, 1, 2]]
