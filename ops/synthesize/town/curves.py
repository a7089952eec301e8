"""Geometry of plane curves as sampled paths: offset, resample, join, bend.

A path is an array (n, 3): x, y in metres and heading in radians, unwrapped, counter-clockwise.
"""

import numpy as np
from shapely.geometry import Polygon


def resample(path: np.ndarray, step_m: float = 1.0) -> np.ndarray:
    """The path at even spacing of at most `step_m`, both ends kept. (n, 3) -> (m, 3)."""
    arc_m = arc_length(path)
    samples = np.linspace(0.0, arc_m[-1], max(2, int(np.ceil(arc_m[-1] / step_m)) + 1))
    return np.stack([np.interp(samples, arc_m, path[:, axis]) for axis in range(3)], axis=1)


def arc_length(path: np.ndarray) -> np.ndarray:
    """Distance of every point from the first along the path, (n,) metres."""
    return np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(path[:, :2], axis=0).T))])


def with_heading(
    points: np.ndarray, start: float | None = None, end: float | None = None
) -> np.ndarray:
    """Add the heading of the chords around each point, (n, 2) -> (n, 3); the ends may be given
    exactly.
    """
    tangent = np.gradient(points, axis=0)
    heading = np.unwrap(np.arctan2(tangent[:, 1], tangent[:, 0]))
    if start is not None:
        heading[0] = heading[1] + wrap(start - heading[1])
    if end is not None:
        heading[-1] = heading[-2] + wrap(end - heading[-2])
    return np.column_stack([points, heading])


def offset(path: np.ndarray, left_m: float) -> np.ndarray:
    """The parallel path `left_m` to the left (negative: right), same number of points, (n, 3)."""
    normal = np.stack([-np.sin(path[:, 2]), np.cos(path[:, 2])], axis=1)
    return np.column_stack([path[:, :2] + left_m * normal, path[:, 2]])


def offset_points(path: np.ndarray, left_m: np.ndarray) -> np.ndarray:
    """Points (n, 2) beside a path, each its own distance (n,) to the left."""
    return path[:, :2] + left_m[:, None] * np.stack(
        [-np.sin(path[:, 2]), np.cos(path[:, 2])], axis=1
    )


def reverse(path: np.ndarray) -> np.ndarray:
    """The same path in the opposite direction, (n, 3)."""
    return np.column_stack([path[::-1, :2], path[::-1, 2] + np.pi])


def join(paths: list[np.ndarray]) -> np.ndarray:
    """Paths that meet end to start, as one with unwrapped heading."""
    joined = np.concatenate([paths[0]] + [path[1:] for path in paths[1:]])
    return np.column_stack([joined[:, :2], np.unwrap(joined[:, 2])])


def curvature(path: np.ndarray) -> np.ndarray:
    """Curvature at every point of an evenly spaced path, (n,) 1/m, positive to the left."""
    spacing = np.maximum(np.hypot(*np.gradient(path[:, :2], axis=0).T), 1e-6)
    return np.gradient(np.unwrap(path[:, 2])) / spacing


def bend(start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """A smooth turn between two poses (x, y, heading) as a quintic Bezier curve with zero curvature
    at both ends, (n, 3).

    The control points lie on the two tangents: a turn is symmetric, and its curvature rises and
    falls once.
    """
    turn = wrap(end[2] - start[2])
    leg = np.hypot(*(end[:2] - start[:2])) / (2 * np.cos(turn / 2))
    ahead, behind = heading_vector(start[2]), -heading_vector(end[2])
    control_points = np.stack(
        [
            start[:2],
            start[:2] + 0.34 * leg * ahead,
            start[:2] + 0.74 * leg * ahead,
            end[:2] + 0.74 * leg * behind,
            end[:2] + 0.34 * leg * behind,
            end[:2],
        ]
    )
    t = np.linspace(0.0, 1.0, 81)[:, None]
    weights = np.concatenate(
        [c * t**k * (1 - t) ** (5 - k) for k, c in enumerate((1, 5, 10, 10, 5, 1))], axis=1
    )
    return resample(with_heading(weights @ control_points, start[2], end[2]))


def winding(start: np.ndarray, end: np.ndarray, bulge_m: float) -> np.ndarray:
    """A cubic Hermite curve between two poses, displaced sideways by `bulge_m` halfway, (n, 3)."""
    chord = end[:2] - start[:2]
    reach = np.hypot(*chord)
    t = np.linspace(0.0, 1.0, 161)[:, None]
    points = (
        (2 * t**3 - 3 * t**2 + 1) * start[:2]
        + (t**3 - 2 * t**2 + t) * reach * heading_vector(start[2])
        + (3 * t**2 - 2 * t**3) * end[:2]
        + (t**3 - t**2) * reach * heading_vector(end[2])
    )
    side = np.array([-chord[1], chord[0]]) / reach
    return resample(
        with_heading(points + bulge_m * np.sin(np.pi * t) ** 3 * side, start[2], end[2])
    )


def band(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Open ring (n, 2) of the area between two borders that run the same way."""
    return np.concatenate([left[:, :2], right[::-1, :2]])


def wrap(angle: float | np.ndarray) -> float | np.ndarray:
    """Angle in [-pi, pi)."""
    return (angle + np.pi) % (2 * np.pi) - np.pi


def heading_vector(heading: float) -> np.ndarray:
    """Unit vector (2,) of a heading."""
    return np.array([np.cos(heading), np.sin(heading)])


def offset_point(pose: np.ndarray, ahead_m: float, left_m: float) -> np.ndarray:
    """Point (2,) ahead and to the left of a pose (x, y, heading)."""
    forward = heading_vector(pose[2])
    return pose[:2] + ahead_m * forward + left_m * np.array([-forward[1], forward[0]])


def trapezoid(
    pose: np.ndarray, ahead_m: float, behind_m: float, ahead_half_m: float, behind_half_m: float
) -> Polygon:
    """A trapezoid across a pose, from `behind_m` to `ahead_m` along its heading; the half widths
    are those of its two ends.
    """
    return Polygon(
        [
            offset_point(pose, behind_m, behind_half_m),
            offset_point(pose, behind_m, -behind_half_m),
            offset_point(pose, ahead_m, -ahead_half_m),
            offset_point(pose, ahead_m, ahead_half_m),
        ]
    )
