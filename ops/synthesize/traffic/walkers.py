"""Pedestrians: their motion, and whether the road is free for one of them to cross.

Legend: P pedestrians, V vehicles.
"""

from dataclasses import dataclass, field

import numpy as np

from ops.synthesize.traffic.ways import Ways

# samples behind and ahead of a vehicle's front that a pedestrian checks
_AHEAD_M = np.arange(-6.0, 42.0, 2.0)
# a vehicle's path nearer than this to a pedestrian's path crosses it
_ACROSS_M = 2.2
# so much beyond the ends of the pedestrian's path counts as well
_BEYOND_M = 1.0


@dataclass(slots=True)
class Pedestrians:
    """Pedestrians who walk from a start to a goal once; arrays (P,)."""

    start: np.ndarray  # (P, 2)
    goal: np.ndarray  # (P, 2)
    speed_mps: np.ndarray
    wish_s: np.ndarray  # time from which they want to start
    # junction of their crosswalk, 0 for none (walks on the pavement or jaywalks)
    junction: np.ndarray
    axis: np.ndarray  # axis of the street they cross
    careful: np.ndarray  # bool: waits for a gap
    begun_s: np.ndarray  # nan until they start
    reach_m: np.ndarray = field(init=False)  # distance from start to goal
    direction: np.ndarray = field(init=False)  # (P, 2)

    def __post_init__(self) -> None:
        offset = self.goal - self.start
        self.reach_m = np.maximum(np.hypot(offset[:, 0], offset[:, 1]), 1e-6)
        self.direction = offset / self.reach_m[:, None]

    def motion(self, time_s: float) -> tuple[np.ndarray, np.ndarray]:
        """Positions and velocities (P, 2) at a time."""
        walked_s = np.where(np.isnan(self.begun_s), 0.0, time_s - self.begun_s)
        walked_m = np.minimum(np.maximum(walked_s * self.speed_mps, 0.0), self.reach_m)
        walking = (walked_s > 0) & (walked_m < self.reach_m)
        return self.start + self.direction * walked_m[:, None], self.direction * (
            self.speed_mps * walking
        )[:, None]

    def waiting(self, time_s: float) -> np.ndarray:
        """Indexes of those who have not started and want to."""
        return np.flatnonzero(np.isnan(self.begun_s) & (self.wish_s <= time_s))


def is_clear(
    people: Pedestrians,
    person: int,
    ways: Ways,
    vehicles: tuple[np.ndarray, np.ndarray, np.ndarray],
) -> bool:
    """True if no moving vehicle would meet this pedestrian on the way across.

    `vehicles`: distances of the rear axles along their paths, of the fronts ahead of them, and
    speeds, each (V,).
    """
    s_m, front_m, v_mps = vehicles
    start, goal = people.start[person], people.goal[person]
    margin = _ACROSS_M + _BEYOND_M
    low, high = np.minimum(start, goal) - margin, np.maximum(start, goal) + margin
    last = ways.path.shape[1] - 1
    box = ways.box[
        np.arange(len(s_m)), np.minimum(np.maximum((s_m + front_m).astype(int) - 7, 0), last)
    ]
    near = np.flatnonzero(
        (v_mps > 0.5)
        & (box[:, 0] < high[0])
        & (box[:, 1] < high[1])
        & (box[:, 2] > low[0])
        & (box[:, 3] > low[1])
    )
    if not len(near):
        return True
    crossing = goal - start
    reach, v = np.hypot(crossing[0], crossing[1]), v_mps[near]
    ahead_m = front_m[near, None] + _AHEAD_M
    index = np.minimum(np.maximum(s_m[near, None] + ahead_m, 0), last).astype(int)
    away = ways.path[near[:, None], index, :2] - start
    along, across = (
        (away @ crossing) / reach,
        np.abs(away[..., 0] * crossing[1] - away[..., 1] * crossing[0]) / reach,
    )
    crosses = (along > -_BEYOND_M) & (along < reach + _BEYOND_M) & (across < _ACROSS_M)
    stopping = front_m[near] + 3.0 + v * 1.3 + v**2 / (2 * 1.5)
    return not (crosses & (ahead_m < stopping[:, None])).any()
