"""The six kinds of rare events: where each is staged on the ego's route and what triggers it."""

import numpy as np

from ops.synthesize.town import curves
from ops.synthesize.town.routes import pick_lanes
from ops.synthesize.town.signals import GREEN
from ops.synthesize.town.town import BAY_WIDTH_M, LANE_WIDTH_M, SHOULDER_M, Lane
from ops.synthesize.traffic.events import (
    CYCLIST,
    HAZARD,
    SEDAN,
    VAN,
    Event,
    EventKind,
    EventSetup,
    EventSite,
    EventVehicle,
)
from ops.synthesize.traffic.traffic import REAR_SHARE, Traffic

# from the centre line of a lane to that of the parking bay beside it
_BAY_OFFSET_M = LANE_WIDTH_M / 2 + SHOULDER_M + BAY_WIDTH_M / 2


def stage_event(kind: EventKind, site: EventSite, rng: np.random.Generator) -> Event | None:
    """An event of this kind at `site`, or None where no position is suitable."""
    return {
        EventKind.CUT_IN: _CutIn,
        EventKind.HARD_BRAKING_LEADER: _HardBraking,
        EventKind.JAYWALKER: _Jaywalker,
        EventKind.BLOCKED_LANE: _BlockedLane,
        EventKind.LATE_AMBER: _LateAmber,
        EventKind.SLOW_CYCLIST: _SlowCyclist,
    }[kind].stage(site, rng)


class _HardBraking(Event):
    """The vehicle ahead brakes hard for a moment."""

    kind = EventKind.HARD_BRAKING_LEADER
    from_s: float  # earliest trigger
    for_s: float  # duration of the braking
    brake: float  # m/s2

    @classmethod
    def stage(cls, site: EventSite, rng: np.random.Generator) -> Event | None:
        event = cls()
        event.setup = EventSetup((EventVehicle(SEDAN, site.start_m + rng.uniform(17.0, 26.0)),))
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
    in_time_s: float  # triggered when the ego is nearer than this
    parked: bool  # pulls out of a bay

    @classmethod
    def stage(cls, site: EventSite, rng: np.random.Generator) -> Event | None:
        event = cls()
        event.in_time_s = rng.uniform(2.9, 3.6)
        position_m = site.position(
            (55, 150), (6, 40), lambda lane: site.town.lane_count(lane) == 1, rng
        )
        if position_m is not None and rng.random() < 0.6:
            event.parked, event.last_m = True, position_m
            if site.has_parked_car(position_m + 1.0, -_BAY_OFFSET_M, 5.6):
                return None
            event.setup = EventSetup((EventVehicle(SEDAN, position_m, -_BAY_OFFSET_M, True, 7.0),))
            return event
        position_m = site.position(
            (20, 90), (6, 55), lambda lane: site.town.lane_count(lane) == 2, rng
        )
        if position_m is None:
            return None
        lane = site.town.lanes[site.ego.lane_at(position_m)]
        event.parked, event.last_m = (
            False,
            site.ego.lane_start_m[site.ego.lane_ids.index(lane.lane_id)] + len(lane.path) - 28.0,
        )
        side = LANE_WIDTH_M if lane.index == 2 else -LANE_WIDTH_M
        event.setup = EventSetup(
            (EventVehicle(SEDAN, position_m, side, False, rng.uniform(5.5, 7.5)),)
        )
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
                _shift_path(traffic, 1, traffic.s_m[1] + 0.5, 9.0 if self.parked else 15.0, 0.0)
                traffic.blinker[1] = 1 if traffic.fleet.lateral_m[1, 0] < 0 else -1
                self.spans = [(self.begun_s, self.begun_s + 4.5)]
        elif traffic.time_s > self.begun_s + 3.0:
            traffic.blinker[1] = 0


class _Jaywalker(Event):
    """A pedestrian steps out from behind a parked van."""

    kind = EventKind.JAYWALKER
    in_time_s: float  # triggered when the ego is nearer than this
    crossing_m: float  # position of the crossing along the ego's route

    @classmethod
    def stage(cls, site: EventSite, rng: np.random.Generator) -> Event | None:
        position_m = site.position(
            (60, 160), (12, 14), lambda lane: lane.index == site.town.lane_count(lane), rng
        )
        if position_m is None or site.has_parked_car(position_m - 3.0, -_BAY_OFFSET_M, 6.0):
            return None
        event = cls()
        event.crossing_m, event.in_time_s, event.last_m = (
            position_m + 0.9,
            rng.uniform(3.0, 3.6),
            position_m,
        )
        lane = site.town.lanes[site.ego.lane_at(position_m)]
        across_m = site.town.lane_count(lane) * 2 * LANE_WIDTH_M + 3.5
        ends = [
            curves.offset(site.ego.pose_at(event.crossing_m), side)[0, :2]
            for side in (-(LANE_WIDTH_M / 2 + 1.6), across_m)
        ]
        van_m = position_m - 5.3 * (1 - REAR_SHARE)
        event.setup = EventSetup(
            (EventVehicle(VAN, van_m, -_BAY_OFFSET_M, True),),
            walker=(ends[0], ends[1], rng.uniform(1.5, 2.1)),
        )
        return event

    def step(self, traffic: Traffic) -> None:
        if self.begun_s is not None:
            return
        away = self.crossing_m - traffic.s_m[0] - traffic.front_m[0]
        if 0 < away < self.in_time_s * traffic.v_mps[0] and traffic.v_mps[0] > 4.5:
            self.begun_s = traffic.time_s
            traffic.people.begun_s[0] = traffic.time_s
            self.spans = [(self.begun_s, self.begun_s + 4.5)]


class _BlockedLane(Event):
    """A van stands in the lane; the ego waits for oncoming traffic and passes on the other side."""

    kind = EventKind.BLOCKED_LANE
    DETOUR_M, RAMP_M = 3.0, 12.0  # sideways, and the distance over which it is reached
    rear_m: float  # rear of the van along the ego's route
    ahead_m: float  # end of the passing manoeuvre

    @classmethod
    def stage(cls, site: EventSite, rng: np.random.Generator) -> Event | None:
        def is_suitable(lane: Lane) -> bool:
            return (
                site.town.lane_count(lane) == 1
                and site.town.streets[(lane.roadblock_id - 30000) // 2].median_m == 0
            )

        position_m = site.position((70, 140), (24, 30), is_suitable, rng)
        if position_m is None:
            return None
        event = cls()
        event.rear_m, event.ahead_m = position_m - 1.2, position_m + 4.2
        event.last_m = position_m + 10.0
        lane = site.town.lanes[site.ego.lane_at(position_m)]
        back = site.town.roadblocks[30000 + ((lane.roadblock_id - 30000) ^ 1)].lane_ids[0]
        length = len(site.town.lanes[back].path)
        oncoming = (
            tuple((back, float(s)) for s in rng.uniform(5, length - 10, 2))
            if rng.random() < 0.75
            else ()
        )
        behind = [
            curves.offset(site.ego.pose_at(event.rear_m - step), side)[0]
            for step, side in ((2.0, 0.3), (3.2, -0.5), (4.4, -1.2))
        ]
        event.setup = EventSetup(
            (EventVehicle(VAN, position_m, -0.45, True),),
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
            if near and self._is_free(traffic):
                self.begun_s, traffic.stop_at_m[0] = traffic.time_s, np.inf
                begin = max(ego_m + 0.5, self.rear_m - 17.0)
                _shift_path(traffic, 0, begin, self.RAMP_M, self.DETOUR_M)
                _shift_path(traffic, 0, self.ahead_m + 2.0, self.RAMP_M, 0.0)
                detour = slice(int(begin) - 4, int(self.ahead_m + self.RAMP_M))
                traffic.speed_cap[0, detour] = np.minimum(traffic.speed_cap[0, detour], 5.2)
            elif near:
                traffic.blinker[0] = 1
        elif self.spans[0][1] == np.inf and ego_m > self.ahead_m + self.RAMP_M:
            self.spans = [(self.spans[0][0], traffic.time_s)]

    def _is_free(self, traffic: Traffic) -> bool:
        """True if no oncoming vehicle could be met beside the van."""
        route = traffic.ways.base[0]
        stretch = route[max(int(traffic.s_m[0]) - 5, 0) : int(self.ahead_m) + 85]
        pose = traffic.poses()[1:]
        offset = pose[:, None, :2] - stretch[None, :, :2]
        nearest = np.argmin((offset**2).sum(axis=2), axis=1)
        heading = stretch[nearest, 2]
        offset = offset[np.arange(len(pose)), nearest]
        left_m = offset[:, 1] * np.cos(heading) - offset[:, 0] * np.sin(heading)
        is_oncoming = np.cos(pose[:, 2] - heading) < -0.3
        is_beside = (left_m > 0.8) & (left_m < 6.0) & (np.hypot(*offset.T) < 6.5)
        return not (is_oncoming & is_beside).any()


class _LateAmber(Event):
    """The light turns amber when the ego is near the stop line.

    The ego stops if it can do so in comfort, and goes on otherwise.
    """

    kind = EventKind.LATE_AMBER
    line_m: float  # stop line along the ego's route
    junction_id: int
    axis: int
    in_time_s: float  # triggered when the ego is nearer than this

    @classmethod
    def stage(cls, site: EventSite, rng: np.random.Generator) -> Event | None:
        for slot, lane_id in enumerate(site.ego.connector):
            if lane_id and site.town.junctions[site.town.lanes[int(lane_id)].junction_id].signalled:
                if not site.start_m + 60 < site.ego.enter_m[slot] < site.start_m + 190:
                    continue
                event = cls()
                event.setup = EventSetup(no_leader=True)
                lane = site.town.lanes[int(lane_id)]
                event.line_m, event.junction_id, event.axis = (
                    float(site.ego.enter_m[slot]),
                    lane.junction_id,
                    lane.arm % 2,
                )
                event.in_time_s, event.last_m = rng.uniform(1.5, 3.2), event.line_m
                return event
        return None

    def step(self, traffic: Traffic) -> None:
        away = self.line_m - traffic.s_m[0] - traffic.front_m[0]
        v = traffic.v_mps[0]
        if traffic.time_s == 0:  # green when the ego arrives, so that it can turn amber
            ahead = traffic.speed_cap[
                0, int(traffic.s_m[0] + traffic.front_m[0]) : int(self.line_m)
            ]
            traffic.signals.turn_green(self.junction_id, self.axis, float((1 / ahead).sum()) - 4.0)
        is_near = 0 < away < self.in_time_s * v and traffic.leader_gap_m > away
        if self.begun_s is None and v > 5.0 and is_near and self._is_green(traffic):
            self.begun_s = traffic.time_s
            self.spans = [(self.begun_s, self.begun_s + 4.0)]
            traffic.signals.turn_amber(self.junction_id, self.axis, traffic.time_s)

    def _is_green(self, traffic: Traffic) -> bool:
        row = traffic.signals.row[self.junction_id]
        return bool(traffic.signals.states(traffic.time_s)[row, self.axis] == GREEN)


class _SlowCyclist(Event):
    """A cyclist rides in the lane; the ego stays behind until their routes part."""

    kind = EventKind.SLOW_CYCLIST
    recurs = True

    @classmethod
    def stage(cls, site: EventSite, rng: np.random.Generator) -> Event | None:
        position_m = site.position((45, 100), (4, 35), lambda lane: True, rng)
        if position_m is None:
            return None
        lane_id = site.ego.lane_at(position_m)
        at = site.ego.lane_ids.index(lane_id)
        next_lane = site.ego.lane_ids[at + 1]
        exits = [lane for lane in site.town.lanes[lane_id].successors if lane != next_lane]
        first = exits[rng.integers(len(exits))] if exits else next_lane
        event = cls()
        lanes = (lane_id, *pick_lanes(site.town, first, site.ego.length_m, rng))
        event.setup = EventSetup(
            (
                EventVehicle(
                    CYCLIST,
                    position_m - site.ego.lane_start_m[at],
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


def _shift_path(traffic: Traffic, vehicle: int, from_m: float, over_m: float, to_m: float) -> None:
    """Move a vehicle's path to `to_m` left of its route over the `over_m` metres after `from_m`."""
    lateral = traffic.fleet.lateral_m[vehicle]
    along = np.clip((np.arange(len(lateral)) - from_m) / over_m, 0.0, 1.0)
    ease = along**3 * (10 - 15 * along + 6 * along**2)
    wander = lateral - traffic.planned_m[vehicle]
    traffic.planned_m[vehicle] = traffic.planned_m[vehicle] * (1 - ease) + to_m * ease
    lateral[:] = traffic.planned_m[vehicle] + wander
    traffic.shift(vehicle, lateral)
