"""Routes through the lane graph: path, speed limits, junctions and speed profile."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from ops.synthesize.town import curves
from ops.synthesize.town.build_town import build_town
from ops.synthesize.town.town import Lane, Town, TownConfig, Turn

TURN_WEIGHTS = {Turn.STRAIGHT: 0.22, Turn.LEFT: 0.42, Turn.RIGHT: 0.36}
MAX_JUNCTIONS = 8  # per route; a log is too short to reach later ones
FAR_M = 1e6  # stands for "no junction"


@dataclass(frozen=True, slots=True)
class Route:
    """A sequence of lanes as one path sampled every metre; M points, K junctions."""

    lane_ids: tuple[int, ...]
    lane_start_m: np.ndarray  # (lanes,) distance along the route at which each lane begins
    path: np.ndarray  # (M, 3)
    curvature: np.ndarray  # (M,) 1/m
    limit_mps: np.ndarray  # (M,) speed limit
    enter_m: np.ndarray  # (K,) metres where connector k begins, FAR_M without one
    leave_m: np.ndarray  # (K,) metres where it ends
    connector: np.ndarray  # (K,) lane id, 0 without one

    @property
    def length_m(self) -> float:
        """Length of the path."""
        return len(self.path) - 1.0

    def lane_at(self, at_m: float) -> int:
        """Id of the lane at a distance along the route."""
        return self.lane_ids[int(np.searchsorted(self.lane_start_m, at_m, side="right")) - 1]

    def pose_at(self, at_m: float) -> np.ndarray:
        """Pose (1, 3) at a distance along the route."""
        return self.path[[round(at_m)]]


def pick_lanes(
    town: Town,
    start: int,
    length_m: float,
    rng: np.random.Generator,
    allowed: Callable[[Lane], bool] | None = None,
) -> tuple[int, ...]:
    """A random walk of at least `length_m` from lane `start`.

    Lanes that are not `allowed` are taken only where no other follows.
    """
    lanes, lengths_m = [start], lane_lengths_m(town.config)
    travelled = len(town.lanes[start].path) - 1.0
    while travelled < length_m:
        choices = [town.lanes[lane] for lane in town.lanes[lanes[-1]].successors]
        if allowed is not None:
            choices = [lane for lane in choices if allowed(lane)] or choices
        weights = np.array(
            [TURN_WEIGHTS[lane.turn] if lane.is_connector else 1.0 for lane in choices]
        )
        # as rng.choice draws, without its checks
        cumulative = (weights / weights.sum()).cumsum()
        drawn = (cumulative / cumulative[-1]).searchsorted(rng.random(), side="right")
        lane_id = choices[int(drawn)].lane_id
        lanes.append(lane_id)
        travelled += lengths_m[lane_id]
    return tuple(lanes)


@lru_cache(maxsize=2)
def lane_lengths_m(config: TownConfig) -> dict[int, float]:
    """Arc length of every lane of a town, metres; cached for the process."""
    return {
        lane.lane_id: float(curves.arc_length(lane.path)[-1])
        for lane in build_town(config).lanes.values()
    }


def make_route(town: Town, lane_ids: tuple[int, ...], points: int) -> Route:
    """Join the lanes into one path of `points` samples, one per metre. The lanes must be long
    enough.
    """
    lanes = [town.lanes[lane] for lane in lane_ids]
    joined = curves.join([lane.path for lane in lanes])
    arc_m = curves.arc_length(joined)
    length_of_lane = lane_lengths_m(town.config)
    lengths = np.array([length_of_lane[lane] for lane in lane_ids])
    starts = np.concatenate([[0.0], np.cumsum(lengths)[:-1]])
    grid = np.arange(points, dtype=float)
    assert arc_m[-1] >= grid[-1], (arc_m[-1], points)
    path = np.stack([np.interp(grid, arc_m, joined[:, axis]) for axis in range(3)], axis=1)
    curvature = curves.curvature(path)
    curvature = np.convolve(
        np.concatenate([curvature[:1], curvature[:1], curvature, curvature[-1:], curvature[-1:]]),
        [0.1, 0.2, 0.4, 0.2, 0.1],
        mode="valid",
    )
    lane_of_point = np.searchsorted(starts, grid, side="right") - 1
    limit = np.array([lane.speed_mps for lane in lanes])[lane_of_point]
    enter, leave, connector = (
        np.full(MAX_JUNCTIONS, FAR_M),
        np.full(MAX_JUNCTIONS, FAR_M),
        np.zeros(MAX_JUNCTIONS, int),
    )
    connectors = [i for i, lane in enumerate(lanes) if lane.is_connector][:MAX_JUNCTIONS]
    enter[: len(connectors)] = starts[connectors]
    leave[: len(connectors)] = (starts + lengths)[connectors]
    connector[: len(connectors)] = np.array(lane_ids)[connectors]
    return Route(lane_ids, starts, path, curvature, limit, enter, leave, connector)


def speed_profile(
    route: Route, *, limit_factor: float, lateral_mps2: float, brake_mps2: float
) -> np.ndarray:
    """Highest comfortable speed at every metre, (M,) m/s: speed limit, lateral acceleration, and
    braking ahead of slower points.
    """
    curvature = np.abs(route.curvature)
    # drivers accept more lateral acceleration in tight turns
    lateral = lateral_mps2 * (1 + 0.35 * np.clip((curvature - 0.03) / 0.04, 0.0, 1.0))
    speed = np.minimum(
        route.limit_mps * limit_factor, np.sqrt(lateral / np.maximum(curvature, 1e-4))
    )
    along_m = np.arange(len(speed), dtype=float)
    # v(s)^2 <= v(t)^2 + 2 b (t - s) for every later t
    square = speed**2 + 2 * brake_mps2 * along_m
    return np.sqrt(np.minimum.accumulate(square[::-1])[::-1] - 2 * brake_mps2 * along_m)
