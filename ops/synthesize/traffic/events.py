"""Rare events staged in front of the ego: what stands ready before the drive, and when it happens.
Not how anybody reacts.

An event is staged on the ego's route before the drive; `step` watches the traffic and lets it
happen at the right moment; `spans` are the times during which its tag belongs on a frame.
"""

from dataclasses import dataclass, field
from enum import StrEnum

import numpy as np

from ops.synthesize.town import curves
from ops.synthesize.town.routes import Route, pick_lanes
from ops.synthesize.town.town import BAY_WIDTH_M, LANE_WIDTH_M, SHOULDER_M, Lane, Town
from ops.synthesize.traffic.traffic import REAR_SHARE, Traffic

SEDAN, VAN, CYCLIST = 0, 2, 4  # kinds of spawn.KIND_SIZES
HAZARD = 2  # blinker value: both sides
_BESIDE_M = (
    LANE_WIDTH_M / 2 + SHOULDER_M + BAY_WIDTH_M / 2
)  # from a lane's middle to a parked car's


class EventKind(StrEnum):
    """The tags of rare events."""

    CUT_IN = "cut_in"
    HARD_BRAKING_LEADER = "hard_braking_leader"
    JAYWALKER = "jaywalker"
    BLOCKED_LANE = "blocked_lane"
    LATE_AMBER = "late_amber"
    SLOW_CYCLIST = "slow_cyclist"


@dataclass(frozen=True, slots=True)
class Extra:
    """A vehicle that an event needs; the first one is vehicle 1."""

    kind: int
    at_m: float  # rear axle, on its route
    lateral_m: float = 0.0  # to the left of its route
    frozen: bool = False
    speed_cap_mps: float = 99.0
    lane_ids: tuple[int, ...] | None = None  # its own route; None: the ego's
    slower: float = 1.0  # share of the speed it would like otherwise


@dataclass(frozen=True, slots=True)
class Setting:
    """What stands ready for an event."""

    extras: tuple[Extra, ...] = ()
    oncoming: tuple[tuple[int, float], ...] = ()  # (lane, distance along it) of cars to spawn
    alone: bool = False  # nobody starts ahead of the ego on its way
    walker: tuple[np.ndarray, np.ndarray, float] | None = None  # start, goal, speed; walker 0
    cones: np.ndarray = field(default_factory=lambda: np.zeros((0, 3)))  # (n, 3) poses


class Event:
    """One staged event."""

    kind: EventKind
    recurs = False  # spans are added to after the first
    setting = Setting()

    def __init__(self) -> None:
        self.spans: list[tuple[float, float]] = []
        self.begun_s: float | None = None
        self.last_m = np.inf  # ego position after which it is too late to begin

    def missed(self, traffic: Traffic) -> bool:
        """True if the event has not begun and no longer can."""
        return self.begun_s is None and bool(traffic.s_m[0] > self.last_m)

    @classmethod
    def stage(
        cls, town: Town, ego: Route, start_m: float, parked: np.ndarray, rng: np.random.Generator
    ) -> "Event | None":
        """An event of this kind on the ego's route, or None where the route has no fit place."""
        raise NotImplementedError

    def step(self, traffic: Traffic) -> None:
        """Look at the traffic before its next step, and act."""
        raise NotImplementedError

    def happened(self, from_s: float, to_s: float) -> bool:
        """True if the event is active for at least a second between two times."""
        return self._active_s(from_s, to_s) >= 1.0

    def can_happen(self, now_s: float, from_s: float, to_s: float) -> bool:
        """False as soon as `happened` is out of reach, whatever comes, so that no time is lost on
        the rest of the drive.
        """
        left_s = to_s - max(now_s - 1e-3, from_s) if self.recurs or not self.spans else 0.0
        return self._active_s(from_s, to_s) + max(left_s, 0.0) >= 1.0

    def _active_s(self, from_s: float, to_s: float) -> float:
        return sum(
            min(end, to_s) - max(begin, from_s)
            for begin, end in self.spans
            if min(end, to_s) > max(begin, from_s)
        )

    def active(self, time_s: float) -> bool:
        return any(begin - 1e-6 <= time_s <= end + 1e-6 for begin, end in self.spans)


def stage(
    kind: EventKind,
    town: Town,
    ego: Route,
    start_m: float,
    parked: np.ndarray,
    rng: np.random.Generator,
) -> Event | None:
    """An event of this kind on the ego's route, or None where the route has no fit place. `parked`
    (S, 3): parked cars.
    """
    return {
        EventKind.CUT_IN: _CutIn,
        EventKind.HARD_BRAKING_LEADER: _HardBraking,
        EventKind.JAYWALKER: _Jaywalker,
        EventKind.BLOCKED_LANE: _BlockedLane,
        EventKind.LATE_AMBER: _LateAmber,
        EventKind.SLOW_CYCLIST: _SlowCyclist,
    }[kind].stage(town, ego, start_m, parked, rng)


class _HardBraking(Event):
    kind = EventKind.HARD_BRAKING_LEADER
    from_s: float
    for_s: float
    brake: float

    @classmethod
    def stage(
        cls, town: Town, ego: Route, start_m: float, parked: np.ndarray, rng: np.random.Generator
    ) -> Event | None:
        event = cls()
        event.setting = Setting((Extra(SEDAN, start_m + rng.uniform(17.0, 26.0)),))
        event.from_s, event.brake = rng.uniform(6.0, 13.0), rng.uniform(3.6, 4.6)
        event.for_s = rng.uniform(1.5, 2.4)
        return event

    def step(self, traffic: Traffic) -> None:
        if self.begun_s is None:
            ready = (
                traffic.time_s > self.from_s and traffic.leader == 1 and traffic.leader_gap_m < 26.0
            )
            if ready and traffic.v_mps[1] > 5.0 and traffic.v_mps[0] > 5.0:
                self.begun_s = traffic.time_s
                self.spans = [(self.begun_s, self.begun_s + self.for_s + 2.0)]
                traffic.extra_brake[1] = self.brake
        elif traffic.time_s > self.begun_s + self.for_s:
            traffic.extra_brake[1] = 0.0


class _CutIn(Event):
    """A car pulls out of a bay, or changes into the ego's lane on a wide street."""

    kind = EventKind.CUT_IN
    in_time_s: float
    parked: bool

    @classmethod
    def stage(
        cls, town: Town, ego: Route, start_m: float, parked: np.ndarray, rng: np.random.Generator
    ) -> Event | None:
        event = cls()
        event.in_time_s = rng.uniform(2.9, 3.6)
        place = _place(
            town, ego, start_m + 55, start_m + 150, 6, 40, lambda lane: _lanes(town, lane) == 1, rng
        )
        if place is not None and rng.random() < 0.6:
            event.parked, event.last_m = True, place
            if _crowded(ego, place + 1.0, -_BESIDE_M, parked, 5.6):
                return None
            event.setting = Setting((Extra(SEDAN, place, -_BESIDE_M, True, 7.0),))
            return event
        place = _place(
            town, ego, start_m + 20, start_m + 90, 6, 55, lambda lane: _lanes(town, lane) == 2, rng
        )
        if place is None:
            return None
        lane = town.lanes[_lane_at(ego, place)]
        event.parked, event.last_m = (
            False,
            ego.lane_start_m[ego.lane_ids.index(lane.lane_id)] + len(lane.path) - 28.0,
        )
        side = LANE_WIDTH_M if lane.index == 2 else -LANE_WIDTH_M
        event.setting = Setting((Extra(SEDAN, place, side, False, rng.uniform(5.5, 7.5)),))
        return event

    def step(self, traffic: Traffic) -> None:
        gap = traffic.s_m[1] - traffic.rear_m[1] - traffic.s_m[0] - traffic.front_m[0]
        if self.begun_s is None:
            if self.parked:
                ready = 6.0 < gap < self.in_time_s * traffic.v_mps[0] and traffic.v_mps[0] > 4.0
            else:
                ready = 8.0 < gap < 17.0 and traffic.s_m[1] < self.last_m and traffic.time_s > 4.5
            if ready:
                self.begun_s = traffic.time_s
                traffic.frozen[1] = False
                _swerve(traffic, 1, traffic.s_m[1] + 0.5, 9.0 if self.parked else 15.0, 0.0)
                traffic.blinker[1] = 1 if traffic.fleet.lateral_m[1, 0] < 0 else -1
                self.spans = [(self.begun_s, self.begun_s + 4.5)]
        elif traffic.time_s > self.begun_s + 3.0:
            traffic.blinker[1] = 0


class _Jaywalker(Event):
    """Somebody steps out from behind a parked van."""

    kind = EventKind.JAYWALKER
    in_time_s: float
    place_m: float

    @classmethod
    def stage(
        cls, town: Town, ego: Route, start_m: float, parked: np.ndarray, rng: np.random.Generator
    ) -> Event | None:
        place = _place(
            town,
            ego,
            start_m + 60,
            start_m + 160,
            12,
            14,
            lambda lane: lane.index == _lanes(town, lane),
            rng,
        )
        if place is None or _crowded(ego, place - 3.0, -_BESIDE_M, parked, 6.0):
            return None
        event = cls()
        event.place_m, event.in_time_s, event.last_m = place + 0.9, rng.uniform(3.0, 3.6), place
        lane = town.lanes[_lane_at(ego, place)]
        far = _lanes(town, lane) * 2 * LANE_WIDTH_M + 3.5
        ends = [
            curves.offset(_point(ego, event.place_m), side)[0, :2]
            for side in (-(LANE_WIDTH_M / 2 + 1.6), far)
        ]
        van_m = place - 5.3 * (1 - REAR_SHARE)
        event.setting = Setting(
            (Extra(VAN, van_m, -_BESIDE_M, True),), walker=(ends[0], ends[1], rng.uniform(1.5, 2.1))
        )
        return event

    def step(self, traffic: Traffic) -> None:
        if self.begun_s is not None:
            return
        away = self.place_m - traffic.s_m[0] - traffic.front_m[0]
        if 0 < away < self.in_time_s * traffic.v_mps[0] and traffic.v_mps[0] > 4.5:
            self.begun_s = traffic.time_s
            traffic.people.begun_s[0] = traffic.time_s
            self.spans = [(self.begun_s, self.begun_s + 4.5)]


class _BlockedLane(Event):
    """A van stands in the lane; the ego waits for oncoming traffic and passes it on the other side."""

    kind = EventKind.BLOCKED_LANE
    SWING_M, RAMP_M = 3.0, 12.0
    rear_m: float
    ahead_m: float

    @classmethod
    def stage(
        cls, town: Town, ego: Route, start_m: float, parked: np.ndarray, rng: np.random.Generator
    ) -> Event | None:
        def fits(lane: Lane) -> bool:
            return (
                _lanes(town, lane) == 1
                and town.streets[(lane.roadblock_id - 30000) // 2].median_m == 0
            )

        place = _place(town, ego, start_m + 70, start_m + 140, 24, 30, fits, rng)
        if place is None:
            return None
        event = cls()
        event.rear_m, event.ahead_m = place - 1.2, place + 4.2
        event.last_m = place + 10.0
        lane = town.lanes[_lane_at(ego, place)]
        back = town.roadblocks[30000 + ((lane.roadblock_id - 30000) ^ 1)].lane_ids[0]
        length = len(town.lanes[back].path)
        oncoming = (
            tuple((back, float(s)) for s in rng.uniform(5, length - 10, 2))
            if rng.random() < 0.75
            else ()
        )
        behind = [
            curves.offset(_point(ego, event.rear_m - step), side)[0]
            for step, side in ((2.0, 0.3), (3.2, -0.5), (4.4, -1.2))
        ]
        event.setting = Setting(
            (Extra(VAN, place, -0.45, True),),
            oncoming[:1]
            if len(oncoming) == 2 and abs(oncoming[0][1] - oncoming[1][1]) < 14
            else oncoming,
            cones=np.array(behind),
        )
        return event

    def step(self, traffic: Traffic) -> None:
        ego_m, front_m = traffic.s_m[0], traffic.s_m[0] + traffic.front_m[0]
        traffic.blinker[1] = HAZARD
        if not self.spans and self.rear_m - front_m < 30.0:
            self.spans = [(traffic.time_s, np.inf)]
        if self.begun_s is None:
            traffic.stop_at_m[0] = self.rear_m - 8.5
            near = self.rear_m - front_m < 26.0
            if near and self._clear(traffic):
                self.begun_s, traffic.stop_at_m[0] = traffic.time_s, np.inf
                begin = max(ego_m + 0.5, self.rear_m - 17.0)
                _swerve(traffic, 0, begin, self.RAMP_M, self.SWING_M)
                _swerve(traffic, 0, self.ahead_m + 2.0, self.RAMP_M, 0.0)
                detour = slice(int(begin) - 4, int(self.ahead_m + self.RAMP_M))
                traffic.speed_cap[0, detour] = np.minimum(traffic.speed_cap[0, detour], 5.2)
            elif near:
                traffic.blinker[0] = 1
        elif self.spans[0][1] == np.inf and ego_m > self.ahead_m + self.RAMP_M:
            self.spans = [(self.spans[0][0], traffic.time_s)]

    def _clear(self, traffic: Traffic) -> bool:
        """No oncoming vehicle that could be met beside the van."""
        base = traffic.ways.base[0]
        stretch = base[max(int(traffic.s_m[0]) - 5, 0) : int(self.ahead_m) + 85]
        pose = traffic.poses()[1:]
        away = pose[:, None, :2] - stretch[None, :, :2]
        nearest = np.argmin((away**2).sum(axis=2), axis=1)
        heading = stretch[nearest, 2]
        gone = away[np.arange(len(pose)), nearest]
        side = gone[:, 1] * np.cos(heading) - gone[:, 0] * np.sin(heading)
        opposite = np.cos(pose[:, 2] - heading) < -0.3
        return not (opposite & (side > 0.8) & (side < 6.0) & (np.hypot(*gone.T) < 6.5)).any()


class _LateAmber(Event):
    """The light turns amber when the ego is near the line: it stops if it can in comfort, and goes
    on otherwise.
    """

    kind = EventKind.LATE_AMBER
    line_m: float
    junction_id: int
    axis: int
    in_time_s: float

    @classmethod
    def stage(
        cls, town: Town, ego: Route, start_m: float, parked: np.ndarray, rng: np.random.Generator
    ) -> Event | None:
        for slot, lane_id in enumerate(ego.connector):
            if lane_id and town.junctions[town.lanes[int(lane_id)].junction_id].signalled:
                if not start_m + 60 < ego.enter_m[slot] < start_m + 190:
                    continue
                event = cls()
                event.setting = Setting(alone=True)
                lane = town.lanes[int(lane_id)]
                event.line_m, event.junction_id, event.axis = (
                    float(ego.enter_m[slot]),
                    lane.junction_id,
                    lane.arm % 2,
                )
                event.in_time_s, event.last_m = rng.uniform(1.5, 3.2), event.line_m
                return event
        return None

    def step(self, traffic: Traffic) -> None:
        away = self.line_m - traffic.s_m[0] - traffic.front_m[0]
        v = traffic.v_mps[0]
        if traffic.time_s == 0:  # green when the ego will come, or there is nothing to turn amber
            ahead = traffic.speed_cap[
                0, int(traffic.s_m[0] + traffic.front_m[0]) : int(self.line_m)
            ]
            traffic.signals.turn_green(self.junction_id, self.axis, float((1 / ahead).sum()) - 4.0)
        near = (
            self.begun_s is None
            and v > 5.0
            and 0 < away < self.in_time_s * v
            and traffic.leader_gap_m > away
        )
        if (
            near
            and traffic.signals.states(traffic.time_s)[traffic.signals.row[self.junction_id]][
                self.axis
            ]
            == 0
        ):
            self.begun_s = traffic.time_s
            self.spans = [(self.begun_s, self.begun_s + 4.0)]
            traffic.signals.turn_amber(self.junction_id, self.axis, traffic.time_s)


class _SlowCyclist(Event):
    """Somebody rides a bicycle in the lane; the ego stays behind until their ways part."""

    kind = EventKind.SLOW_CYCLIST
    recurs = True

    @classmethod
    def stage(
        cls, town: Town, ego: Route, start_m: float, parked: np.ndarray, rng: np.random.Generator
    ) -> Event | None:
        place = _place(town, ego, start_m + 45, start_m + 100, 4, 35, lambda lane: True, rng)
        if place is None:
            return None
        lane_id = _lane_at(ego, place)
        at = ego.lane_ids.index(lane_id)
        others = [lane for lane in town.lanes[lane_id].successors if lane != ego.lane_ids[at + 1]]
        first = others[rng.integers(len(others))] if others else ego.lane_ids[at + 1]
        event = cls()
        lanes = (lane_id, *pick_lanes(town, first, ego.length_m, rng))
        event.setting = Setting(
            (
                Extra(
                    CYCLIST,
                    place - ego.lane_start_m[at],
                    -0.25,
                    False,
                    rng.uniform(3.6, 4.6),
                    lanes,
                ),
            )
        )
        return event

    def step(self, traffic: Traffic) -> None:
        if traffic.leader == 1 and traffic.leader_gap_m < 24.0 and traffic.v_mps[0] > 1.0:
            if self.spans and traffic.time_s - self.spans[-1][1] < 1.0:
                self.spans[-1] = (self.spans[-1][0], traffic.time_s)
            else:
                self.spans.append((traffic.time_s, traffic.time_s))


def _swerve(traffic: Traffic, vehicle: int, from_m: float, over_m: float, to_m: float) -> None:
    """Change a vehicle's way so that it moves to `to_m` beside its route's line over a stretch, and
    stays there.
    """
    lateral = traffic.fleet.lateral_m[vehicle]
    along = np.clip((np.arange(len(lateral)) - from_m) / over_m, 0.0, 1.0)
    ease = along**3 * (10 - 15 * along + 6 * along**2)
    wander = lateral - traffic.planned_m[vehicle]
    traffic.planned_m[vehicle] = traffic.planned_m[vehicle] * (1 - ease) + to_m * ease
    lateral[:] = traffic.planned_m[vehicle] + wander
    traffic.shift(vehicle, lateral)


def _place(
    town: Town,
    ego: Route,
    low_m: float,
    high_m: float,
    before_m: float,
    after_m: float,
    fits,
    rng: np.random.Generator,
) -> float | None:
    """A position on the route in a lane that fits, with room before and after it in that lane; None
    if there is none.
    """
    spots = []
    for number, lane_id in enumerate(ego.lane_ids):
        lane = town.lanes[lane_id]
        begin = ego.lane_start_m[number]
        low, high = max(begin + before_m, low_m), min(begin + len(lane.path) - 1 - after_m, high_m)
        if not lane.is_connector and high > low and fits(lane):
            spots.append(rng.uniform(low, high))
    return float(spots[rng.integers(len(spots))]) if spots else None


def _lanes(town: Town, lane: Lane) -> int:
    return len(town.roadblocks[lane.roadblock_id].lane_ids)


def _lane_at(ego: Route, at_m: float) -> int:
    return ego.lane_ids[int(np.searchsorted(ego.lane_start_m, at_m, side="right")) - 1]


def _point(ego: Route, at_m: float) -> np.ndarray:
    """Pose (1, 3) on the route."""
    return ego.path[[round(at_m)]]


def _crowded(
    ego: Route, at_m: float, lateral_m: float, parked: np.ndarray, within_m: float
) -> bool:
    here = curves.offset(_point(ego, at_m), lateral_m)[0, :2]
    return bool((np.hypot(*(parked[:, :2] - here).T) < within_m).any())
