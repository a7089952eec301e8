"""Drives one log: the expert's route, an event, the traffic around it, and the recording.

The expert obeys everything the simulation obeys and has a human touch: preferences for speed,
curves and headways of its own, and a slow wander inside the lane. A drive that is uncomfortable,
touches somebody or misses its event is discarded and driven again.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from ops.synthesize.town.build_town import build_town
from ops.synthesize.town.routes import Route, make_route, pick_lanes
from ops.synthesize.town.signals import Signals
from ops.synthesize.town.town import Lane, Town, TownConfig
from ops.synthesize.traffic.event_kinds import stage_event
from ops.synthesize.traffic.events import Event, EventKind, EventSite
from ops.synthesize.traffic.recording import Recorder, Recording, disqualification
from ops.synthesize.traffic.spawn import ROUTE_M, spawn_fleet, spawn_people
from ops.synthesize.traffic.traffic import STEP_S, Traffic

WARM_UP_S = 4.0  # driven before the first frame, so that no frame shows the start
TRIES = 240
# logs with events: one of 55 needed more than 60 tries at 11 s, one of 14 at 9 s
SHORTEST_EVENT_S = 11.0
SLOW_MPS = 2.0
# recorded time below SLOW_MPS: a log that only waits teaches nothing but waiting
LONGEST_SLOW_S = 7.0
LEAST_BEND_RAD = 1.7  # turning of a route, left and right together, in the first BEND_M
BEND_M = 130
ROUTES = 25  # routes per try in search of a position for the event
EAST_SHARE = 0.72  # lanes beyond this share of the town's width are its eastern part


@dataclass(frozen=True, slots=True)
class DriveConfig:
    """The length of a drive, where it may go, and how likely an event is."""

    frames: int
    hz: float  # frames a second
    # only in the eastern part, only in the western part, or anywhere (None)
    east: bool | None = None
    event_rate: float = 0.0  # probability of a rare event


def drive(
    town: Town, parked: tuple[np.ndarray, np.ndarray], config: DriveConfig, rng: np.random.Generator
) -> Recording:
    """Drive one log. `parked`: poses of the centres (S, 3) and sizes (S, 3) of all parked cars.

    Raises RuntimeError if no try is acceptable, which would be a mistake in the world.
    """
    has_event = rng.random() < config.event_rate
    kinds = (
        rng.permutation(np.array(list(EventKind), object))
        if has_event
        else np.array([None], object)
    )
    reasons = []
    for attempt in range(TRIES):
        recording, reason = _attempt(town, parked, config, kinds[attempt // 8 % len(kinds)], rng)
        if recording is not None:
            return recording
        reasons.append(reason)
    raise RuntimeError(f"no acceptable drive in {TRIES} tries: {reasons}")


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
    """One drive, or None with the reason for which it was discarded."""
    staged = _stage(town, parked[0], config.east, kind, rng)
    if staged is None:
        return None, f"no position for {kind}"
    ego, start_m, event = staged
    setup = event.setup if event else Event.setup
    fleet, drivers, vehicle_kind = spawn_fleet(town, ego, start_m, setup, rng)
    people = spawn_people(town, ego, setup, rng)
    traffic = Traffic(town, fleet, drivers, people, Signals(town, rng))
    recorder, slow_s = Recorder(), 0.0
    every, warm_up = round(1.0 / (config.hz * STEP_S)), round(WARM_UP_S / STEP_S)
    steps = warm_up + (config.frames - 1) * every + 1
    for step in range(steps):
        if step >= warm_up:
            slow_s += STEP_S * (traffic.v_mps[0] < SLOW_MPS)
            reason = disqualification(traffic) or (
                "waits too long" if slow_s > LONGEST_SLOW_S else ""
            )
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


def _stage(
    town: Town,
    parked: np.ndarray,
    east: bool | None,
    kind: EventKind | None,
    rng: np.random.Generator,
) -> tuple[Route, float, Event | None] | None:
    """A route of the ego with enough turns, its start along it in metres, and the event on it.

    None if no route has a position for the event.
    """
    for _ in range(ROUTES):
        ego, start_m = _ego_route(town, east, rng), float(rng.uniform(5.0, 25.0))
        headings = ego.path[int(start_m) : int(start_m) + BEND_M, 2]
        if np.abs(np.diff(headings)).sum() < LEAST_BEND_RAD:
            continue
        if kind is None:
            return ego, start_m, None
        event = stage_event(kind, EventSite(town, ego, start_m, parked), rng)
        if event is not None:
            return ego, start_m, event
    return None


def _ego_route(town: Town, east: bool | None, rng: np.random.Generator) -> Route:
    allowed, starts = _allowed_lanes(town.config, east)
    lanes = pick_lanes(
        town,
        starts[rng.integers(len(starts))],
        ROUTE_M + 2.0,
        rng,
        lambda lane: lane.lane_id in allowed,
    )
    return make_route(town, lanes, ROUTE_M)


@lru_cache(maxsize=6)
def _allowed_lanes(config: TownConfig, east: bool | None) -> tuple[frozenset[int], tuple[int, ...]]:
    """Ids of the lanes in a part of the town, and of those in which a route can start.

    Cached for the process.
    """
    town = build_town(config)
    lanes = [lane for lane in town.lanes.values() if east is None or is_east(town, lane) == east]
    # lanes that lead only to the other part are left out, or training routes would enter it
    while east is not None:
        ids = {lane.lane_id for lane in lanes}
        staying = [lane for lane in lanes if not ids.isdisjoint(lane.successors)]
        if len(staying) == len(lanes):
            break
        lanes = staying
    return frozenset(lane.lane_id for lane in lanes), tuple(
        lane.lane_id for lane in lanes if not lane.is_connector
    )
