"""The paths that the vehicles of one log follow: their routes with lateral offsets, and bounds of
each stretch.

Legend: V vehicles, M metres of route.
"""

import numpy as np

from ops.synthesize.town import curves

# path points in a box: the corridor that a driver looks at, and one more
STRETCH_POINTS = 52


class Ways:
    """One path per vehicle with one point for every metre of its route."""

    def __init__(self, base: np.ndarray, lateral_m: np.ndarray) -> None:
        """`base` (V, M, 3) routes; `lateral_m` (V, M) to the left of them."""
        self.base = base
        # (V, M, 3), and (V, M) metres of path per metre of route
        self.path, self.stretch = _offset_paths(base, lateral_m)
        # (V, M, 4) low x, low y, high x, high y
        self.box = _boxes(self.path)

    def shift(self, vehicle: int, lateral_m: np.ndarray) -> None:
        """Set the lateral offset of a vehicle's path, (M,) metres to the left of its route."""
        row = slice(vehicle, vehicle + 1)
        self.path[row], self.stretch[row] = _offset_paths(self.base[row], lateral_m[None])
        self.box[row] = _boxes(self.path[row])

    def at(self, s_m: np.ndarray) -> np.ndarray:
        """Path points at the given distances (V,) along the routes, (V, 3)."""
        s_m = np.minimum(np.maximum(s_m, 0), self.path.shape[1] - 1.001)
        low = s_m.astype(int)
        fraction = (s_m - low)[:, None]
        flat = low + np.arange(0, self.path.shape[0] * self.path.shape[1], self.path.shape[1])
        points = self.path.reshape(-1, 3)
        return points.take(flat, axis=0) * (1 - fraction) + points.take(flat + 1, axis=0) * fraction


def _offset_paths(base: np.ndarray, lateral_m: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    heading = base[..., 2]
    points = base[..., :2] + lateral_m[..., None] * np.stack(
        [-np.sin(heading), np.cos(heading)], axis=-1
    )
    tangent = np.gradient(points, axis=-2)
    chord = np.unwrap(np.arctan2(tangent[..., 1], tangent[..., 0]))
    turn = curves.wrap(chord - heading)  # keeps the heading unwrapped as that of the route
    path = np.concatenate([points, (heading + turn)[..., None]], axis=-1)
    return path, np.hypot(tangent[..., 0], tangent[..., 1])


def _boxes(path: np.ndarray) -> np.ndarray:
    """Bounds (V, M, 4) of the next STRETCH_POINTS points from every point, by doubling."""
    low, width = np.concatenate([path[..., :2], -path[..., :2]], axis=-1), 1
    while width < STRETCH_POINTS:
        step = min(width, STRETCH_POINTS - width)
        low[:, :-step] = np.minimum(low[:, :-step], low[:, step:])
        width += step
    low[..., 2:] *= -1
    return low
