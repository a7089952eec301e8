"""Writes a tiny sequence of the KITTI odometry benchmark: a car on a circle."""

from pathlib import Path

import numpy as np

from tests.worlds.tiny_kitti import rear_axle_pose
from tests.worlds.tiny_openscene import write_image

SEQUENCE = "00"
LOG = f"sequence_{SEQUENCE}"
TO_CAMERA = np.array([[0, -1, 0, 0], [0, 0, -1, -0.08], [1, 0, 0, -0.27], [0, 0, 0, 1.0]])
VELODYNE = np.array([0.76, 0.0, 1.73])


def write_sequence(
    raw: Path,
    sequence: str = SEQUENCE,
    *,
    frames: int = 70,
    camera: str = "image_2",
    with_tr: bool = True,
) -> Path:
    """Write one sequence at about 10 Hz; returns its folder."""
    folder = raw / "sequences" / sequence
    time_s = 0.1038 * np.arange(frames)
    for index in range(frames):
        write_image(folder / camera / f"{index:06d}.png", index, (33, 64))
    (folder / "times.txt").write_text("".join(f"{time:e}\n" for time in time_s))
    (folder / "calib.txt").write_text(
        "".join(
            f"P{number}: 60 0 31.5 {shift} 0 60 16 0 0 0 1 0\n"
            for number, shift in enumerate((0, -32.4, 3.6, -28.8))
        )
        + ("Tr: " + " ".join(map(str, TO_CAMERA[:3].ravel())) + "\n" if with_tr else "")
    )
    lines = [" ".join(f"{value:e}" for value in pose[:3].ravel()) for pose in camera_poses(time_s)]
    (raw / "poses").mkdir(exist_ok=True)
    (raw / "poses" / f"{sequence}.txt").write_text("\n".join(lines) + "\n")
    return folder


def camera_poses(time_s: np.ndarray) -> np.ndarray:
    """Camera 0 in the frame of its first pose (T, 4, 4)."""
    x, y, heading = rear_axle_pose(time_s).T
    ego = np.tile(np.eye(4), (len(time_s), 1, 1))
    ego[:, 0, 0] = ego[:, 1, 1] = np.cos(heading)
    ego[:, 1, 0], ego[:, 0, 1] = np.sin(heading), -np.sin(heading)
    ego[:, 0, 3], ego[:, 1, 3] = x, y
    to_velodyne = np.eye(4)
    to_velodyne[:3, 3] = -VELODYNE
    cameras = ego @ np.linalg.inv(TO_CAMERA @ to_velodyne)
    return np.linalg.inv(cameras[0]) @ cameras
