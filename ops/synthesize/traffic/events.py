"""A rare event of a drive: its tag, what it needs on the street, and when it is active.

The six kinds are in event_kinds.py.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum

import numpy as np

from ops.synthesize.town import curves
from ops.synthesize.town.routes import Route
from ops.synthesize.town.town import Lane, Town
from ops.synthesize.traffic.traffic import Traffic

SEDAN, VAN, CYCLIST = 0, 2, 4  # rows of spawn.KIND_SIZES
HAZARD = 2  # blinker value: both sides


class EventKind(StrEnum):
    """The tags of rare events."""

    CUT_IN = "cut_in"
    HARD_BRAKING_LEADER = "hard_braking_leader"
    JAYWALKER = "jaywalker"
    BLOCKED_LANE = "blocked_lane"
    LATE_AMBER = "late_amber"
    SLOW_CYCLIST = "slow_cyclist"


@dataclass(frozen=True, slots=True)
class EventVehicle:
    """A vehicle that an event needs; the first one is vehicle 1 of the traffic."""

    kind: int  # row of spawn.KIND_SIZES
    at_m: float  # start of its rear axle along its route
    lateral_m: float = 0.0  # to the left of its route
    frozen: bool = False  # stands until the event starts it
    speed_cap_mps: float = 99.0
    lane_ids: tuple[int, ...] | None = None  # lanes of its own route; None: the ego's route
    speed_share: float = 1.0  # of its speed profile


@dataclass(frozen=True, slots=True)
class EventSetup:
    """What an event needs on the street before the drive."""

    vehicles: tuple[EventVehicle, ...] = ()
    oncoming: tuple[tuple[int, float], ...] = ()  # (lane id, metres along it) of oncoming cars
    no_leader: bool = False  # no vehicle starts on the ego's first lanes
    walker: tuple[np.ndarray, np.ndarray, float] | None = None  # start, goal, m/s; pedestrian 0
    cones: np.ndarray = field(default_factory=lambda: np.zeros((0, 3)))  # (n, 3) poses


@dataclass(frozen=True, slots=True)
class EventSite:
    """Where an event can be staged: the ego's route in a town."""

    town: Town
    ego: Route
    start_m: float  # the ego's start along its route
    parked: np.ndarray  # (S, 3) poses of parked cars

    def position(
        self,
        range_m: tuple[float, float],
        margins_m: tuple[float, float],
        is_suitable: Callable[[Lane], bool],
        rng: np.random.Generator,
    ) -> float | None:
        """A random position on the route in a suitable lane, or None if there is none.

        It lies in `range_m` ahead of the start, and at least `margins_m` after the start and before
        the end of its lane.
        """
        positions = []
        for start_m, lane_id in zip(self.ego.lane_start_m, self.ego.lane_ids, strict=True):
            lane = self.town.lanes[lane_id]
            end_m = start_m + len(lane.path) - 1
            low = max(start_m + margins_m[0], self.start_m + range_m[0])
            high = min(end_m - margins_m[1], self.start_m + range_m[1])
            if not lane.is_connector and high > low and is_suitable(lane):
                positions.append(rng.uniform(low, high))
        return float(positions[rng.integers(len(positions))]) if positions else None

    def has_parked_car(self, at_m: float, left_m: float, within_m: float) -> bool:
        """True if a parked car stands within `within_m` of a point `left_m` beside the route."""
        point = curves.offset(self.ego.pose_at(at_m), left_m)[0, :2]
        return bool((np.hypot(*(self.parked[:, :2] - point).T) < within_m).any())


class Event:
    """An event on the ego's route.

    `stage` chooses its position before the drive, `step` triggers it at the right moment, and
    `spans` are the times in which frames get its tag.
    """

    kind: EventKind
    recurs = False  # can add spans after the first
    setup = EventSetup()

    def __init__(self) -> None:
        self.spans: list[tuple[float, float]] = []
        self.begun_s: float | None = None  # time at which it was triggered
        self.last_m = np.inf  # ego position on the route after which it cannot begin

    def missed(self, traffic: Traffic) -> bool:
        """True if the event has not begun and no longer can."""
        return self.begun_s is None and bool(traffic.s_m[0] > self.last_m)

    @classmethod
    def stage(cls, site: EventSite, rng: np.random.Generator) -> "Event | None":
        """An event of this kind at `site`, or None where no position is suitable."""
        raise NotImplementedError

    def step(self, traffic: Traffic) -> None:
        """Update the event and its vehicles before the next step of the traffic."""
        raise NotImplementedError

    def happened(self, from_s: float, to_s: float) -> bool:
        """True if the event was active for at least one second between two times."""
        return self._active_s(from_s, to_s) >= 1.0

    def can_happen(self, now_s: float, from_s: float, to_s: float) -> bool:
        """False as soon as `happened` cannot become true any more."""
        left_s = to_s - max(now_s - 1e-3, from_s) if self.recurs or not self.spans else 0.0
        return self._active_s(from_s, to_s) + max(left_s, 0.0) >= 1.0

    def _active_s(self, from_s: float, to_s: float) -> float:
        return sum(
            min(end, to_s) - max(begin, from_s)
            for begin, end in self.spans
            if min(end, to_s) > max(begin, from_s)
        )

    def active(self, time_s: float) -> bool:
        """True if a frame at this time gets the event's tag."""
        return any(begin - 1e-6 <= time_s <= end + 1e-6 for begin, end in self.spans)
