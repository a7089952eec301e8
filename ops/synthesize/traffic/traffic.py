"""The traffic simulation: cars that follow, stop, yield and turn, and pedestrians that cross,
stepped together as arrays.

Vehicle 0 is the ego. Longitudinal motion is the improved intelligent driver model (Treiber &
Kesting, 2013, ch. 11) under a jerk bound; a vehicle follows its path exactly. Not who drives where
(spawn.py) and not what goes wrong (events.py). Hundreds of these steps make one log, so only those
who can meet are compared, and what never changes is computed once. Legend: V vehicles, P
pedestrians, J junctions, K junctions on a route, M metres of route, S samples of look-ahead.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from ops.synthesize.town.routes import FAR_M, Route
from ops.synthesize.town.signals import AMBER, GREEN, RED, Signals
from ops.synthesize.town.town import Town, TownConfig, build_town
from ops.synthesize.traffic.walkers import Pedestrians, is_clear
from ops.synthesize.traffic.ways import Ways

STEP_S = 0.1
LOOK_AHEAD_M = np.arange(0.0, 52.0, 2.0)  # samples of the corridor ahead of the front bumper
CORRIDOR_M = 1.75  # a body point nearer than this to the path is in the way
PERSON_CORRIDOR_M = 2.3  # people are given more room
REAR_SHARE = 0.218  # share of the length behind the rear axle, the ego's own proportions
_CROSSING_S = np.array([0.0, 4.0])  # walkers want green now, and still then
_FORESEEN_S = (0.8, 1.6, 2.4, 3.2)  # where walkers will be is in the way too


@dataclass(slots=True)
class Drivers:
    """How each vehicle drives, arrays (V,)."""

    accel_mps2: np.ndarray  # comfortable acceleration
    brake_mps2: np.ndarray  # comfortable braking
    hardest_mps2: np.ndarray  # bound on braking
    jerk_mps3: np.ndarray  # bound on the change of acceleration
    headway_s: np.ndarray
    gap_m: np.ndarray  # standing gap
    stop_m: np.ndarray  # where they stop before a line


@dataclass(slots=True)
class Fleet:
    """What is driven: arrays over the vehicles."""

    routes: list[Route]
    speed_cap: np.ndarray  # (V, M) speed wished for at every metre
    start_m: np.ndarray  # (V,)
    speed_mps: np.ndarray  # (V,)
    size_m: np.ndarray  # (V, 3)
    lateral_m: np.ndarray  # (V, M) to the left of the route's centre line
    frozen: np.ndarray  # (V,) bool: stands until told otherwise


@dataclass(frozen=True, slots=True)
class Connectors:
    """The connectors of a town as rows of arrays, (C,); the last row stands for none."""

    slot: dict[int, int]  # lane -> row
    conflict: np.ndarray  # (C, C) bool
    turn: np.ndarray
    rank: np.ndarray  # who comes first: the smaller
    signalled: np.ndarray  # bool
    axis: np.ndarray  # of the street it leaves
    place: np.ndarray  # row of its junction among the town's


@lru_cache(maxsize=2)
def connectors(config: TownConfig) -> Connectors:
    """Those of a town; kept for the process."""
    town = build_town(config)
    every = [lane for lane in town.lanes.values() if lane.is_connector]
    row = {junction: number for number, junction in enumerate(town.junctions)}
    slot = {lane.lane_id: index for index, lane in enumerate(every)} | {0: len(every)}
    conflict = np.zeros((len(every) + 1,) * 2, bool)
    for first, second in town.conflicts:
        conflict[slot[first], slot[second]] = True
    return Connectors(
        slot,
        conflict,
        np.array([int(lane.turn) for lane in every] + [0]),
        np.array([lane.rank for lane in every] + [99]),
        np.array([town.junctions[lane.junction_id].signalled for lane in every] + [False]),
        np.array([lane.arm % 2 for lane in every] + [0]),
        np.array([row[lane.junction_id] for lane in every] + [0]),
    )


class Traffic:
    """The moving world. `step` advances it; the arrays are its state."""

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
        self._pose: np.ndarray | None = None  # of this step, computed when first asked for
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
        self.extra_brake = np.zeros(len(self.s_m))  # braking ordered by an event, m/s2
        self.blinker = np.zeros(len(self.s_m), int)  # set by an event: 1 left, -1 right, 2 both
        self.planned_m = np.zeros_like(fleet.lateral_m)  # way beside the line that an event ordered
        self.planned_m[1:] = fleet.lateral_m[1:]  # the ego's own is only its wander
        self.stop_at_m = np.full(
            len(self.s_m), np.inf
        )  # place on the route where an event makes a vehicle wait
        self.time_s = 0.0
        self.held = np.zeros(len(self.s_m), bool)  # must stop at the line of the next junction
        self.leader, self.leader_gap_m = -1, np.inf  # what the ego follows: a vehicle, or -1
        self._prepare(connectors(town.config))

    def shift(self, vehicle: int, lateral_m: np.ndarray) -> None:
        """Let a vehicle drive beside its route's centre line, (M,) metres to the left."""
        self.ways.shift(vehicle, lateral_m)
        self._pose = self._forward = None

    def poses(self) -> np.ndarray:
        """Rear-axle poses (V, 3), to be read only."""
        if self._pose is None:
            self._pose = self.ways.at(self.s_m)
        return self._pose

    def forward(self) -> np.ndarray:
        """Where the vehicles point, unit vectors (V, 2), to be read only."""
        if self._forward is None:
            yaw = self.poses()[:, 2]
            self._forward = np.empty((len(yaw), 2))
            np.cos(yaw, out=self._forward[:, 0])
            np.sin(yaw, out=self._forward[:, 1])
        return self._forward

    def walkers(self) -> tuple[np.ndarray, np.ndarray]:
        """Positions and velocities (P, 2) of the people, to be read only. (Who starts now has
        neither moved nor speed.)
        """
        if self._walkers is None:
            self._walkers = self.people.motion(self.time_s)
        return self._walkers

    def circles(self, rows: np.ndarray) -> np.ndarray:
        """Centres of five circles of half a width that cover each of some bodies, (n, 5, 2)."""
        return (
            self.poses()[rows, None, :2] + self._cover[rows, :, None] * self.forward()[rows, None]
        )

    def speeds(self) -> tuple[np.ndarray, np.ndarray]:
        """Speeds over ground (V,) m/s, and the accelerations across the path (V,) m/s2, to the
        left.
        """
        path, stretch = self.ways.path, self.ways.stretch
        index = np.minimum(np.maximum(np.round(self.s_m).astype(int), 1), path.shape[1] - 2)
        speed = self.v_mps * stretch[self._rows, index]
        bend = (path[self._rows, index + 1, 2] - path[self._rows, index - 1, 2]) / (
            2 * stretch[self._rows, index]
        )
        return speed, speed * speed * bend

    def turning(self) -> np.ndarray:
        """Turn of the connector that each vehicle is in or within 30 m of, (V,)."""
        k = np.argmax(self.leave_m > self.s_m[:, None], axis=1)
        return np.where(self.enter_m[self._rows, k] - self.s_m < 30.0, self._turn[self._rows, k], 0)

    def step(self) -> None:
        """Advance by STEP_S."""
        self._start_walking()
        accel = np.minimum(np.minimum(self._free(), self._following()), self._stopping())
        accel = np.where(self.extra_brake > 0, np.minimum(accel, -self.extra_brake), accel)
        accel = np.maximum(accel, -self.drivers.hardest_mps2)
        bound = self._jerk_bound
        urgent = accel < -2.2  # a foot can be fast when it must
        least = self.a_mps2 - np.where(urgent, 1.6, 1.0) * bound
        self.a_mps2 = np.minimum(np.maximum(accel, least), self.a_mps2 + bound)
        after = np.where(self.frozen, 0.0, np.maximum(self.v_mps + self.a_mps2 * STEP_S, 0.0))
        self.s_m = self.s_m + 0.5 * (self.v_mps + after) * STEP_S
        self.a_mps2 = np.where((after <= 0) & (self.a_mps2 < 0), 0.0, self.a_mps2)
        self.v_mps = after
        self.time_s += STEP_S
        self._pose = self._forward = self._walkers = None

    def _prepare(self, known: Connectors) -> None:
        """What does not change while the traffic moves."""
        drive, count = self.drivers, len(self.s_m)
        self._rows = np.arange(count)
        self._conflict = known.conflict
        slots = np.array(
            [[known.slot[lane] for lane in route.connector.tolist()] for route in self.fleet.routes]
        )  # (V, K)
        self._slots, self._turn, self._rank = slots, known.turn[slots], known.rank[slots]
        self._signalled, self._axis, self._place = (
            known.signalled[slots],
            known.axis[slots],
            known.place[slots],
        )
        self._jerk_bound = drive.jerk_mps3 * STEP_S
        self._ease = 2 * np.sqrt(drive.accel_mps2 * drive.brake_mps2)
        self._power = 4 * drive.accel_mps2 / drive.brake_mps2
        self._along = np.stack(
            [0.3 - self.rear_m, 0.5 * (self.front_m - self.rear_m), self.front_m - 0.3], axis=1
        )  # (V, 3)
        self._owner = np.repeat(self._rows, 3)
        along, half = (
            self.fleet.size_m[:, :1] * (np.arange(5) / 4 - REAR_SHARE),
            0.5 * self.fleet.size_m[:, 1:2],
        )
        self._cover = np.clip(
            along, half - self.rear_m[:, None], (1 - REAR_SHARE) * self.length_m[:, None] - half
        )  # (V, 5)

    def _interaction(
        self, gap_m: np.ndarray, closing_v: np.ndarray, rows: np.ndarray
    ) -> np.ndarray:
        """Acceleration by the IDM for gaps to something that moves at `v - closing_v`; shapes (n,)."""
        drive, v = self.drivers, self.v_mps[rows]
        wish = drive.gap_m[rows] + np.maximum(
            v * drive.headway_s[rows] + v * closing_v / self._ease[rows], 0.0
        )
        ratio = wish / np.maximum(gap_m, 0.3)
        return drive.accel_mps2[rows] * (1 - ratio**2)

    def _free(self) -> np.ndarray:
        """Acceleration towards the speed wished for, (V,)."""
        ahead = np.minimum(
            np.maximum(self.s_m + 0.4 * self.v_mps, 0), self.speed_cap.shape[1] - 1.001
        ).astype(int)
        wish = np.maximum(self.speed_cap[self._rows, ahead], 0.5)
        drive = self.drivers
        slow = drive.accel_mps2 * (1 - (self.v_mps / wish) ** 4)
        fast = -drive.brake_mps2 * (
            1 - np.minimum(wish / np.maximum(self.v_mps, 0.1), 1.0) ** self._power
        )
        return np.where(self.v_mps <= wish, slow, fast)

    def _bodies(self, forward: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """x (A,), y (A,) and owners (A,) of all points that can be in the way; people's owner is
        -1.
        """
        points = self.poses()[:, None, :2] + self._along[:, :, None] * forward[:, None]
        walk, stride = self.walkers()
        moving = (stride[:, 0] != 0) | (stride[:, 1] != 0)
        walk_on, stride_on = walk[moving], stride[moving]
        every = np.concatenate(
            [points.reshape(-1, 2), walk, *(walk_on + stride_on * wait for wait in _FORESEEN_S)]
        )
        return (
            every[:, 0],
            every[:, 1],
            np.concatenate([self._owner, np.full(len(every) - len(self._owner), -1)]),
        )

    def _following(self) -> np.ndarray:
        """Acceleration allowed by what is in the corridor ahead, (V,)."""
        forward, path = self.forward(), self.ways.path
        x, y, owner = self._bodies(forward)
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
        others = owner[body] != vehicle
        vehicle, body = vehicle[others], body[others]
        low = np.minimum(np.maximum(front[vehicle, None] + LOOK_AHEAD_M, 0), last).astype(
            int
        )  # (n, S)
        corridor = path.reshape(-1, 3).take(
            low + vehicle[:, None] * path.shape[1], axis=0
        )  # (n, S, 3)
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
        np.minimum.at(accel, vehicle, self._interaction(gap, self.v_mps[vehicle] - speed, vehicle))
        self.leader, self.leader_gap_m = -1, np.inf
        mine = int(np.searchsorted(vehicle, 0, side="right"))  # vehicles are in order
        if mine:
            nearest = np.argmin(gap[:mine])
            self.leader, self.leader_gap_m = int(owner[body[nearest]]), float(gap[nearest])
        return accel

    def _stopping(self) -> np.ndarray:
        """Acceleration allowed by red lights, the right of way of others and places to wait, (V,)."""
        front = self.s_m + self.front_m
        k = np.argmax(self.leave_m > (self.s_m - self.rear_m)[:, None], axis=1)
        distance = self.enter_m[self._rows, k] - front  # bumper to the line
        self.held = self._must_wait(k, distance)
        line = np.where(self.held, distance - self.drivers.stop_m, np.inf)
        gap = np.minimum(line, self.stop_at_m - front) + self.drivers.gap_m
        accel, rows = np.full(len(gap), np.inf), np.flatnonzero(np.isfinite(gap))
        accel[rows] = self._interaction(gap[rows], self.v_mps[rows], rows)
        return accel

    def _must_wait(self, k: np.ndarray, distance: np.ndarray) -> np.ndarray:
        """Who must stop at the line of junction `k` (V,) on their route, `distance` (V,) ahead:
        (V,) bool.
        """
        held, inside = np.zeros(len(k), bool), distance <= 0
        near = np.flatnonzero(~inside & (distance < 45.0))
        if not len(near):
            return held
        at, v, was_held = k[near], self.v_mps[near], self.held[near]
        may = (
            distance[near] - self.drivers.stop_m[near] > v**2 / (2 * 2.6)
        ) | was_held  # can stop, or stands
        state = self.signals.states_of(self._place[near, at], self._axis[near, at], self.time_s)
        light = np.where(self._signalled[near, at], state, GREEN)
        barred = (light == RED) | ((light == AMBER) & may)
        held[near] = barred & may
        asks = near[~barred & may]
        rival = near[
            ~barred & ~was_held & (self.enter_m[near, at] < FAR_M)
        ]  # who waits for others is nobody's rival
        if len(asks):
            held[asks] = self._yields(k, distance, asks, np.flatnonzero(inside), rival)
        return held

    def _yields(
        self,
        k: np.ndarray,
        distance: np.ndarray,
        asks: np.ndarray,
        inside: np.ndarray,
        rival: np.ndarray,
    ) -> np.ndarray:
        """Which of `asks` (n,) must let somebody `inside` a junction, or a `rival` before it, go
        first: (n,) bool.
        """
        others = np.concatenate([inside, rival])
        meet = self._conflict[self._slots[asks, k[asks], None], self._slots[others, k[others]]] & (
            asks[:, None] != others
        )
        if not meet.any():
            return np.zeros(len(asks), bool)
        rank, arrival = (
            self._rank[self._rows, k],
            np.maximum(distance, 0) / np.maximum(self.v_mps, 3.0),
        )
        order = arrival + 1e-3 * self._rows
        clear = (self.leave_m[asks, k[asks]] - self.s_m[asks] + self.rear_m[asks]) / np.maximum(
            self.v_mps[asks], 4.5
        )
        mine, theirs = rank[asks, None], rank[others]
        goes_first = (theirs < mine) | ((theirs == mine) & (order[others] < order[asks, None]))
        is_inside = np.arange(len(others)) < len(inside)
        return (
            meet & (is_inside | (goes_first & (arrival[others] < 0.75 * clear[:, None] + 0.5)))
        ).any(axis=1)

    def _start_walking(self) -> None:
        """Let those pedestrians start who wish to and for whom the road is safe."""
        people = self.people
        for person in people.would_start(self.time_s):
            if not people.careful[person] or self._safe_to_cross(person):
                people.begun_s[person] = self.time_s

    def _safe_to_cross(self, person: int) -> bool:
        junction = self.people.junction[person]
        if junction and self.town.junctions[junction].signalled:
            row, axis = self.signals.row[junction], 1 - self.people.axis[person]
            if (self.signals.states_of(row, axis, self.time_s + _CROSSING_S) != GREEN).any():
                return False
        return is_clear(self.people, person, self.ways, (self.s_m, self.front_m, self.v_mps))
