"""Overlap of oriented rectangles, vectorised, for the open-loop collision rate. (The collision
rules of the PDM score are in ops/pdm/rules/collisions.py.)

A box is x, y (centre), heading, length, width in the last axis.
"""

import numpy as np


def corners(box_X5: np.ndarray) -> np.ndarray:
    """The four corners (..., 4, 2) of boxes (..., 5), counter-clockwise from front left."""
    signs = np.array([[1, 1], [-1, 1], [-1, -1], [1, -1]]) / 2.0
    local = signs * box_X5[..., None, 3:5]
    cos, sin = np.cos(box_X5[..., 2, None]), np.sin(box_X5[..., 2, None])
    return np.stack(
        [
            box_X5[..., 0, None] + local[..., 0] * cos - local[..., 1] * sin,
            box_X5[..., 1, None] + local[..., 0] * sin + local[..., 1] * cos,
        ],
        axis=-1,
    )


def overlap(a_X5: np.ndarray, b_X5: np.ndarray) -> np.ndarray:
    """True where boxes `a` and `b` (broadcast against each other) share a point, by the
    separating-axis theorem.
    """
    a_X5, b_X5 = np.broadcast_arrays(a_X5, b_X5)
    corners_a, corners_b = corners(a_X5), corners(b_X5)
    apart = np.zeros(a_X5.shape[:-1], bool)
    for yaw in (a_X5[..., 2], a_X5[..., 2] + np.pi / 2, b_X5[..., 2], b_X5[..., 2] + np.pi / 2):
        axis = np.stack([np.cos(yaw), np.sin(yaw)], axis=-1)[..., None, :]
        along_a, along_b = (corners_a * axis).sum(-1), (corners_b * axis).sum(-1)
        apart |= (along_a.max(-1) < along_b.min(-1)) | (along_b.max(-1) < along_a.min(-1))
    return ~apart
