"""Arrays of angles and unit quaternions."""

import numpy as np


def wrapped(yaw_rad: np.ndarray) -> np.ndarray:
    """Angles in radians, wrapped to [-pi, pi)."""
    return (yaw_rad + np.pi) % (2 * np.pi) - np.pi


def yaw_of_quaternion(wxyz: np.ndarray) -> np.ndarray:
    """Heading (n,) in radians of unit quaternions (n, 4) in the order w, x, y, z."""
    w, x, y, z = wxyz.T
    return np.arctan2(2 * (w * z + x * y), 1 - 2 * (y * y + z * z))


def rotation_of_quaternion(wxyz: np.ndarray) -> np.ndarray:
    """Rotation matrices (n, 3, 3) of unit quaternions (n, 4) in the order w, x, y, z."""
    w, x, y, z = wxyz.T
    return np.stack(
        [
            1 - 2 * (y * y + z * z),
            2 * (x * y - w * z),
            2 * (x * z + w * y),
            2 * (x * y + w * z),
            1 - 2 * (x * x + z * z),
            2 * (y * z - w * x),
            2 * (x * z - w * y),
            2 * (y * z + w * x),
            1 - 2 * (x * x + y * y),
        ],
        axis=1,
    ).reshape(-1, 3, 3)
