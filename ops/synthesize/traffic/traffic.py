"""The traffic simulation: vehicles that follow, stop, yield and turn, and pedestrians that cross.

All are stepped together as arrays; vehicle 0 is the ego. Longitudinal motion is the improved
intelligent driver model (IDM; Treiber & Kesting, Traffic Flow Dynamics, 2013, ch. 11) under a jerk
bound; a vehicle follows its path exactly. A log takes hundreds of steps, so only road users that
can meet are compared, and what never changes is computed once. Legend: V vehicles, P pedestrians, J
junctions, K junctions on a route, M metres of route, S samples of look-ahead.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from ops.synthesize.town.build_town import build_town
from ops.synthesize.town.routes import FAR_M, Route
from ops.synthesize.town.signals import AMBER, GREEN, RED, Signals
from ops.synthesize.town.town import Town, TownConfig
from ops.synthesize.traffic.walkers import Pedestrians, is_clear
from ops.synthesize.traffic.ways import Ways

STEP_S = 0.1
LOOK_AHEAD_M = np.arange(0.0, 52.0, 2.0)  # samples of the corridor ahead of the front bumper
CORRIDOR_M = 1.75  # a point of a vehicle nearer than this to the path blocks it
PERSON_CORRIDOR_M = 2.3  # the same for pedestrians
REAR_SHARE = 0.218  # share of the length behind the rear axle, as of the ego
_CROSSING_S = np.array([0.0, 4.0])  # pedestrians need green at these times from now
_PREDICTED_S = (0.8, 1.6, 2.4, 3.2)  # pedestrians' positions at these times block a path too


@dataclass(slots=True)
class Drivers:
    """Driver parameters of each vehicle, arrays (V,)."""

    accel_mps2: np.ndarray  # comfortable acceleration
    brake_mps2: np.ndarray  # comfortable braking
    hardest_mps2: np.ndarray  # bound on braking
    jerk_mps3: np.ndarray  # bound on the change of acceleration
    headway_s: np.ndarray  # time gap to the vehicle ahead
    gap_m: np.ndarray  # gap at standstill
    stop_m: np.ndarray  # distance to a stop line at standstill


@dataclass(slots=True)
class Fleet:
    """The vehicles at the start of a drive."""

    routes: list[Route]
    speed_cap: np.ndarray  # (V, M) desired speed at every metre, m/s
    start_m: np.ndarray  # (V,) rear axle along the route
    speed_mps: np.ndarray  # (V,)
    size_m: np.ndarray  # (V, 3) length, width, height
    lateral_m: np.ndarray  # (V, M) to the left of the route's centre line
    frozen: np.ndarray  # (V,) bool: stands until an event starts it


@dataclass(frozen=True, slots=True)
class Connectors:
    """The connectors of a town as arrays (C,); the last row stands for no connector."""

    row_of: dict[int, int]  # lane id -> row
    conflict: np.ndarray  # (C, C) bool
    turn: np.ndarray  # Turn
    rank: np.ndarray  # right of way: the smaller goes first
    signalled: np.ndarray  # bool
    axis: np.ndarray  # of the street on which it begins
    junction: np.ndarray  # row of its junction among the town's


@lru_cache(maxsize=2)
def town_connectors(config: TownConfig) -> Connectors:
    """The connectors of a town; cached for the process."""
    town = build_town(config)
    lanes = [lane for lane in town.lanes.values() if lane.is_connector]
    junction_row = {junction: row for row, junction in enumerate(town.junctions)}
    row_of = {lane.lane_id: index for index, lane in enumerate(lanes)} | {0: len(lanes)}
    conflict = np.zeros((len(lanes) + 1,) * 2, bool)
    for first, second in town.conflicts:
        conflict[row_of[first], row_of[second]] = True
    return Connectors(
        row_of,
        conflict,
        np.array([int(lane.turn) for lane in lanes] + [0]),
        np.array([lane.rank for lane in lanes] + [99]),
        np.array([town.junctions[lane.junction_id].signalled for lane in lanes] + [False]),
        np.array([lane.arm % 2 for lane in lanes] + [0]),
        np.array([junction_row[lane.junction_id] for lane in lanes] + [0]),
    )


class Traffic:
    """The moving road users. `step` advances them; the arrays are their state."""

    def __init__(
        self, town: Town, fleet: Fleet, drivers: Drivers, people: Pedestrians, signals: Signals
    ) -> None:
        self.town, self.drivers, self.people, self.signals, self.fleet = (
            town,
            drivers,
            people,
            signals,
            fleet,
        )
        self._pose: np.ndarray | None = None  # of this step, computed at first use
        self._forward: np.ndarray | None = None
        self._walkers: tuple[np.ndarray, np.ndarray] | None = None
        self.ways = Ways(np.stack([route.path for route in fleet.routes]), fleet.lateral_m)
        self.speed_cap = fleet.speed_cap.copy()  # (V, M)
        self.enter_m = np.stack([route.enter_m for route in fleet.routes])  # (V, K)
        self.leave_m = np.stack([route.leave_m for route in fleet.routes])
        self.length_m, self.frozen = fleet.size_m[:, 0], fleet.frozen.copy()
        self.front_m, self.rear_m = (1 - REAR_SHARE) * self.length_m, REAR_SHARE * self.length_m
        self.s_m, self.v_mps = fleet.start_m.astype(float), fleet.speed_mps.astype(float)
        self.a_mps2 = np.zeros(len(self.s_m))
        self.extra_brake = np.zeros(len(self.s_m))  # braking caused by an event, m/s2
        self.blinker = np.zeros(len(self.s_m), int)  # set by an event: 1 left, -1 right, 2 both
        self.planned_m = np.zeros_like(fleet.lateral_m)  # lateral offset set by an event
        self.planned_m[1:] = fleet.lateral_m[1:]  # the ego's offset is only its wander
        # position on the route where an event makes a vehicle wait
        self.stop_at_m = np.full(len(self.s_m), np.inf)
        self.time_s = 0.0
        self.must_stop = np.zeros(len(self.s_m), bool)  # at the line of the next junction
        self.leader, self.leader_gap_m = -1, np.inf  # the vehicle that the ego follows, or -1
        self._prepare(town_connectors(town.config))

    def shift(self, vehicle: int, lateral_m: np.ndarray) -> None:
        """Set the lateral offset of a vehicle's path, (M,) metres to the left of its route."""
        self.ways.shift(vehicle, lateral_m)
        self._pose = self._forward = None

    def poses(self) -> np.ndarray:
        """Rear-axle poses (V, 3), to be read only."""
        if self._pose is None:
            self._pose = self.ways.at(self.s_m)
        return self._pose

    def forward(self) -> np.ndarray:
        """Heading of the vehicles as unit vectors (V, 2), to be read only."""
        if self._forward is None:
            yaw = self.poses()[:, 2]
            self._forward = np.empty((len(yaw), 2))
            np.cos(yaw, out=self._forward[:, 0])
            np.sin(yaw, out=self._forward[:, 1])
        return self._forward

    def walkers(self) -> tuple[np.ndarray, np.ndarray]:
        """Positions and velocities (P, 2) of the pedestrians, to be read only.

        One who starts in this step has neither moved nor speed.
        """
        if self._walkers is None:
            self._walkers = self.people.motion(self.time_s)
        return self._walkers

    def circles(self, rows: np.ndarray) -> np.ndarray:
        """Centres (n, 5, 2) of five circles of half a width that cover each vehicle of `rows`."""
        return (
            self.poses()[rows, None, :2]
            + self._circle_offsets[rows, :, None] * self.forward()[rows, None]
        )

    def speeds(self) -> tuple[np.ndarray, np.ndarray]:
        """Speeds over ground (V,) m/s, and lateral accelerations to the left (V,) m/s2."""
        path, stretch = self.ways.path, self.ways.stretch
        index = np.minimum(np.maximum(np.round(self.s_m).astype(int), 1), path.shape[1] - 2)
        speed = self.v_mps * stretch[self._rows, index]
        curvature = (path[self._rows, index + 1, 2] - path[self._rows, index - 1, 2]) / (
            2 * stretch[self._rows, index]
        )
        return speed, speed * speed * curvature

    def turning(self) -> np.ndarray:
        """Turn of the connector in which, or within 30 m of which, each vehicle is, (V,)."""
        k = np.argmax(self.leave_m > self.s_m[:, None], axis=1)
        return np.where(self.enter_m[self._rows, k] - self.s_m < 30.0, self._turn[self._rows, k], 0)

    def step(self) -> None:
        """Advance by STEP_S."""
        self._start_walking()
        accel = np.minimum(np.minimum(self._free_road(), self._following()), self._stopping())
        accel = np.where(self.extra_brake > 0, np.minimum(accel, -self.extra_brake), accel)
        accel = np.maximum(accel, -self.drivers.hardest_mps2)
        bound = self._jerk_bound
        urgent = accel < -2.2  # hard braking may build up faster
        least = self.a_mps2 - np.where(urgent, 1.6, 1.0) * bound
        self.a_mps2 = np.minimum(np.maximum(accel, least), self.a_mps2 + bound)
        next_mps = np.where(self.frozen, 0.0, np.maximum(self.v_mps + self.a_mps2 * STEP_S, 0.0))
        self.s_m = self.s_m + 0.5 * (self.v_mps + next_mps) * STEP_S
        self.a_mps2 = np.where((next_mps <= 0) & (self.a_mps2 < 0), 0.0, self.a_mps2)
        self.v_mps = next_mps
        self.time_s += STEP_S
        self._pose = self._forward = self._walkers = None

    def _prepare(self, connectors: Connectors) -> None:
        """Compute what does not change while the traffic moves."""
        drivers, count = self.drivers, len(self.s_m)
        self._rows = np.arange(count)
        self._conflict = connectors.conflict
        rows = np.array(
            [
                [connectors.row_of[lane] for lane in route.connector.tolist()]
                for route in self.fleet.routes
            ]
        )  # (V, K)
        self._connector_rows, self._turn, self._rank = (
            rows,
            connectors.turn[rows],
            connectors.rank[rows],
        )
        self._signalled, self._axis, self._junction = (
            connectors.signalled[rows],
            connectors.axis[rows],
            connectors.junction[rows],
        )
        self._jerk_bound = drivers.jerk_mps3 * STEP_S
        self._idm_scale = 2 * np.sqrt(drivers.accel_mps2 * drivers.brake_mps2)
        self._idm_power = 4 * drivers.accel_mps2 / drivers.brake_mps2
        self._point_offsets = np.stack(
            [0.3 - self.rear_m, 0.5 * (self.front_m - self.rear_m), self.front_m - 0.3], axis=1
        )  # (V, 3)
        self._point_vehicle = np.repeat(self._rows, 3)
        along, half = (
            self.fleet.size_m[:, :1] * (np.arange(5) / 4 - REAR_SHARE),
            0.5 * self.fleet.size_m[:, 1:2],
        )
        self._circle_offsets = np.clip(
            along, half - self.rear_m[:, None], (1 - REAR_SHARE) * self.length_m[:, None] - half
        )  # (V, 5)

    def _idm_following(
        self, gap_m: np.ndarray, closing_v: np.ndarray, rows: np.ndarray
    ) -> np.ndarray:
        """IDM acceleration of vehicles `rows` for gaps closing at `closing_v`; all (n,)."""
        drivers, v = self.drivers, self.v_mps[rows]
        wanted_m = drivers.gap_m[rows] + np.maximum(
            v * drivers.headway_s[rows] + v * closing_v / self._idm_scale[rows], 0.0
        )
        ratio = wanted_m / np.maximum(gap_m, 0.3)
        return drivers.accel_mps2[rows] * (1 - ratio**2)

    def _free_road(self) -> np.ndarray:
        """Acceleration towards the desired speed, (V,)."""
        ahead = np.minimum(
            np.maximum(self.s_m + 0.4 * self.v_mps, 0), self.speed_cap.shape[1] - 1.001
        ).astype(int)
        wanted_mps = np.maximum(self.speed_cap[self._rows, ahead], 0.5)
        drivers = self.drivers
        speeding_up = drivers.accel_mps2 * (1 - (self.v_mps / wanted_mps) ** 4)
        slowing_down = -drivers.brake_mps2 * (
            1 - np.minimum(wanted_mps / np.maximum(self.v_mps, 0.1), 1.0) ** self._idm_power
        )
        return np.where(self.v_mps <= wanted_mps, speeding_up, slowing_down)

    def _obstacle_points(self, forward: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """x (A,), y (A,) and vehicle (A,) of all points that can block a path; -1: a pedestrian."""
        points = self.poses()[:, None, :2] + self._point_offsets[:, :, None] * forward[:, None]
        walk, stride = self.walkers()
        moving = (stride[:, 0] != 0) | (stride[:, 1] != 0)
        walk_moving, stride_moving = walk[moving], stride[moving]
        predicted = (walk_moving + stride_moving * ahead_s for ahead_s in _PREDICTED_S)
        xy = np.concatenate([points.reshape(-1, 2), walk, *predicted])
        return (
            xy[:, 0],
            xy[:, 1],
            np.concatenate([self._point_vehicle, np.full(len(xy) - len(self._point_vehicle), -1)]),
        )

    def _following(self) -> np.ndarray:
        """Acceleration allowed by obstacles in the corridor ahead, (V,)."""
        forward, path = self.forward(), self.ways.path
        x, y, owner = self._obstacle_points(forward)
        front, last = self.s_m + self.front_m, path.shape[1] - 1
        box = self.ways.box[
            self._rows, np.minimum(np.maximum(front, 0), last).astype(int), :, None
        ]  # (V, 4, 1)
        vehicle, body = np.nonzero(
            (x > box[:, 0] - PERSON_CORRIDOR_M)
            & (x < box[:, 2] + PERSON_CORRIDOR_M)
            & (y > box[:, 1] - PERSON_CORRIDOR_M)
            & (y < box[:, 3] + PERSON_CORRIDOR_M)
        )
        is_other = owner[body] != vehicle
        vehicle, body = vehicle[is_other], body[is_other]
        # (n, S) and (n, S, 3)
        low = np.minimum(np.maximum(front[vehicle, None] + LOOK_AHEAD_M, 0), last).astype(int)
        corridor = path.reshape(-1, 3).take(low + vehicle[:, None] * path.shape[1], axis=0)
        apart_x, apart_y = x[body, None] - corridor[..., 0], y[body, None] - corridor[..., 1]
        is_person = owner[body] < 0
        hit = (
            apart_x * apart_x + apart_y * apart_y
            < np.where(is_person, PERSON_CORRIDOR_M, CORRIDOR_M)[:, None] ** 2
        )
        first = hit.argmax(axis=1)
        rows = np.flatnonzero(hit[np.arange(len(first)), first])
        vehicle, body, first, is_person = vehicle[rows], body[rows], first[rows], is_person[rows]
        heading = corridor[rows, first, 2]
        east, north = np.cos(heading), np.sin(heading)
        ahead = apart_x[rows, first] * east + apart_y[rows, first] * north
        gap = low[rows, first] - front[vehicle] + ahead - np.where(is_person, 1.2, 0.3)
        velocity = forward[owner[body]] * np.where(is_person, 0.0, self.v_mps[owner[body]])[:, None]
        speed = np.maximum(velocity[:, 0] * east + velocity[:, 1] * north, 0.0)
        accel = np.full(len(self.s_m), np.inf)
        np.minimum.at(
            accel, vehicle, self._idm_following(gap, self.v_mps[vehicle] - speed, vehicle)
        )
        self.leader, self.leader_gap_m = -1, np.inf
        # vehicles are in order: these rows are the ego's
        ego_rows = int(np.searchsorted(vehicle, 0, side="right"))
        if ego_rows:
            nearest = np.argmin(gap[:ego_rows])
            self.leader, self.leader_gap_m = int(owner[body[nearest]]), float(gap[nearest])
        return accel

    def _stopping(self) -> np.ndarray:
        """Acceleration allowed by signals, right of way and events' stop positions, (V,)."""
        front = self.s_m + self.front_m
        k = np.argmax(self.leave_m > (self.s_m - self.rear_m)[:, None], axis=1)
        distance = self.enter_m[self._rows, k] - front  # front bumper to the stop line
        self.must_stop = self._must_wait(k, distance)
        line = np.where(self.must_stop, distance - self.drivers.stop_m, np.inf)
        gap = np.minimum(line, self.stop_at_m - front) + self.drivers.gap_m
        accel, rows = np.full(len(gap), np.inf), np.flatnonzero(np.isfinite(gap))
        accel[rows] = self._idm_following(gap[rows], self.v_mps[rows], rows)
        return accel

    def _must_wait(self, k: np.ndarray, distance: np.ndarray) -> np.ndarray:
        """Vehicles that must stop before junction `k` (V,) of their route, (V,) bool.

        `distance` (V,): from the front bumper to the stop line, metres.
        """
        waits, inside = np.zeros(len(k), bool), distance <= 0
        near = np.flatnonzero(~inside & (distance < 45.0))
        if not len(near):
            return waits
        at, v, waited = k[near], self.v_mps[near], self.must_stop[near]
        # can stop in comfort, or waits already
        can_stop = (distance[near] - self.drivers.stop_m[near] > v**2 / (2 * 2.6)) | waited
        state = self.signals.states_of(self._junction[near, at], self._axis[near, at], self.time_s)
        light = np.where(self._signalled[near, at], state, GREEN)
        barred = (light == RED) | ((light == AMBER) & can_stop)
        waits[near] = barred & can_stop
        candidates = near[~barred & can_stop]
        # vehicles that wait do not compete for the right of way
        rivals = near[~barred & ~waited & (self.enter_m[near, at] < FAR_M)]
        if len(candidates):
            waits[candidates] = self._yields(
                k, distance, candidates, np.flatnonzero(inside), rivals
            )
        return waits

    def _yields(
        self,
        k: np.ndarray,
        distance: np.ndarray,
        candidates: np.ndarray,
        inside: np.ndarray,
        rivals: np.ndarray,
    ) -> np.ndarray:
        """Which of `candidates` (n,) must yield to a vehicle `inside` a junction or to one of its
        `rivals` before it, (n,) bool; the three are indexes of vehicles.
        """
        others = np.concatenate([inside, rivals])
        conflicts = self._conflict[
            self._connector_rows[candidates, k[candidates], None],
            self._connector_rows[others, k[others]],
        ] & (candidates[:, None] != others)
        if not conflicts.any():
            return np.zeros(len(candidates), bool)
        rank, arrival = (
            self._rank[self._rows, k],
            np.maximum(distance, 0) / np.maximum(self.v_mps, 3.0),
        )
        order = arrival + 1e-3 * self._rows
        distance_m = self.leave_m[candidates, k[candidates]] - self.s_m[candidates]
        distance_m = distance_m + self.rear_m[candidates]
        clear_s = distance_m / np.maximum(self.v_mps[candidates], 4.5)
        own_rank, other_rank = rank[candidates, None], rank[others]
        goes_first = (other_rank < own_rank) | (
            (other_rank == own_rank) & (order[others] < order[candidates, None])
        )
        is_inside = np.arange(len(others)) < len(inside)
        arrives_first = arrival[others] < 0.75 * clear_s[:, None] + 0.5
        return (conflicts & (is_inside | (goes_first & arrives_first))).any(axis=1)

    def _start_walking(self) -> None:
        """Start the pedestrians who want to cross and for whom the road is free."""
        people = self.people
        for person in people.waiting(self.time_s):
            if not people.careful[person] or self._safe_to_cross(person):
                people.begun_s[person] = self.time_s

    def _safe_to_cross(self, person: int) -> bool:
        junction = self.people.junction[person]
        if junction and self.town.junctions[junction].signalled:
            row, axis = self.signals.row[junction], 1 - self.people.axis[person]
            if (self.signals.states_of(row, axis, self.time_s + _CROSSING_S) != GREEN).any():
                return False
        return is_clear(self.people, person, self.ways, (self.s_m, self.front_m, self.v_mps))
