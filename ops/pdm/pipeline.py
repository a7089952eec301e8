"""Every sub-score of a batch of simulated plans in one compiled pass.

Plans are independent of each other here, so a plan's results do not depend on the rest of its
batch. score.py combines them into a score. K plans, T = 41 states at 0.1 s, h samples of history.
"""

from dataclasses import dataclass
from enum import IntEnum

import numpy as np

from ops.pdm.config import Version
from ops.pdm.rules.areas import Area, ego_areas, swept_bounds
from ops.pdm.rules.collisions import (
    LOOK_AHEAD_STEPS,
    no_at_fault_collision,
    runs_red_light,
    time_to_collision,
    tracks_near,
)
from ops.pdm.rules.comfort import Comfort, comfort_bounds, filters
from ops.pdm.rules.compliance import driving_direction, stays_on_road
from ops.pdm.rules.engine import kernel
from ops.pdm.rules.geometry import fill_ego_boxes
from ops.pdm.rules.map_index import Polygons
from ops.pdm.rules.progress import Line, keeps_lane, raw_progress
from ops.pdm.rules.quirks import DEVKIT, Quirks
from ops.pdm.rules.vehicle import POSES
from ops.pdm.traffic.traffic import Traffic

KEY_FRAMES: dict[Version, int] = {"v1": 11, "v2": 9}  # of traffic: 5 s in v1, 4 s in v2


class Part(IntEnum):
    """Columns of the raw results of a plan."""

    NC = 0
    DAC = 1
    DDC = 2
    TLC = 3
    TTC = 4
    LK = 5
    COMFORT = 6
    PROGRESS_M = 7
    COLLISION_STEP = 8  # first at-fault collision, inf if none
    TTC_STEP = 9  # first infraction of the time to collision, inf if none


_PARTS, _BOUNDS, _AREAS = len(Part), len(Comfort), len(Area)


@dataclass(frozen=True, slots=True)
class Simulated:
    """Raw results of K plans."""

    parts: np.ndarray  # (K, 10) Part columns
    comfort: np.ndarray  # (K, 6) bool, Comfort columns
    states: np.ndarray  # (K, 41, 11)
    areas: np.ndarray  # (K, 41, 5) bool, Area columns


@kernel
def _examine(states, history, polygons, line, traffic, filters_, is_v2, ttc_states, pause):
    """Sub-scores of simulated states (K, T, 11): parts (K, 10), comfort (K, 6), areas (K, T, 5)."""
    count, poses, past = states.shape[0], states.shape[1], history.shape[0]
    parts, comfort = np.empty((count, _PARTS)), np.empty((count, _BOUNDS), dtype=np.bool_)
    areas = np.empty((count, poses, _AREAS), dtype=np.bool_)
    corners, facing = np.empty((poses, 5, 2)), np.empty((poses, 2))
    work = np.empty((3, past + poses))
    padded = np.empty((past + poses, states.shape[2]))
    tracks = np.empty(len(traffic.radius), dtype=np.int64)
    for i in range(past):
        for c in range(states.shape[2]):
            padded[i, c] = history[i, c]
    for k in range(count):
        ego, area = states[k], areas[k]
        fill_ego_boxes(ego, corners, facing)
        bounds = swept_bounds(corners)
        ego_areas(ego, corners, polygons, area)
        near = tracks[: tracks_near(ego, bounds, traffic, tracks)]
        nc, nc_step = no_at_fault_collision(ego, corners, facing, area, traffic, near)
        ttc, ttc_step = time_to_collision(ego, corners, facing, area, traffic, near, ttc_states)
        parts[k, Part.NC], parts[k, Part.COLLISION_STEP] = nc, nc_step
        parts[k, Part.TTC], parts[k, Part.TTC_STEP] = ttc, ttc_step
        parts[k, Part.DAC] = stays_on_road(area)
        parts[k, Part.DDC] = driving_direction(corners, area, is_v2)
        parts[k, Part.TLC] = 0.0 if is_v2 and runs_red_light(corners, bounds, traffic) else 1.0
        parts[k, Part.LK] = 1.0 if not is_v2 or keeps_lane(corners, area, line, pause) else 0.0
        parts[k, Part.PROGRESS_M] = raw_progress(corners, line)
        for i in range(poses):
            for c in range(states.shape[2]):
                padded[past + i, c] = ego[i, c]
        comfort_bounds(padded, filters_, is_v2, work, comfort[k])
        parts[k, Part.COMFORT] = 1.0 if comfort[k].all() else 0.0
    return parts, comfort, areas


def examine(
    states: np.ndarray,
    history: np.ndarray,
    polygons: Polygons,
    line: Line,
    traffic: Traffic,
    version: Version,
    quirks: Quirks = DEVKIT,
) -> Simulated:
    """Raw results of simulated states (K, 41, 11).

    The comfort of v2 looks at `history` (h, 11) followed by the states; v1 ignores the history.
    """
    if version == "v1":
        history = history[:0]
    whole_plan = version == "v1" and quirks.comfort_over_whole_plan
    filters_ = filters(len(history) + states.shape[1], whole_plan)
    ttc_states = POSES
    if version == "v2" and quirks.ttc_until_traffic_ends:
        ttc_states -= LOOK_AHEAD_STEPS[-1]
    parts, comfort, areas = _examine(
        states,
        history,
        polygons,
        line,
        traffic,
        filters_,
        version == "v2",
        ttc_states,
        quirks.intersections_pause_lane_keeping,
    )
    return Simulated(parts, comfort, states, areas)


def product_of(parts: np.ndarray, version: Version) -> np.ndarray:
    """(K,) product of the multiplicative sub-scores: NC DAC in v1, NC DAC DDC TLC in v2."""
    product = parts[:, Part.NC] * parts[:, Part.DAC]
    return product if version == "v1" else product * parts[:, Part.DDC] * parts[:, Part.TLC]
