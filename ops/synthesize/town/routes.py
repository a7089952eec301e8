"""Routes through the lane graph, ready to be driven: positions, speed targets and junctions along
the way. No dynamics.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from ops.synthesize.town import curves
from ops.synthesize.town.town import Lane, Town, TownConfig, Turn, build_town

TURN_WEIGHTS = {Turn.STRAIGHT: 0.22, Turn.LEFT: 0.42, Turn.RIGHT: 0.36}
MAX_JUNCTIONS = 8  # per route; later ones are beyond what a log can reach
FAR_M = 1e6


@dataclass(frozen=True, slots=True)
class Route:
    """A sequence of lanes as one path sampled every metre; M points, K junctions."""

    lane_ids: tuple[int, ...]
    lane_start_m: np.ndarray  # (lanes,) distance along the route at which each lane begins
    path: np.ndarray  # (M, 3)
    curvature: np.ndarray  # (M,) 1/m
    limit_mps: np.ndarray  # (M,) speed limit
    enter_m: np.ndarray  # (K,) where connector k begins, FAR_M when there is none
    leave_m: np.ndarray  # (K,)
    connector: np.ndarray  # (K,) lane id, 0 when there is none

    @property
    def length_m(self) -> float:
        return len(self.path) - 1.0


def pick_lanes(
    town: Town,
    start: int,
    length_m: float,
    rng: np.random.Generator,
    allowed: Callable[[Lane], bool] | None = None,
) -> tuple[int, ...]:
    """A random walk from lane `start` of at least `length_m`; lanes that are not allowed are
    avoided where possible.
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
        # the draw of rng.choice, without its checks
        chance = (weights / weights.sum()).cumsum()
        chosen = choices[int((chance / chance[-1]).searchsorted(rng.random(), side="right"))]
        lanes.append(chosen.lane_id)
        travelled += lengths_m[chosen.lane_id]
    return tuple(lanes)


@lru_cache(maxsize=2)
def lane_lengths_m(config: TownConfig) -> dict[int, float]:
    """Arc length of every lane of a town; kept for the process."""
    return {
        lane.lane_id: float(curves.arc_length(lane.path)[-1])
        for lane in build_town(config).lanes.values()
    }


def make_route(town: Town, lane_ids: tuple[int, ...], points: int) -> Route:
    """Join the lanes into one path of exactly `points` metres + 1 samples. The lanes must be long
    enough.
    """
    lanes = [town.lanes[lane] for lane in lane_ids]
    joined = curves.join([lane.path for lane in lanes])
    arc_m = curves.arc_length(joined)
    known_m = lane_lengths_m(town.config)
    lengths = np.array([known_m[lane] for lane in lane_ids])
    starts = np.concatenate([[0.0], np.cumsum(lengths)[:-1]])
    grid = np.arange(points, dtype=float)
    assert arc_m[-1] >= grid[-1], (arc_m[-1], points)
    path = np.stack([np.interp(grid, arc_m, joined[:, axis]) for axis in range(3)], axis=1)
    bend = curves.curvature(path)
    bend = np.convolve(
        np.concatenate([bend[:1], bend[:1], bend, bend[-1:], bend[-1:]]),
        [0.1, 0.2, 0.4, 0.2, 0.1],
        mode="valid",
    )
    which = np.searchsorted(starts, grid, side="right") - 1
    limit = np.array([lane.speed_mps for lane in lanes])[which]
    enter, leave, connector = (
        np.full(MAX_JUNCTIONS, FAR_M),
        np.full(MAX_JUNCTIONS, FAR_M),
        np.zeros(MAX_JUNCTIONS, int),
    )
    crossing = [i for i, lane in enumerate(lanes) if lane.is_connector][:MAX_JUNCTIONS]
    enter[: len(crossing)] = starts[crossing]
    leave[: len(crossing)] = (starts + lengths)[crossing]
    connector[: len(crossing)] = np.array(lane_ids)[crossing]
    return Route(lane_ids, starts, path, bend, limit, enter, leave, connector)


def speed_profile(
    route: Route, *, limit_factor: float, lateral_mps2: float, brake_mps2: float
) -> np.ndarray:
    """Greatest comfortable speed at every metre, (M,): limit, curvature, and braking ahead of
    slower places.
    """
    bend = np.abs(route.curvature)
    # drivers hurry more through turns
    lateral = lateral_mps2 * (1 + 0.35 * np.clip((bend - 0.03) / 0.04, 0.0, 1.0))
    speed = np.minimum(route.limit_mps * limit_factor, np.sqrt(lateral / np.maximum(bend, 1e-4)))
    ahead = np.arange(len(speed), dtype=float)
    # v(s)^2 <= v(t)^2 + 2 b (t - s) for every later t
    square = speed**2 + 2 * brake_mps2 * ahead
    return np.sqrt(np.minimum.accumulate(square[::-1])[::-1] - 2 * brake_mps2 * ahead)
