"""One log's drive: picks the expert's route, stages an event, fills the streets, runs the traffic
and records it. Not pictures.

The expert obeys everything the simulation obeys and adds a human touch: its own liking for speed,
curves and headways, and a slow wander inside the lane. A drive that hurts anybody's comfort or
body, or misses its event, is thrown away and driven again.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from ops.synthesize.town.routes import Route, make_route, pick_lanes
from ops.synthesize.town.signals import Signals
from ops.synthesize.town.town import Lane, Town, TownConfig, build_town
from ops.synthesize.traffic.events import Event, EventKind, stage
from ops.synthesize.traffic.recording import Recorder, Recording, fault
from ops.synthesize.traffic.spawn import ROUTE_M, spawn_fleet, spawn_people
from ops.synthesize.traffic.traffic import STEP_S, Traffic

WARM_UP_S = 4.0  # driven before the first frame, so that no frame shows the start
TRIES = 240
SHORTEST_EVENT_S = (
    11.0  # logs with events: one of 55 needed more than 60 tries at 11 s, one of 14 at 9 s
)
SLOW_MPS = 2.0
LONGEST_SLOW_S = (
    7.0  # recorded time in all below that speed: a log that only waits teaches nothing but waiting
)
LEAST_BEND_RAD = 1.7  # turning of a route, left and right together, in the first BEND_M
BEND_M = 130
ROUTES = 25  # looked at for a place for an event before a try is given up
EAST_SHARE = 0.72  # lanes beyond this share of the town's width are its eastern part


@dataclass(frozen=True, slots=True)
class DriveConfig:
    """What is asked of a drive."""

    frames: int
    hz: float  # frames a second
    east: bool | None = (
        None  # only in the eastern part, only in the western part, or anywhere (None)
    )
    event_rate: float = 0.0  # probability of a rare event


def drive(
    town: Town, parked: tuple[np.ndarray, np.ndarray], config: DriveConfig, rng: np.random.Generator
) -> Recording:
    """Drive one log. `parked`: poses of the centres (S, 3) and sizes (S, 3) of all parked cars.

    Raises RuntimeError if no try passes the audit, which would be a mistake in the world.
    """
    wanted = rng.random() < config.event_rate
    kinds = (
        rng.permutation(np.array(list(EventKind), object)) if wanted else np.array([None], object)
    )
    faults = []
    for attempt in range(TRIES):
        recording, reason = _attempt(town, parked, config, kinds[attempt // 8 % len(kinds)], rng)
        if recording is not None:
            return recording
        faults.append(reason)
    raise RuntimeError(f"no acceptable drive in {TRIES} tries: {faults}")


def is_east(town: Town, lane: Lane) -> bool:
    """True for lanes in the part of the town that training never enters."""
    return float(lane.path[:, 0].max()) > EAST_SHARE * town.size_m[0]


def _attempt(
    town: Town,
    parked: tuple[np.ndarray, np.ndarray],
    config: DriveConfig,
    kind: EventKind | None,
    rng: np.random.Generator,
) -> tuple[Recording | None, str]:
    for _ in range(ROUTES):
        ego, start_m = _ego_route(town, config.east, rng), float(rng.uniform(5.0, 25.0))
        if (
            np.abs(np.diff(ego.path[int(start_m) : int(start_m) + BEND_M, 2])).sum()
            < LEAST_BEND_RAD
        ):
            continue
        event = None if kind is None else stage(kind, town, ego, start_m, parked[0], rng)
        if kind is None or event is not None:
            break
    else:
        return None, f"no place for {kind}"
    fleet, drivers, vehicle_kind = spawn_fleet(
        town, ego, start_m, event.setting if event else _NOTHING, rng
    )
    people = spawn_people(town, ego, event.setting if event else _NOTHING, rng)
    traffic = Traffic(town, fleet, drivers, people, Signals(town, rng))
    recorder, reason, slow_s = Recorder(), "", 0.0
    every, warm_up = round(1.0 / (config.hz * STEP_S)), round(WARM_UP_S / STEP_S)
    steps = warm_up + (config.frames - 1) * every + 1
    for step in range(steps):
        if step >= warm_up:
            slow_s += STEP_S * (traffic.v_mps[0] < SLOW_MPS)
            reason = fault(traffic) or ("waits too long" if slow_s > LONGEST_SLOW_S else "")
            if reason:
                return None, reason
            if (step - warm_up) % every == 0:
                recorder.add(traffic)
        if event is not None:
            if event.missed(traffic):
                return None, f"{kind} was missed"
            if not event.can_happen(traffic.time_s, WARM_UP_S + 2.0, steps * STEP_S - 5.0 + 1e-3):
                return None, f"{kind} did not happen"
            event.step(traffic)
        traffic.step()
    if event is not None and not event.happened(WARM_UP_S + 2.0, traffic.time_s - 5.0):
        return None, f"{kind} did not happen"
    return recorder.finish(traffic, vehicle_kind, parked, event), ""


_NOTHING = Event.setting


def _ego_route(town: Town, east: bool | None, rng: np.random.Generator) -> Route:
    inside, starts = _allowed(town.config, east)
    lanes = pick_lanes(
        town,
        starts[rng.integers(len(starts))],
        ROUTE_M + 2.0,
        rng,
        lambda lane: lane.lane_id in inside,
    )
    return make_route(town, lanes, ROUTE_M)


@lru_cache(maxsize=6)
def _allowed(config: TownConfig, east: bool | None) -> tuple[frozenset[int], tuple[int, ...]]:
    """Lanes in that part of the town, and those of them a route can start in; kept for the process."""
    town = build_town(config)
    inside = [lane for lane in town.lanes.values() if east is None or is_east(town, lane) == east]
    while (
        east is not None
    ):  # who can only go on to the other part is left out, or training would be led there
        known = {lane.lane_id for lane in inside}
        closed = [lane for lane in inside if not known.isdisjoint(lane.successors)]
        if len(closed) == len(inside):
            break
        inside = closed
    return frozenset(lane.lane_id for lane in inside), tuple(
        lane.lane_id for lane in inside if not lane.is_connector
    )
