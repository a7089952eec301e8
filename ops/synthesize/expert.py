"""One log's drive: picks the expert's route and temper, fills the streets, runs the traffic and records it. Not pictures.

The expert obeys everything the simulation obeys and adds a human touch: its own liking for speed, curves and headways, and a
slow wander inside the lane. A drive that hurts anybody's comfort or body is thrown away and driven again.
"""

from dataclasses import dataclass

import numpy as np

from ops.synthesize import curves
from ops.synthesize.routes import Route, make_route, pick_lanes, speed_profile
from ops.synthesize.town import LANE_WIDTH_M, Lane, Town
from ops.synthesize.traffic import RED, REAR_SHARE, STEP_S, Drivers, Pedestrians, Traffic

ROUTE_M = 560                   # metres of route that are laid out for every vehicle
REACH_M = 330.0                 # of them the ego can drive in a log
WARM_UP_S = 4.0                 # driven before the first frame, so that no frame shows the start
EGO_LENGTH_M, EGO_WIDTH_M, EGO_HEIGHT_M = 5.176, 2.297, 1.777       # nuPlan's vehicle
TRIES = 12


@dataclass(frozen=True, slots=True)
class Recording:
    """What happened in one log at its frames; T frames, V vehicles (0 is the ego), P pedestrians, C connectors."""

    start_s: float              # clock of the signals at the first frame
    time_s: np.ndarray          # (T,) from the first frame
    pose: np.ndarray            # (T, V, 3) rear axles
    speed_mps: np.ndarray       # (T, V)
    accel_mps2: np.ndarray      # (T, V) along the path
    ego_lateral_mps2: np.ndarray        # (T,)
    size_m: np.ndarray          # (V, 3) length, width, height
    kind: np.ndarray            # (V,) index into render's vehicle kinds
    walker_xy: np.ndarray       # (T, P, 2)
    walker_velocity: np.ndarray # (T, P, 2)
    walker_heading: np.ndarray  # (T, P)
    lights: np.ndarray          # (T, C) GREEN, AMBER or RED
    connector_ids: np.ndarray   # (C,)
    turning: np.ndarray         # (T, V) Turn of the connector a vehicle is about to take or in, for its indicators
    lane_ids: tuple[int, ...]   # the ego's route
    lane_start_m: np.ndarray    # where each lane begins along it
    travelled_m: np.ndarray     # (T,) position of the ego along it
    route_path: np.ndarray      # (M, 3) its centre line at every metre
    static_pose: np.ndarray     # (S, 3) centres of parked cars near the route
    static_size_m: np.ndarray   # (S, 3)
    tags: tuple[tuple[str, ...], ...]   # rare events of each frame


def drive(town: Town, rng: np.random.Generator, *, frames: int, hz: float, east: bool | None,
          parked: tuple[np.ndarray, np.ndarray]) -> Recording:
    """Drive one log. `east`: only in the eastern part, only in the western part, or anywhere (None). `parked`: poses of the
    centres (S, 3) and sizes (S, 3) of all parked cars.

    Raises RuntimeError if no try passes the audit, which would be a mistake in the world.
    """
    faults = []
    for _ in range(TRIES):
        recording, fault = _attempt(town, rng, frames, hz, east, parked)
        if not fault:
            return recording
        faults.append(fault)
    raise RuntimeError(f"no acceptable drive in {TRIES} tries: {faults}")


def is_east(town: Town, lane: Lane) -> bool:
    """True for lanes in the part of the town that training never enters."""
    return float(lane.path[:, 0].max()) > 0.72 * town.size_m[0]


def _attempt(town: Town, rng: np.random.Generator, frames: int, hz: float, east: bool | None,
             parked: tuple[np.ndarray, np.ndarray]) -> tuple[Recording, str]:
    ego = _ego_route(town, rng, east)
    ego_start = float(rng.uniform(5.0, 25.0))
    starts = _spawn(town, ego, ego_start, rng)
    routes = [ego] + [make_route(town, pick_lanes(town, lane, ROUTE_M + s + 2, rng), ROUTE_M) for lane, s in starts]
    count = len(routes)
    drivers = _drivers(count, rng)
    lateral, eager = rng.uniform(1.1, 1.6, count), np.clip(rng.normal(1.0, 0.07, count), 0.85, 1.12)
    lateral[0], eager[0] = rng.uniform(1.15, 1.4), rng.uniform(0.98, 1.06)
    cap = np.stack([speed_profile(route, limit_factor=f, lateral_mps2=a, brake_mps2=1.8)
                    for route, f, a in zip(routes, eager, lateral, strict=True)])
    start_m = np.array([ego_start] + [s for _, s in starts])
    kind = np.concatenate([[0], rng.choice(len(KIND_SIZES), count - 1, p=KIND_SHARES)])
    size = KIND_SIZES[kind] * np.concatenate([[[1, 1, 1]], rng.uniform(0.95, 1.06, (count - 1, 3))])
    size[0] = EGO_LENGTH_M, EGO_WIDTH_M, EGO_HEIGHT_M
    begin = cap[np.arange(count), start_m.astype(int)] * rng.uniform(0.5, 0.95, count)
    traffic = Traffic(town, routes, cap, start_m, begin, size[:, 0], drivers, _people(town, ego, rng))
    return _record(town, traffic, ego, size, kind, frames, hz, rng, parked)


# kind: sedan, hatchback, van, truck, (length, width, height) m
KIND_SIZES = np.array([[4.7, 1.85, 1.48], [4.1, 1.78, 1.55], [5.3, 2.0, 2.2], [8.2, 2.4, 3.2]])
KIND_SHARES = np.array([0.48, 0.32, 0.14, 0.06])


def _ego_route(town: Town, rng: np.random.Generator, east: bool | None) -> Route:
    def inside(lane: Lane) -> bool:
        return east is None or is_east(town, lane) == east

    starts = [lane.lane_id for lane in town.lanes.values() if not lane.is_connector and inside(lane)]
    lanes = pick_lanes(town, starts[rng.integers(len(starts))], ROUTE_M + 2.0, rng, inside)
    return make_route(town, lanes, ROUTE_M)


def _spawn(town: Town, ego: Route, ego_start: float, rng: np.random.Generator) -> list[tuple[int, float]]:
    """(lane, distance along it) of the other vehicles: on lanes near the ego's way, never closer than 16 m."""
    near = ego.path[:int(REACH_M):6, :2]
    taken = [ego.path[int(ego_start), :2]]
    chosen: list[tuple[int, float]] = []
    if rng.random() < 0.6:                                      # somebody to follow
        ahead = ego_start + rng.uniform(18.0, 45.0)
        lane = int(np.searchsorted(ego.lane_start_m, ahead, side="right") - 1)
        if not town.lanes[ego.lane_ids[lane]].is_connector:
            chosen.append((ego.lane_ids[lane], float(ahead - ego.lane_start_m[lane])))
            taken.append(ego.path[int(ahead), :2])
    density = rng.uniform(0.15, 0.50)
    spots = [(lane.lane_id, s) for lane in town.lanes.values() if not lane.is_connector
             for s in range(6, len(lane.path) - 12, 10)]
    for index in rng.permutation(len(spots)):
        lane_id, s = spots[index]
        here = town.lanes[lane_id].path[s, :2]
        if len(chosen) >= 26 or rng.random() > density:
            continue
        if np.hypot(*(near - here).T).min() > 75.0 or np.hypot(*(np.array(taken) - here).T).min() < 16.0:
            continue
        chosen.append((lane_id, float(s)))
        taken.append(here)
    return chosen


def _drivers(count: int, rng: np.random.Generator) -> Drivers:
    accel = rng.uniform(1.3, 2.0, count)
    drivers = Drivers(accel, rng.uniform(1.5, 2.2, count), np.full(count, 7.0), np.full(count, 6.0),
                      rng.uniform(1.0, 1.6, count), rng.uniform(1.8, 3.0, count), rng.uniform(2.0, 3.6, count))
    drivers.stop_m[0] = 1.0
    drivers.accel_mps2[0], drivers.brake_mps2[0] = rng.uniform(1.7, 2.1), rng.uniform(1.9, 2.3)
    drivers.hardest_mps2[0], drivers.jerk_mps3[0] = 3.7, 2.2
    drivers.headway_s[0], drivers.gap_m[0] = rng.uniform(1.2, 1.5), rng.uniform(1.6, 2.2)
    return drivers


def _people(town: Town, ego: Route, rng: np.random.Generator) -> Pedestrians:
    """Crossing pedestrians at the junctions of the route, and walkers on pavements beside it."""
    rows = []
    for slot in range(3):
        if not ego.connector[slot]:
            continue
        junction = town.junctions[town.lanes[int(ego.connector[slot])].junction_id]
        for arm in junction.arms:
            for _ in range(rng.poisson(0.9) if arm.crosswalk is not None else 0):
                ends = np.stack([arm.crosswalk[[0, 3]].mean(axis=0), arm.crosswalk[[1, 2]].mean(axis=0)])
                shift = rng.uniform(-1.1, 1.1) * curves.heading_vector(arm.mouth[2])
                first = int(rng.integers(2))
                away = (ends[first] - ends[1 - first]) / np.hypot(*(ends[first] - ends[1 - first]))
                rows.append((ends[first] + shift + away * 0.6, ends[1 - first] + shift - away * 8.0, rng.uniform(1.1, 1.6),
                             rng.uniform(0.0, 22.0), junction.junction_id, arm.axis, True, np.nan))
    for _ in range(rng.integers(5, 14)):
        at = int(rng.uniform(10, REACH_M))
        side = rng.choice((-1, 1))
        here = town.lanes[ego.lane_ids[int(np.searchsorted(ego.lane_start_m, at, side="right") - 1)]]
        if here.is_connector:
            continue
        group = [lane for lane in town.lanes.values() if lane.roadblock_id == here.roadblock_id]
        beside = LANE_WIDTH_M * (here.index - 0.5 + len(group)) + 3.2 if side > 0 else LANE_WIDTH_M * (len(group) - here.index + 0.5) + 3.2
        start, goal = (curves.offset(ego.path[[int(np.clip(at + step, 0, ROUTE_M - 1))]], side * beside)[0, :2]
                       for step in (0.0, rng.choice((-26.0, 26.0))))
        rows.append((start, goal, rng.uniform(1.0, 1.5), -30.0, 0, 0, False, -rng.uniform(0.0, 12.0)))
    if not rows:
        rows = [(ego.path[0, :2] + 400.0, ego.path[0, :2] + 401.0, 1.0, 1e9, 0, 0, True, np.nan)]
    start, goal, speed, wish, junction, axis, careful, begun = (np.array(column) for column in zip(*rows, strict=True))
    return Pedestrians(start, goal, speed, wish, junction, axis, careful, begun.astype(float))


def _record(town: Town, traffic: Traffic, ego: Route, size: np.ndarray, kind: np.ndarray, frames: int, hz: float,
            rng: np.random.Generator, parked: tuple[np.ndarray, np.ndarray]) -> tuple[Recording, str]:
    every = int(round(1.0 / (hz * STEP_S)))
    wander = _Wander(rng)
    kept: list[tuple] = []
    fault = ""
    for step in range(int(WARM_UP_S / STEP_S) + (frames - 1) * every + 1):
        driven = step - int(WARM_UP_S / STEP_S)
        if driven >= 0:
            pose = traffic.poses()
            pose[0] = wander.place(pose[0], traffic.s_m[0])
            fault = fault or _fault(traffic, pose, size)
            if fault:
                break
            if driven % every == 0:
                bend = np.interp(traffic.s_m[0], np.arange(len(ego.curvature)), ego.curvature)
                kept.append((pose, traffic.v_mps.copy(), traffic.a_mps2.copy(), traffic.v_mps[0] ** 2 * bend,
                             *traffic.people.motion(traffic.time_s),
                             traffic.lights()[:-1], traffic.turning(), traffic.s_m[0]))
        traffic.step()
    if fault:
        return None, fault                                                      # type: ignore[return-value]
    pose, speed, accel, lateral, walk, stride, lights, turning, travelled = (np.stack(column)
                                                                             for column in zip(*kept, strict=True))
    people = traffic.people
    facing = np.arctan2(*(people.goal - people.start).T[::-1])
    near = np.hypot(*np.moveaxis(parked[0][:, None, :2] - pose[None, ::4, 0, :2], -1, 0)).min(axis=1) < 130.0
    return Recording(WARM_UP_S, np.arange(frames) / hz, pose, speed, accel, lateral, size, kind, walk, stride,
                     np.broadcast_to(facing, walk.shape[:2]), lights,
                     np.array([lane.lane_id for lane in town.lanes.values() if lane.is_connector]), turning, ego.lane_ids,
                     ego.lane_start_m, travelled, ego.path, parked[0][near], parked[1][near], tuple(() for _ in range(frames))), ""


class _Wander:
    """Slow lateral drift of a human driver inside the lane, a sum of two waves along the way."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.amplitude = rng.uniform(0.02, 0.07, 2)
        self.wave = 2 * np.pi / rng.uniform((55.0, 28.0), (90.0, 45.0))
        self.phase = rng.uniform(0, 2 * np.pi, 2)

    def place(self, pose: np.ndarray, s_m: float) -> np.ndarray:
        """The pose moved to the left by the drift at `s_m`, heading turned with it."""
        side = float((self.amplitude * np.sin(self.wave * s_m + self.phase)).sum())
        slope = float((self.amplitude * self.wave * np.cos(self.wave * s_m + self.phase)).sum())
        moved = curves.offset(pose[None], side)[0]
        moved[2] += np.arctan(slope)
        return moved


def _fault(traffic: Traffic, pose: np.ndarray, size: np.ndarray) -> str:
    """Why this moment disqualifies the drive, or "": a touch, too near a person, or braking beyond comfort."""
    if traffic.a_mps2[0] < -3.5:
        return "hard braking"
    if traffic.s_m[0] > traffic.path.shape[1] - 150:
        return "route too short"
    own = _circles(pose[:1], size[:1])[0]
    others = _circles(pose[1:], size[1:])
    reach = 0.5 * (size[0, 1] + size[1:, 1, None, None]) - 0.05
    if (np.hypot(*np.moveaxis(others[:, None] - own[None, :, None], -1, 0)) < reach).any():
        return "collision"
    walk, _ = traffic.people.motion(traffic.time_s)
    if (np.hypot(*np.moveaxis(walk[:, None] - own[None], -1, 0)) < 0.5 * size[0, 1] + 0.35).any() and traffic.v_mps[0] > 0.1:
        return "too near a person"
    return ""


def _circles(pose: np.ndarray, size: np.ndarray) -> np.ndarray:
    """Centres of five circles of half a width that cover each body, (V, 5, 2)."""
    along = size[:, :1] * (np.linspace(0.0, 1.0, 5) - REAR_SHARE)
    inset = np.clip(along, 0.5 * size[:, 1:2] - REAR_SHARE * size[:, :1],
                    (1 - REAR_SHARE) * size[:, :1] - 0.5 * size[:, 1:2])
    forward = np.stack([np.cos(pose[:, 2]), np.sin(pose[:, 2])], axis=1)
    return pose[:, None, :2] + inset[:, :, None] * forward[:, None]


__all__ = ["RED", "Recording", "drive", "is_east"]
