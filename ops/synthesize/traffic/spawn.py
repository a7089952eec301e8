"""The road users at the start of a log: vehicles with their drivers and routes, and pedestrians."""

from functools import lru_cache

import numpy as np

from ops.synthesize.town import curves
from ops.synthesize.town.build_town import build_town
from ops.synthesize.town.routes import Route, make_route, pick_lanes, speed_profile
from ops.synthesize.town.town import LANE_WIDTH_M, Town, TownConfig
from ops.synthesize.traffic.events import EventSetup, EventVehicle
from ops.synthesize.traffic.traffic import Drivers, Fleet
from ops.synthesize.traffic.walkers import Pedestrians

ROUTE_M = 560  # length of every vehicle's route
REACH_M = 330.0  # of it, what the ego can drive in a log
EGO_SIZE_M = (5.176, 2.297, 1.777)  # nuPlan's vehicle
# kind: sedan, hatchback, van, truck, cyclist: (length, width, height) m
KIND_SIZES = np.array(
    [[4.7, 1.85, 1.48], [4.1, 1.78, 1.55], [5.3, 2.0, 2.2], [8.2, 2.4, 3.2], [1.8, 0.65, 1.75]]
)
KIND_SHARES = np.array([0.48, 0.32, 0.14, 0.06])
# of drives without an event's vehicle in which the ego starts behind another one
FOLLOW_SHARE = 0.85
_MAX_OTHERS = 26


def spawn_fleet(
    town: Town, ego: Route, start_m: float, setup: EventSetup, rng: np.random.Generator
) -> tuple[Fleet, Drivers, np.ndarray]:
    """The ego (vehicle 0), the vehicles of the event (from 1 on), and others near the ego's route.

    Returns the vehicles, their drivers, and their rows of KIND_SIZES (V,).
    """
    event_vehicles = setup.vehicles
    if not event_vehicles and not setup.no_leader and rng.random() < FOLLOW_SHARE:
        event_vehicles = (
            EventVehicle(
                int(rng.integers(3)),
                start_m + rng.uniform(15.0, 38.0),
                speed_share=rng.uniform(0.85, 1.0),
            ),
        )
    others = _start_positions(town, ego, start_m, event_vehicles, setup, rng)
    routes = [
        ego,
        *(
            ego if vehicle.lane_ids is None else make_route(town, vehicle.lane_ids, ROUTE_M)
            for vehicle in event_vehicles
        ),
    ]
    routes += [
        make_route(town, pick_lanes(town, lane, ROUTE_M + s + 2, rng), ROUTE_M)
        for lane, s in others
    ]
    count, event_kinds = len(routes), [vehicle.kind for vehicle in event_vehicles]
    other_kinds = rng.choice(len(KIND_SHARES), len(others), p=KIND_SHARES)
    kind = np.concatenate([[0], event_kinds, other_kinds]).astype(int)
    size = KIND_SIZES[kind] * rng.uniform(0.95, 1.06, (count, 3))
    size[0] = EGO_SIZE_M
    lateral_mps2 = rng.uniform(1.5, 2.1, count)
    limit_factor = np.clip(rng.normal(1.0, 0.07, count), 0.85, 1.12)
    lateral_mps2[0], limit_factor[0] = rng.uniform(1.95, 2.1), rng.uniform(1.0, 1.04)
    cap = np.stack(
        [
            speed_profile(route, limit_factor=f, lateral_mps2=a, brake_mps2=1.8)
            for route, f, a in zip(routes, limit_factor, lateral_mps2, strict=True)
        ]
    )
    lateral_m = np.zeros((count, ROUTE_M))
    lateral_m[0] = _wander(rng)
    for number, vehicle in enumerate(event_vehicles, start=1):
        cap[number] = np.minimum(cap[number] * vehicle.speed_share, vehicle.speed_cap_mps)
        lateral_m[number] = vehicle.lateral_m
    at_m = np.array(
        [start_m, *(vehicle.at_m for vehicle in event_vehicles), *(s for _, s in others)]
    )
    frozen = np.array(
        [False, *(vehicle.frozen for vehicle in event_vehicles), *([False] * len(others))]
    )
    speed_mps = cap[np.arange(count), at_m.astype(int)] * rng.uniform(0.5, 0.95, count)
    return (
        Fleet(routes, cap, at_m, np.where(frozen, 0.0, speed_mps), size, lateral_m, frozen),
        _drivers(count, rng),
        kind,
    )


def spawn_people(
    town: Town, ego: Route, setup: EventSetup, rng: np.random.Generator
) -> Pedestrians:
    """The pedestrian of the event first, then those who cross at the junctions of the route, and
    those on the pavements.
    """
    rows = [(*setup.walker, 1e9, 0, 0, False, np.nan)] if setup.walker is not None else []
    for slot in range(3):
        if not ego.connector[slot]:
            continue
        junction = town.junctions[town.lanes[int(ego.connector[slot])].junction_id]
        for arm in junction.arms:
            if arm.crosswalk is None:
                continue
            for _ in range(rng.poisson(0.9)):
                ends = np.stack(
                    [arm.crosswalk[[0, 3]].mean(axis=0), arm.crosswalk[[1, 2]].mean(axis=0)]
                )
                shift = rng.uniform(-1.1, 1.1) * curves.heading_vector(arm.mouth[2])
                first = int(rng.integers(2))
                outward = (ends[first] - ends[1 - first]) / np.hypot(
                    *(ends[first] - ends[1 - first])
                )
                rows.append(
                    (
                        ends[first] + shift + outward * 0.6,
                        ends[1 - first] + shift - outward * 8.0,
                        rng.uniform(1.1, 1.6),
                        rng.uniform(0.0, 22.0),
                        junction.junction_id,
                        arm.axis,
                        True,
                        np.nan,
                    )
                )
    rows += [
        row
        for row in (_pavement_walker(town, ego, rng) for _ in range(rng.integers(5, 14)))
        if row is not None
    ]
    if not rows:  # the arrays must not be empty: one pedestrian who waits far away
        rows = [(ego.path[0, :2] + 400.0, ego.path[0, :2] + 401.0, 1.0, 1e9, 0, 0, True, np.nan)]
    start, goal, speed, wish_s, junction_id, axis, careful, begun_s = (
        np.array(column) for column in zip(*rows, strict=True)
    )
    return Pedestrians(
        start, goal, speed, wish_s, junction_id, axis, careful, begun_s.astype(float)
    )


def _pavement_walker(town: Town, ego: Route, rng: np.random.Generator) -> tuple | None:
    """A pedestrian on the pavement beside the route; None where the route crosses a junction."""
    at, side, step = int(rng.uniform(10, REACH_M)), rng.choice((-1, 1)), rng.choice((-26.0, 26.0))
    lane = town.lanes[ego.lane_at(at)]
    if lane.is_connector:
        return None
    street = town.streets[(lane.roadblock_id - 30000) // 2]
    count = street.lanes_each_way
    inner = (lane.index - 0.5) * LANE_WIDTH_M
    to_kerb = (
        street.half_width_m - (street.half_width_m - count * LANE_WIDTH_M) + count * LANE_WIDTH_M
        if side > 0
        else 0.0
    )
    beside = (
        inner + to_kerb + street.median_m + 3.4 if side > 0 else count * LANE_WIDTH_M - inner + 3.2
    )
    if side < 0 and street.bays:
        beside += 2.4
    ends = [
        curves.offset(ego.path[[int(np.clip(at + s, 0, ROUTE_M - 1))]], side * beside)[0, :2]
        for s in (0.0, step)
    ]
    return (*ends, rng.uniform(1.0, 1.5), -30.0, 0, 0, False, -rng.uniform(0.0, 12.0))


def _start_positions(
    town: Town,
    ego: Route,
    start_m: float,
    event_vehicles: tuple[EventVehicle, ...],
    setup: EventSetup,
    rng: np.random.Generator,
) -> list[tuple[int, float]]:
    """(lane id, metres along it) of the other vehicles: near the ego's route, at least 16 m from
    every other.
    """
    route_xy = ego.path[: int(REACH_M) : 6, :2]
    taken = [ego.path[int(start_m), :2]]
    taken += [
        (ego.path if vehicle.lane_ids is None else town.lanes[vehicle.lane_ids[0]].path)[
            int(vehicle.at_m), :2
        ]
        for vehicle in event_vehicles
    ]
    chosen: list[tuple[int, float]] = list(setup.oncoming)
    taken += [town.lanes[lane].path[int(s), :2] for lane, s in chosen]
    density = rng.uniform(0.15, 0.50)
    candidates, candidate_xy = _candidate_positions(town.config)
    away = candidate_xy[:, None] - route_xy
    is_near = np.hypot(away[..., 0], away[..., 1]).min(axis=1) < 75.0
    first_lanes = ego.lane_ids[:4]
    for index in rng.permutation(np.flatnonzero(is_near)):
        lane_id, s = candidates[index]
        if (
            len(chosen) >= _MAX_OTHERS
            or rng.random() > density
            or ((event_vehicles or setup.no_leader) and lane_id in first_lanes)
        ):
            continue
        if np.hypot(*(np.array(taken) - candidate_xy[index]).T).min() >= 16.0:
            chosen.append((lane_id, float(s)))
            taken.append(candidate_xy[index])
    return chosen


@lru_cache(maxsize=2)
def _candidate_positions(config: TownConfig) -> tuple[list[tuple[int, int]], np.ndarray]:
    """(lane id, metres along it) of all positions where a vehicle may start, and their xy (n, 2).

    Cached for the process.
    """
    town = build_town(config)
    positions = [
        (lane.lane_id, s)
        for lane in town.lanes.values()
        if not lane.is_connector
        for s in range(6, len(lane.path) - 12, 10)
    ]
    return positions, np.array([town.lanes[lane].path[s, :2] for lane, s in positions])


def _drivers(count: int, rng: np.random.Generator) -> Drivers:
    drivers = Drivers(
        rng.uniform(1.3, 2.0, count),
        rng.uniform(1.5, 2.2, count),
        np.full(count, 7.0),
        np.full(count, 6.0),
        rng.uniform(1.0, 1.6, count),
        rng.uniform(1.8, 3.0, count),
        rng.uniform(2.5, 4.2, count),
    )
    drivers.accel_mps2[0], drivers.brake_mps2[0] = rng.uniform(2.0, 2.15), rng.uniform(2.0, 2.2)
    drivers.hardest_mps2[0], drivers.jerk_mps3[0] = 3.7, 2.2
    drivers.headway_s[0], drivers.gap_m[0], drivers.stop_m[0] = (
        rng.uniform(1.4, 1.55),
        rng.uniform(1.8, 2.1),
        1.0,
    )
    return drivers


def _wander(rng: np.random.Generator) -> np.ndarray:
    """Slow lateral drift of a human driver inside the lane, (M,) metres: the sum of two waves."""
    amplitude, phase = rng.uniform(0.02, 0.07, 2), rng.uniform(0, 2 * np.pi, 2)
    wave_number = 2 * np.pi / rng.uniform((55.0, 28.0), (90.0, 45.0))
    return (amplitude * np.sin(np.arange(ROUTE_M)[:, None] * wave_number + phase)).sum(axis=1)
