"""One pass over a batch of plans: world, 10 Hz, tracker, boxes, areas, every sub-score. Not how they are put together.

Plans are independent of each other here, so a plan's results do not depend on the rest of its batch. K plans, n poses a plan,
T = 41 states at 0.1 s, h samples of history.
"""

from dataclasses import dataclass
from enum import IntEnum
from typing import Literal

import numpy as np

from ops.pdm.areas import Area, ego_areas
from ops.pdm.collisions import no_at_fault_collision, runs_red_light, time_to_collision
from ops.pdm.comfort import Comfort, comfort_bounds, filters
from ops.pdm.compliance import driving_direction, stays_on_road
from ops.pdm.engine import kernel
from ops.pdm.geometry import ego_corners
from ops.pdm.map_index import Polygons
from ops.pdm.observation import Traffic
from ops.pdm.progress import Line, keeps_lane, raw_progress
from ops.pdm.tracking import SPEED_MATRIX, plan_times_us, query_times_us, resample, sample_weights, simulate, to_world
from ops.pdm.vehicle import POSES, STATE_SIZE, STEP_S

Version = Literal["v1", "v2"]
VERSIONS: tuple[Version, ...] = ("v1", "v2")
KEY_FRAMES: dict[Version, int] = {"v1": 11, "v2": 9}    # v1 looks at 5 s of traffic, v2 at 4 s
_TTC_STATES: dict[Version, int] = {"v1": POSES, "v2": 32}    # v2 knows no traffic after 4 s, so it stops 0.9 s earlier


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
    COLLISION_STEP = 8      # first at-fault collision, inf if none
    TTC_STEP = 9            # first infraction of the time to collision, inf if none


_PARTS, _BOUNDS, _AREAS = len(Part), len(Comfort), len(Area)


@dataclass(frozen=True, slots=True)
class Simulated:
    """Raw results of K plans."""

    parts: np.ndarray       # (K, 10) Part columns
    comfort: np.ndarray     # (K, 6) bool, Comfort columns
    states: np.ndarray      # (K, 41, 11)
    areas: np.ndarray       # (K, 41, 4) bool, Area columns


@kernel
def _simulate_plans(plans, origin, start, earlier, since, span, speed_matrix):
    """Ego-frame plans (K, n, 3) -> simulated states (K, 41, 11)."""
    count, poses = plans.shape[0], plans.shape[1]
    states = np.empty((count, POSES, STATE_SIZE))
    world, reference = np.empty((poses + 1, 3)), np.empty((POSES, 3))
    world[0] = origin
    for k in range(count):
        for i in range(poses):
            to_world(plans[k, i], origin, world[i + 1])
        resample(world, earlier, since, span, reference)
        simulate(reference, start, speed_matrix, states[k])
    return states


@kernel
def _simulate_poses(references, start, speed_matrix):
    """References (K, 41, 3) in the world -> simulated states (K, 41, 11)."""
    states = np.empty((references.shape[0], POSES, STATE_SIZE))
    for k in range(references.shape[0]):
        simulate(references[k], start, speed_matrix, states[k])
    return states


@kernel
def _examine(states, history, polygons, line, traffic, filters_, is_v2, ttc_states):
    """Every sub-score of simulated states (K, 41, 11): parts (K, 10), comfort (K, 6), areas (K, 41, 4)."""
    count, poses, past = states.shape[0], states.shape[1], history.shape[0]
    parts = np.empty((count, _PARTS))
    comfort = np.empty((count, _BOUNDS), dtype=np.bool_)
    areas = np.empty((count, poses, _AREAS), dtype=np.bool_)
    corners = np.empty((poses, 5, 2))
    padded = np.empty((past + poses, states.shape[2]))
    padded[:past] = history
    for k in range(count):
        ego_corners(states[k], corners)
        ego_areas(corners, polygons, areas[k])
        row = parts[k]
        row[Part.NC], row[Part.COLLISION_STEP] = no_at_fault_collision(states[k], corners, areas[k], traffic)
        row[Part.DAC] = stays_on_road(areas[k])
        row[Part.DDC] = driving_direction(corners, areas[k], is_v2)
        row[Part.TLC] = 0.0 if is_v2 and runs_red_light(corners, traffic) else 1.0
        row[Part.TTC], row[Part.TTC_STEP] = time_to_collision(states[k], corners, areas[k], polygons, traffic, ttc_states)
        row[Part.LK] = 1.0 if not is_v2 or keeps_lane(corners, areas[k], line) else 0.0
        row[Part.PROGRESS_M] = raw_progress(corners, line)
        padded[past:] = states[k]
        comfort_bounds(padded, filters_, is_v2, comfort[k])
        row[Part.COMFORT] = 1.0 if comfort[k].all() else 0.0
    return parts, comfort, areas


def simulate_plans(plans: np.ndarray, origin: np.ndarray, start: np.ndarray, time_us: int, dt_s: float) -> np.ndarray:
    """States (K, 41, 11) of the car that tracks ego-frame plans (K, n, 3), from the pose `origin` (3,) and state `start` (11,)."""
    weights = sample_weights(plan_times_us(time_us, plans.shape[1], dt_s), query_times_us(time_us))
    return _simulate_plans(plans, origin, start, *weights, SPEED_MATRIX)


def simulate_poses(references: np.ndarray, start: np.ndarray) -> np.ndarray:
    """States (K, 41, 11) of the car that tracks world poses (K, 41, 3) at 0.1 s, the first of them now."""
    return _simulate_poses(references, start, SPEED_MATRIX)


def resample_poses(poses: np.ndarray, time_us: int) -> np.ndarray:
    """(41, 3) world poses at 0.1 s from poses (n, 3) exactly 0.1 s apart, at the devkit's truncated microseconds."""
    times = time_us + np.arange(len(poses), dtype=np.int64) * round(STEP_S * 1e6)
    out = np.empty((POSES, 3))
    resample(poses, *sample_weights(times, query_times_us(time_us)), out)
    return out


def examine(states: np.ndarray, history: np.ndarray, polygons: Polygons, line: Line, traffic: Traffic,
            version: Version) -> Simulated:
    """Raw results of simulated states (K, 41, 11); `history` (h, 11) goes in front of them for the comfort of v2."""
    if version == "v1":
        history = history[:0]
    filters_ = filters(len(history) + states.shape[1], version == "v1")
    parts, comfort, areas = _examine(states, history, polygons, line, traffic, filters_, version == "v2",
                                     _TTC_STATES[version])
    return Simulated(parts, comfort, states, areas)


def product_of(parts: np.ndarray, version: Version) -> np.ndarray:
    """(K,) product of the multiplicative sub-scores: NC DAC in v1, NC DAC DDC TLC in v2."""
    product = parts[:, Part.NC] * parts[:, Part.DAC]
    return product if version == "v1" else product * parts[:, Part.DDC] * parts[:, Part.TLC]
