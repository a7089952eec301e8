"""The traffic simulation: cars that follow, stop, yield and turn, and pedestrians that cross, stepped together as arrays.

Vehicle 0 is the ego. Longitudinal motion is the improved intelligent driver model (Treiber & Kesting, 2013, ch. 11) under a
jerk bound; a vehicle follows its path exactly. Not who drives where (spawn.py) and not what goes wrong (events.py).
Legend: V vehicles, P pedestrians, J junctions, K junctions on a route, M metres of route, S samples of look-ahead.
"""

from dataclasses import dataclass

import numpy as np

from ops.synthesize import curves
from ops.synthesize.routes import FAR_M, Route
from ops.synthesize.signals import AMBER, GREEN, RED, Signals
from ops.synthesize.town import Town

STEP_S = 0.1
LOOK_AHEAD_M = np.arange(0.0, 52.0, 2.0)        # samples of the corridor ahead of the front bumper
CORRIDOR_M = 1.75                               # a body point nearer than this to the path is in the way
PERSON_CORRIDOR_M = 2.3                         # people are given more room
REAR_SHARE = 0.218                              # share of the length behind the rear axle, the ego's own proportions
_FORESEEN_S = (0.8, 1.6, 2.4, 3.2)              # where walkers will be is in the way too


@dataclass(slots=True)
class Drivers:
    """How each vehicle drives, arrays (V,)."""

    accel_mps2: np.ndarray      # comfortable acceleration
    brake_mps2: np.ndarray      # comfortable braking
    hardest_mps2: np.ndarray    # bound on braking
    jerk_mps3: np.ndarray       # bound on the change of acceleration
    headway_s: np.ndarray
    gap_m: np.ndarray           # standing gap
    stop_m: np.ndarray          # where they stop before a line


@dataclass(slots=True)
class Pedestrians:
    """People who cross a road once; arrays (P,)."""

    start: np.ndarray           # (P, 2)
    goal: np.ndarray            # (P, 2)
    speed_mps: np.ndarray
    wish_s: np.ndarray          # time from which they want to cross
    junction: np.ndarray        # junction of their crosswalk, 0 for none (walks on the pavement or jaywalks)
    axis: np.ndarray            # axis of the street they cross
    careful: np.ndarray         # bool: waits for a gap
    begun_s: np.ndarray         # nan until they start

    def motion(self, time_s: float) -> tuple[np.ndarray, np.ndarray]:
        """Positions and velocities (P, 2) at a time."""
        way = self.goal - self.start
        reach = np.maximum(np.hypot(way[:, 0], way[:, 1]), 1e-6)
        gone_s = np.where(np.isnan(self.begun_s), 0.0, time_s - self.begun_s)
        walked = np.clip(gone_s * self.speed_mps, 0.0, reach)
        walking = (gone_s > 0) & (walked < reach)
        direction = way / reach[:, None]
        return self.start + direction * walked[:, None], direction * (self.speed_mps * walking)[:, None]


@dataclass(slots=True)
class Fleet:
    """What is driven: arrays over the vehicles."""

    routes: list[Route]
    speed_cap: np.ndarray       # (V, M) speed wished for at every metre
    start_m: np.ndarray         # (V,)
    speed_mps: np.ndarray       # (V,)
    size_m: np.ndarray          # (V, 3)
    lateral_m: np.ndarray       # (V, M) to the left of the route's centre line
    frozen: np.ndarray          # (V,) bool: stands until told otherwise


class Traffic:
    """The moving world. `step` advances it; the arrays are its state."""

    def __init__(self, town: Town, fleet: Fleet, drivers: Drivers, people: Pedestrians, signals: Signals) -> None:
        self.town, self.drivers, self.people, self.signals, self.fleet = town, drivers, people, signals, fleet
        self.base = np.stack([route.path for route in fleet.routes])            # (V, M, 3)
        self.path = np.empty_like(self.base)
        self.stretch = np.ones(self.base.shape[:2])                             # metres of path for a metre of route
        for vehicle, lateral in enumerate(fleet.lateral_m):
            self.shift(vehicle, lateral)
        self.speed_cap = fleet.speed_cap.copy()                                 # (V, M)
        self.enter_m = np.stack([route.enter_m for route in fleet.routes])      # (V, K)
        self.leave_m = np.stack([route.leave_m for route in fleet.routes])
        self.length_m, self.frozen = fleet.size_m[:, 0], fleet.frozen.copy()
        self.front_m, self.rear_m = (1 - REAR_SHARE) * self.length_m, REAR_SHARE * self.length_m
        self.s_m, self.v_mps = fleet.start_m.astype(float), fleet.speed_mps.astype(float)
        self.a_mps2 = np.zeros(len(self.s_m))
        self.extra_brake = np.zeros(len(self.s_m))      # braking ordered by an event, m/s2
        self.blinker = np.zeros(len(self.s_m), int)     # set by an event: 1 left, -1 right, 2 both
        self.planned_m = np.zeros_like(fleet.lateral_m) # way beside the line that an event ordered
        self.planned_m[1:] = fleet.lateral_m[1:]        # the ego's own is only its wander
        self.stop_at_m = np.full(len(self.s_m), np.inf) # place on the route where an event makes a vehicle wait
        self.time_s = 0.0
        self.held = np.zeros(len(self.s_m), bool)       # must stop at the line of the next junction
        self.leader, self.leader_gap_m = -1, np.inf     # what the ego follows: a vehicle, or -1
        self._look_up_connectors(town, np.stack([route.connector for route in fleet.routes]))

    def shift(self, vehicle: int, lateral_m: np.ndarray) -> None:
        """Let a vehicle drive beside its route's centre line, (M,) metres to the left."""
        base = self.base[vehicle]
        points = curves.offset_points(base, lateral_m)
        self.path[vehicle] = curves.with_heading(points)
        around = curves.wrap(self.path[vehicle, :, 2] - base[:, 2])
        self.path[vehicle, :, 2] = base[:, 2] + around          # the same turn count as the route
        self.stretch[vehicle] = np.hypot(*np.gradient(points, axis=0).T)

    def poses(self) -> np.ndarray:
        """Rear-axle poses (V, 3)."""
        return self._at(self.s_m)

    def speeds(self) -> tuple[np.ndarray, np.ndarray]:
        """Speeds over ground (V,) m/s, and the accelerations across the path (V,) m/s2, to the left."""
        rows, index = np.arange(len(self.s_m)), np.clip(np.round(self.s_m).astype(int), 1, self.path.shape[1] - 2)
        speed = self.v_mps * self.stretch[rows, index]
        bend = (self.path[rows, index + 1, 2] - self.path[rows, index - 1, 2]) / (2 * self.stretch[rows, index])
        return speed, speed * speed * bend

    def turning(self) -> np.ndarray:
        """Turn of the connector that each vehicle is in or within 30 m of, (V,)."""
        k = np.argmax(self.leave_m > self.s_m[:, None], axis=1)
        rows = np.arange(len(k))
        return np.where(self.enter_m[rows, k] - self.s_m < 30.0, self._turn[self._slots[rows, k]], 0)

    def connector_lights(self) -> np.ndarray:
        """State of every connector's light, GREEN where there is none, (connectors + 1,)."""
        return np.where(self._signalled, self.signals.states(self.time_s)[self._place, self._axis], GREEN)

    def step(self) -> None:
        """Advance by STEP_S."""
        self._start_walking()
        accel = np.minimum(np.minimum(self._free(), self._following()), self._stopping())
        accel = np.where(self.extra_brake > 0, np.minimum(accel, -self.extra_brake), accel)
        accel = np.maximum(accel, -self.drivers.hardest_mps2)
        bound = self.drivers.jerk_mps3 * STEP_S
        urgent = accel < -2.2                                   # a foot can be fast when it must
        self.a_mps2 = np.clip(accel, self.a_mps2 - np.where(urgent, 1.6, 1.0) * bound, self.a_mps2 + bound)
        after = np.where(self.frozen, 0.0, np.maximum(self.v_mps + self.a_mps2 * STEP_S, 0.0))
        self.s_m = self.s_m + 0.5 * (self.v_mps + after) * STEP_S
        self.a_mps2 = np.where((after <= 0) & (self.a_mps2 < 0), 0.0, self.a_mps2)
        self.v_mps = after
        self.time_s += STEP_S

    def _look_up_connectors(self, town: Town, connector: np.ndarray) -> None:
        every = [lane for lane in town.lanes.values() if lane.is_connector]
        slot = {lane.lane_id: index for index, lane in enumerate(every)} | {0: len(every)}
        self._slots = np.vectorize(slot.__getitem__)(connector)                 # (V, K)
        self._conflict = np.zeros((len(every) + 1,) * 2, bool)
        for first, second in town.conflicts:
            self._conflict[slot[first], slot[second]] = True
        self._turn = np.array([int(lane.turn) for lane in every] + [0])
        self._rank = np.array([lane.rank for lane in every] + [99])
        self._signalled = np.array([town.junctions[lane.junction_id].signalled for lane in every] + [False])
        self._axis = np.array([lane.arm % 2 for lane in every] + [0])
        self._place = np.array([self.signals.row[lane.junction_id] for lane in every] + [0])

    def _at(self, s_m: np.ndarray) -> np.ndarray:
        """Path points at the given distances, (V, 3)."""
        s_m = np.clip(s_m, 0, self.path.shape[1] - 1.001)
        low = s_m.astype(int)
        part = (s_m - low)[:, None]
        rows = np.arange(len(s_m))
        return self.path[rows, low] * (1 - part) + self.path[rows, low + 1] * part

    def _interaction(self, gap_m: np.ndarray, closing_v: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """Acceleration by the IDM for gaps to something that moves at `v - closing_v`; shapes (n,)."""
        drive, v = self.drivers, self.v_mps[rows]
        wish = drive.gap_m[rows] + np.maximum(
            v * drive.headway_s[rows] + v * closing_v / (2 * np.sqrt(drive.accel_mps2[rows] * drive.brake_mps2[rows])), 0.0)
        ratio = wish / np.maximum(gap_m, 0.3)
        return drive.accel_mps2[rows] * (1 - ratio**2)

    def _free(self) -> np.ndarray:
        """Acceleration towards the speed wished for, (V,)."""
        ahead = np.clip(self.s_m + 0.4 * self.v_mps, 0, self.path.shape[1] - 1.001).astype(int)
        wish = np.maximum(self.speed_cap[np.arange(len(ahead)), ahead], 0.5)
        drive = self.drivers
        slow = drive.accel_mps2 * (1 - (self.v_mps / wish) ** 4)
        power = 4 * drive.accel_mps2 / drive.brake_mps2
        fast = -drive.brake_mps2 * (1 - np.minimum(wish / np.maximum(self.v_mps, 0.1), 1.0) ** power)
        return np.where(self.v_mps <= wish, slow, fast)

    def _bodies(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Points (A, 2), velocities (A, 2) and owners (A,) of everything that can be in the way."""
        pose = self.poses()
        forward = np.stack([np.cos(pose[:, 2]), np.sin(pose[:, 2])], axis=1)
        along = np.stack([0.3 - self.rear_m, 0.5 * (self.front_m - self.rear_m), self.front_m - 0.3], axis=1)    # (V, 3)
        points = pose[:, None, :2] + along[:, :, None] * forward[:, None]
        velocity = np.repeat(forward * self.v_mps[:, None], 3, axis=0)
        owner = np.repeat(np.arange(len(pose)), 3)
        walk, stride = self.people.motion(self.time_s)
        moving = (stride[:, 0] != 0) | (stride[:, 1] != 0)
        people = np.concatenate([walk] + [walk[moving] + stride[moving] * wait for wait in _FORESEEN_S])
        return (np.concatenate([points.reshape(-1, 2), people]), np.concatenate([velocity, np.zeros_like(people)]),
                np.concatenate([owner, np.full(len(people), -1)]))

    def _following(self) -> np.ndarray:
        """Acceleration allowed by what is in the corridor ahead, (V,)."""
        points, velocity, owner = self._bodies()
        low = np.clip((self.s_m + self.front_m)[:, None] + LOOK_AHEAD_M, 0, self.path.shape[1] - 1).astype(int)     # (V, S)
        corridor = np.take_along_axis(self.path, low[:, :, None], axis=1)                                           # (V, S, 3)
        low_x, high_x = corridor[..., 0].min(axis=1) - PERSON_CORRIDOR_M, corridor[..., 0].max(axis=1) + PERSON_CORRIDOR_M
        low_y, high_y = corridor[..., 1].min(axis=1) - PERSON_CORRIDOR_M, corridor[..., 1].max(axis=1) + PERSON_CORRIDOR_M
        x, y = points[:, 0], points[:, 1]
        vehicle, body = np.nonzero((x > low_x[:, None]) & (x < high_x[:, None]) & (y > low_y[:, None])
                                   & (y < high_y[:, None]) & (owner != np.arange(len(self.s_m))[:, None]))
        apart_x, apart_y = x[body][:, None] - corridor[vehicle, :, 0], y[body][:, None] - corridor[vehicle, :, 1]   # (n, S)
        hit = apart_x * apart_x + apart_y * apart_y < np.where(owner[body] < 0, PERSON_CORRIDOR_M, CORRIDOR_M)[:, None] ** 2
        first = hit.argmax(axis=1)
        near = hit[np.arange(len(first)), first]
        vehicle, body, first, rows = vehicle[near], body[near], first[near], np.flatnonzero(near)
        heading = corridor[vehicle, first, 2]
        tangent = np.stack([np.cos(heading), np.sin(heading)], axis=1)
        ahead = apart_x[rows, first] * tangent[:, 0] + apart_y[rows, first] * tangent[:, 1]
        gap = low[vehicle, first] - (self.s_m + self.front_m)[vehicle] + ahead - np.where(owner[body] < 0, 1.2, 0.3)
        speed = np.maximum((velocity[body] * tangent).sum(axis=1), 0.0)
        accel = np.full(len(self.s_m), np.inf)
        np.minimum.at(accel, vehicle, self._interaction(gap, self.v_mps[vehicle] - speed, vehicle))
        mine = np.flatnonzero(vehicle == 0)
        self.leader, self.leader_gap_m = -1, np.inf
        if len(mine):
            nearest = mine[np.argmin(gap[mine])]
            self.leader, self.leader_gap_m = int(owner[body[nearest]]), float(gap[nearest])
        return accel

    def _stopping(self) -> np.ndarray:
        """Acceleration allowed by red lights, the right of way of others and places to wait, (V,)."""
        rows = np.arange(len(self.s_m))
        k = np.argmax(self.leave_m > (self.s_m - self.rear_m)[:, None], axis=1)
        slot, enter, leave = self._slots[rows, k], self.enter_m[rows, k], self.leave_m[rows, k]
        distance = enter - (self.s_m + self.front_m)                # bumper to the line
        inside = distance <= 0
        before = ~inside & (distance < 45.0)
        can_stop = distance - self.drivers.stop_m > self.v_mps**2 / (2 * 2.6)
        light = self.connector_lights()[slot]
        barred = (light == RED) | ((light == AMBER) & (can_stop | self.held))
        arrival = np.maximum(distance, 0) / np.maximum(self.v_mps, 3.0)
        clear = (leave - self.s_m + self.rear_m) / np.maximum(self.v_mps, 4.5)
        rank, order = self._rank[slot], arrival + 1e-3 * rows
        goes_first = (rank[None] < rank[:, None]) | ((rank[None] == rank[:, None]) & (order[None] < order[:, None]))
        rival = before & ~barred & ~self.held & (enter < FAR_M)         # who waits for others is nobody's rival
        yields = inside[None] | (rival[None] & goes_first & (arrival[None] < 0.75 * clear[:, None] + 0.5))
        yields &= self._conflict[slot[:, None], slot[None]] & (rows[:, None] != rows[None])
        self.held = before & (barred | yields.any(axis=1)) & (can_stop | self.held)
        line = np.where(self.held, distance - self.drivers.stop_m, np.inf)
        gap = np.minimum(line, self.stop_at_m - (self.s_m + self.front_m)) + self.drivers.gap_m
        return np.where(np.isfinite(gap), self._interaction(np.where(np.isfinite(gap), gap, 1e3), self.v_mps, rows), np.inf)

    def _start_walking(self) -> None:
        """Let those pedestrians start who wish to and for whom the road is safe."""
        people = self.people
        for person in np.flatnonzero(np.isnan(people.begun_s) & (people.wish_s <= self.time_s)):
            if not people.careful[person] or self._safe_to_cross(person):
                people.begun_s[person] = self.time_s

    def _safe_to_cross(self, person: int) -> bool:
        people = self.people
        junction = people.junction[person]
        if junction and self.town.junctions[junction].signalled:
            row, axis = self.signals.row[junction], 1 - people.axis[person]
            if any(self.signals.states(self.time_s + wait)[row, axis] != GREEN for wait in (0.0, 4.0)):
                return False
        start, way = people.start[person], people.goal[person] - people.start[person]
        reach = np.hypot(*way)
        ahead_m = self.front_m[:, None] + np.arange(-6.0, 42.0, 2.0)
        index = np.clip(self.s_m[:, None] + ahead_m, 0, self.path.shape[1] - 1).astype(int)
        away = np.take_along_axis(self.path, index[:, :, None], axis=1)[..., :2] - start
        along, across = (away @ way) / reach, np.abs(away[..., 0] * way[1] - away[..., 1] * way[0]) / reach
        crosses = (along > -1.0) & (along < reach + 1.0) & (across < 2.2)
        stopping = self.front_m + 3.0 + self.v_mps * 1.3 + self.v_mps**2 / (2 * 1.5)
        return not (crosses & (ahead_m < stopping[:, None]) & (self.v_mps[:, None] > 0.5)).any()
