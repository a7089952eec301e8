"""Arrays of angles and unit quaternions."""

import numpy as np

from storage.errors import SourceError
from storage.sources.raw_files import REPAIR

ROUNDED = 1e-6  # a length this far from one is one
MAX_LENGTH_ERROR = 0.01  # a quaternion farther from length one is refused


def wrapped(yaw_rad: np.ndarray) -> np.ndarray:
    """Angles in radians, wrapped to [-pi, pi)."""
    return (yaw_rad + np.pi) % (2 * np.pi) - np.pi


def unit_quaternions(wxyz: np.ndarray) -> np.ndarray:
    """Quaternions (n, 4), those within MAX_LENGTH_ERROR of length one normalised.

    Raises SourceError, with the row, for others: zeros, numbers that are none, other lengths.
    """
    length = np.linalg.norm(wxyz, axis=1)
    error = np.abs(length - 1)
    bad = ~(error <= MAX_LENGTH_ERROR + ROUNDED)  # NaN too
    if bad.any():
        row = int(np.flatnonzero(bad)[0])
        raise SourceError(
            "a rotation is no unit quaternion",
            where=f"row {row} of {len(wxyz)}",
            expected=f"length 1, within {MAX_LENGTH_ERROR:g}",
            found=f"{np.asarray(wxyz[row]).tolist()} of length {length[row]:.6g} "
            f"({int(bad.sum())} rows are bad)",
            do=REPAIR,
        )
    off = error > ROUNDED
    if not off.any():
        return wxyz
    return np.where(off[:, None], wxyz / length[:, None], wxyz)


def yaw_of_quaternion(wxyz: np.ndarray) -> np.ndarray:
    """Heading (n,) in radians of unit quaternions (n, 4) in the order w, x, y, z.

    Raises what unit_quaternions raises.
    """
    w, x, y, z = unit_quaternions(wxyz).T
    return np.arctan2(2 * (w * z + x * y), 1 - 2 * (y * y + z * z))


def yaw_or_nan(wxyz: np.ndarray) -> np.ndarray:
    """yaw_of_quaternion, and NaN for rows (n, 4) that are no unit quaternion."""
    length_error = np.abs(np.linalg.norm(wxyz, axis=1) - 1)
    sound = length_error <= MAX_LENGTH_ERROR + ROUNDED
    out = np.full(len(wxyz), np.nan)
    out[sound] = yaw_of_quaternion(wxyz[sound])
    return out


def rotation_of_quaternion(wxyz: np.ndarray) -> np.ndarray:
    """Rotation matrices (n, 3, 3) of unit quaternions (n, 4) in the order w, x, y, z.

    Raises what unit_quaternions raises.
    """
    w, x, y, z = unit_quaternions(wxyz).T
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
