"""Who is on the streets at the start of a log: vehicles, their drivers and ways, and pedestrians.
Not how they move.
"""

from functools import lru_cache

import numpy as np

from ops.synthesize.town import curves
from ops.synthesize.town.routes import Route, make_route, pick_lanes, speed_profile
from ops.synthesize.town.town import LANE_WIDTH_M, Town, TownConfig, build_town
from ops.synthesize.traffic.events import Extra, Setting
from ops.synthesize.traffic.traffic import Drivers, Fleet
from ops.synthesize.traffic.walkers import Pedestrians

ROUTE_M = 560  # metres of route that are laid out for every vehicle
REACH_M = 330.0  # of them the ego can drive in a log
EGO_SIZE_M = (5.176, 2.297, 1.777)  # nuPlan's vehicle
# kind: sedan, hatchback, van, truck, cyclist: (length, width, height) m
KIND_SIZES = np.array(
    [[4.7, 1.85, 1.48], [4.1, 1.78, 1.55], [5.3, 2.0, 2.2], [8.2, 2.4, 3.2], [1.8, 0.65, 1.75]]
)
KIND_SHARES = np.array([0.48, 0.32, 0.14, 0.06])
# of drives without an event's vehicle in which the ego starts behind somebody
FOLLOW_SHARE = 0.85
_MOST_OTHERS = 26


def spawn_fleet(
    town: Town, ego: Route, start_m: float, setting: Setting, rng: np.random.Generator
) -> tuple[Fleet, Drivers, np.ndarray]:
    """The ego (vehicle 0), the vehicles of the event (from 1), and others near the ego's way; with
    kinds (V,).
    """
    extras = setting.extras
    if not extras and not setting.alone and rng.random() < FOLLOW_SHARE:
        extras = (
            Extra(
                int(rng.integers(3)),
                start_m + rng.uniform(15.0, 38.0),
                slower=rng.uniform(0.85, 1.0),
            ),
        )
    others = _spots(town, ego, start_m, extras, setting, rng)
    routes = [
        ego,
        *(
            ego if extra.lane_ids is None else make_route(town, extra.lane_ids, ROUTE_M)
            for extra in extras
        ),
    ]
    routes += [
        make_route(town, pick_lanes(town, lane, ROUTE_M + s + 2, rng), ROUTE_M)
        for lane, s in others
    ]
    count, fixed = len(routes), 1 + len(extras)
    kind = np.concatenate(
        [
            [0],
            [extra.kind for extra in extras],
            rng.choice(len(KIND_SHARES), count - fixed, p=KIND_SHARES),
        ]
    )
    kind = kind.astype(int)
    size = KIND_SIZES[kind] * rng.uniform(0.95, 1.06, (count, 3))
    size[0] = EGO_SIZE_M
    lateral, eager = rng.uniform(1.5, 2.1, count), np.clip(rng.normal(1.0, 0.07, count), 0.85, 1.12)
    lateral[0], eager[0] = rng.uniform(1.95, 2.1), rng.uniform(1.0, 1.04)
    cap = np.stack(
        [
            speed_profile(route, limit_factor=f, lateral_mps2=a, brake_mps2=1.8)
            for route, f, a in zip(routes, eager, lateral, strict=True)
        ]
    )
    aside = np.zeros((count, ROUTE_M))
    aside[0] = _wander(rng)
    for number, extra in enumerate(extras, start=1):
        cap[number] = np.minimum(cap[number] * extra.slower, extra.speed_cap_mps)
        aside[number] = extra.lateral_m
    at_m = np.array([start_m, *(extra.at_m for extra in extras), *(s for _, s in others)])
    frozen = np.array([False, *(extra.frozen for extra in extras), *([False] * len(others))])
    begin = cap[np.arange(count), at_m.astype(int)] * rng.uniform(0.5, 0.95, count)
    return (
        Fleet(routes, cap, at_m, np.where(frozen, 0.0, begin), size, aside, frozen),
        _drivers(count, extras, rng),
        kind,
    )


def spawn_people(town: Town, ego: Route, setting: Setting, rng: np.random.Generator) -> Pedestrians:
    """The walker of the event first, then people who cross at the junctions of the route, and
    walkers on the pavements.
    """
    rows = [(*setting.walker, 1e9, 0, 0, False, np.nan)] if setting.walker is not None else []
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
                away = (ends[first] - ends[1 - first]) / np.hypot(*(ends[first] - ends[1 - first]))
                rows.append(
                    (
                        ends[first] + shift + away * 0.6,
                        ends[1 - first] + shift - away * 8.0,
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
        for row in (_stroller(town, ego, rng) for _ in range(rng.integers(5, 14)))
        if row is not None
    ]
    if not rows:  # the arrays need somebody: one who waits for ever, far away
        rows = [(ego.path[0, :2] + 400.0, ego.path[0, :2] + 401.0, 1.0, 1e9, 0, 0, True, np.nan)]
    start, goal, speed, wish, where, axis, careful, begun = (
        np.array(column) for column in zip(*rows, strict=True)
    )
    return Pedestrians(start, goal, speed, wish, where, axis, careful, begun.astype(float))


def _stroller(town: Town, ego: Route, rng: np.random.Generator) -> tuple | None:
    """Somebody who walks along the pavement beside the route; None where the route crosses a
    junction.
    """
    at, side, step = int(rng.uniform(10, REACH_M)), rng.choice((-1, 1)), rng.choice((-26.0, 26.0))
    here = town.lanes[ego.lane_ids[int(np.searchsorted(ego.lane_start_m, at, side="right") - 1)]]
    if here.is_connector:
        return None
    street = town.streets[(here.roadblock_id - 30000) // 2]
    count = street.lanes_each_way
    inner = (here.index - 0.5) * LANE_WIDTH_M
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


def _spots(
    town: Town,
    ego: Route,
    start_m: float,
    extras: tuple[Extra, ...],
    setting: Setting,
    rng: np.random.Generator,
) -> list[tuple[int, float]]:
    """(lane, distance along it) of the other vehicles: on lanes near the ego's way, never closer
    than 16 m to anybody.
    """
    near = ego.path[: int(REACH_M) : 6, :2]
    taken = [ego.path[int(start_m), :2]]
    taken += [
        (ego.path if extra.lane_ids is None else town.lanes[extra.lane_ids[0]].path)[
            int(extra.at_m), :2
        ]
        for extra in extras
    ]
    chosen: list[tuple[int, float]] = list(setting.oncoming)
    taken += [town.lanes[lane].path[int(s), :2] for lane, s in chosen]
    density = rng.uniform(0.15, 0.50)
    spots, where = _every_spot(town.config)
    close = np.hypot(where[:, :1] - near[:, 0], where[:, 1:] - near[:, 1]).min(axis=1) < 75.0
    own = ego.lane_ids[:4]
    for index in rng.permutation(np.flatnonzero(close)):
        lane_id, s = spots[index]
        if (
            len(chosen) >= _MOST_OTHERS
            or rng.random() > density
            or ((extras or setting.alone) and lane_id in own)
        ):
            continue
        if np.hypot(*(np.array(taken) - where[index]).T).min() >= 16.0:
            chosen.append((lane_id, float(s)))
            taken.append(where[index])
    return chosen


@lru_cache(maxsize=2)
def _every_spot(config: TownConfig) -> tuple[list[tuple[int, int]], np.ndarray]:
    """(lane, distance along it) of all places where a vehicle may begin, and where they are (n, 2);
    kept for the process.
    """
    town = build_town(config)
    spots = [
        (lane.lane_id, s)
        for lane in town.lanes.values()
        if not lane.is_connector
        for s in range(6, len(lane.path) - 12, 10)
    ]
    return spots, np.array([town.lanes[lane].path[s, :2] for lane, s in spots])


def _drivers(count: int, extras: tuple[Extra, ...], rng: np.random.Generator) -> Drivers:
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
    """Slow lateral drift of a human driver inside the lane, a sum of two waves along the way, (M,)
    metres.
    """
    amplitude, phase = rng.uniform(0.02, 0.07, 2), rng.uniform(0, 2 * np.pi, 2)
    wave = 2 * np.pi / rng.uniform((55.0, 28.0), (90.0, 45.0))
    return (amplitude * np.sin(np.arange(ROUTE_M)[:, None] * wave + phase)).sum(axis=1)
