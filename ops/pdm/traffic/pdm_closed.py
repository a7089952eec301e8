"""PDM-Closed: the rule-based planner whose progress every plan is measured against.

Source: docs/metrics.md, "PDM-Closed"; devkit pdm_planner/abstract_pdm_closed_planner.py,
proposal/pdm_generator.py, proposal/batch_idm_policy.py. Three paths (centreline, 1 m right, 1 m
left) times five target speeds give 15 proposals, path-major. Its quirks are in quirks.py. Legend: V
proposals of a path, F frames of the forecast, A tracks, L red lights.
"""

import math
from dataclasses import dataclass

import numpy as np
import shapely

from ops.pdm.rules.engine import inner, kernel
from ops.pdm.rules.geometry import (
    bounds_of,
    ego_box,
    fill_box,
    ring_box_distance,
    ring_touches_box,
    wrapped,
)
from ops.pdm.rules.progress import Line, make_line, project
from ops.pdm.rules.quirks import DEVKIT, Quirks
from ops.pdm.rules.vehicle import (
    HALF_LENGTH_M,
    HALF_WIDTH_M,
    REAR_AXLE_TO_CENTER_M,
    STEP_S,
    STEPS,
    WIDTH_M,
)
from ops.pdm.scene.scene import Scene
from ops.pdm.traffic.traffic import FORECAST_STRIDE, Traffic, forecast_traffic

LATERAL_OFFSETS_M = (0.0, -1.0, 1.0)  # of the three paths; positive is left
SPEED_FRACTIONS = (0.2, 0.4, 0.6, 0.8, 1.0)  # of the speed limit
FALLBACK_SPEED_MPS = 15.0  # where no limit is known
SPEEDS = len(SPEED_FRACTIONS)
PROPOSALS = len(LATERAL_OFFSETS_M) * SPEEDS
LONG_STEPS = 50  # the chosen proposal is unrolled to 5 s
_MIN_GAP_M, _HEADWAY_S, _ACC, _DEC, _EXPONENT = 1.0, 1.5, 1.5, 3.0, 10
_PATH_START_M = 1e-5  # smallest station (distance along a path) that is looked up
_BRAKES, _SHARES, _NEGATIVE = 0, 1, 2  # quirks, see Quirks.closed_*
_STATION, _SPEED, _REAR = 0, 1, 2  # record of a leader: station, speed, half length


@dataclass(frozen=True, slots=True, eq=False)
class _Path:
    """One of the three paths and the obstacles in its corridor."""

    line: Line
    xyyaw: np.ndarray  # (N, 3), headings unwrapped
    inside: np.ndarray  # (F, A + L) bool: shares a point with the corridor
    stations: np.ndarray  # (F, A + L) station of its centre, where inside
    corridor: shapely.Polygon
    rank: np.ndarray  # (F, A + L) order of equally near obstacles; zeros until there are such


class PdmClosedProposals:
    """The 15 proposals of PDM-Closed at one scene; `finish` extends one of them to 5 s."""

    def __init__(self, scene: Scene, quirks: Quirks = DEVKIT) -> None:
        self._scene = scene
        self._flags = np.array(
            [
                quirks.closed_brakes_at_first_step,
                quirks.closed_shares_leader_record,
                quirks.closed_speed_may_be_negative,
            ]
        )
        self.traffic = forecast_traffic(scene)
        self._boxes = self.traffic.corners.reshape(-1, 2)
        limit = FALLBACK_SPEED_MPS if scene.speed_limit_mps is None else scene.speed_limit_mps
        self._targets = limit * np.array(SPEED_FRACTIONS)
        self._lights = _light_polygons(self.traffic)
        ego = shapely.polygons(ego_box(scene.ego))
        # (L,) connectors that contain the ego: it does not stop for those
        self._passed = shapely.within(ego, self._lights)
        # world; zeros after 4 s until unrolled
        self.poses = np.zeros((PROPOSALS, LONG_STEPS + 1, 3))
        self._motion = np.zeros((PROPOSALS, LONG_STEPS + 1, 2))  # station, speed
        self._leaders = np.zeros((PROPOSALS, LONG_STEPS + 1, 3))
        self._paths = [self._path(offset) for offset in LATERAL_OFFSETS_M]
        for p, path in enumerate(self._paths):
            rows = slice(p * SPEEDS, (p + 1) * SPEEDS)
            self._motion[rows, 0] = project(path.line, scene.ego[0], scene.ego[1]), scene.ego[3]
            self._unroll(path, rows, 0, STEPS)

    def finish(self, proposal: int) -> np.ndarray:
        """(51, 3) world poses of a proposal over 5 s at 0.1 s."""
        self._unroll(
            self._paths[proposal // SPEEDS], slice(proposal, proposal + 1), STEPS, LONG_STEPS
        )
        return self.poses[proposal]

    def _unroll(self, path: _Path, rows: slice, first: int, last: int) -> None:
        traffic, targets = self.traffic, self._targets[np.arange(rows.start, rows.stop) % SPEEDS]
        for _ in range(2):
            ties = _unroll(
                path.xyyaw,
                path.line.along,
                targets,
                first,
                last,
                path.inside,
                path.stations,
                path.rank,
                self._boxes,
                traffic.light_xy,
                traffic.light_start,
                traffic.pose,
                traffic.speed,
                traffic.moves,
                self._passed,
                self._flags,
                self.poses[rows],
                self._motion[rows],
                self._leaders[rows],
            )
            if not ties or path.rank.any():
                return
            self._rank(path)

    def _rank(self, path: _Path) -> None:
        """Order the obstacles in the corridor as the search tree of the devkit returns them.

        The tree is built only here because ties are rare.
        """
        for f, corners in enumerate(self.traffic.corners):
            tree = shapely.STRtree([*shapely.polygons(corners), *self._lights])
            order = tree.query(path.corridor, predicate="intersects")
            path.rank[f, order] = np.arange(len(order)) + 1

    def _path(self, offset_m: float) -> _Path:
        """The path parallel to the centreline, `offset_m` to the left."""
        center = self._scene.centerline
        xyyaw = center.copy()
        xyyaw[:, 0] += np.cos(center[:, 2] + np.pi / 2) * offset_m
        xyyaw[:, 1] += np.sin(center[:, 2] + np.pi / 2) * offset_m
        xyyaw[:, 2] = np.unwrap(xyyaw[:, 2])
        line = make_line(xyyaw[:, :2])
        corridor = self._corridor(line)
        ring = shapely.get_coordinates(corridor.exterior)[:-1]
        inside, stations = _contents(ring, corridor.bounds, line, self.traffic)
        red = self.traffic.red & shapely.intersects(corridor, self._lights)
        centers = shapely.get_coordinates(shapely.centroid(self._lights))
        light_stations = np.array([project(line, x, y) for x, y in centers])
        everything = np.concatenate([inside, red], axis=1)
        stations = np.concatenate([stations, np.broadcast_to(light_stations, red.shape)], axis=1)
        return _Path(
            line, xyyaw, everything, stations, corridor, np.zeros(everything.shape, np.int64)
        )

    def _corridor(self, line: Line) -> shapely.Polygon:
        """The strip of the ego's width along the path, from the first vertex past the ego to the
        distance of 5 s at the highest target speed.
        """
        start = project(line, self._scene.ego[0], self._scene.ego[1])
        stop = min(start + abs(self._targets.max()) * LONG_STEPS * STEP_S, line.along[-1])
        ahead = line.xy[(line.along >= start) & (line.along <= stop)]
        if len(ahead) < 2:
            whole = shapely.LineString(line.xy)
            ahead = shapely.get_coordinates(shapely.line_interpolate_point(whole, [start, stop]))
        return shapely.LineString(ahead).buffer(WIDTH_M / 2, cap_style="square")


def _light_polygons(traffic: Traffic) -> np.ndarray:
    """(L,) polygons of the red connectors."""
    rings = zip(traffic.light_start[:-1], traffic.light_start[1:], strict=True)
    return np.array([shapely.Polygon(traffic.light_xy[a:b]) for a, b in rings], dtype=object)


@kernel
def _contents(ring, bounds, line, traffic):
    """Which tracks share a point with a corridor, and the stations of their centres on its path:
    both (F, A).
    """
    frames, tracks = traffic.present.shape
    inside, stations = np.zeros((frames, tracks), dtype=np.bool_), np.zeros((frames, tracks))
    sweep, corners = traffic.sweep, traffic.corners
    low_x, low_y, high_x, high_y = bounds
    for a in range(tracks):
        if (
            traffic.ignored[a]
            or sweep[a, 0] > high_x
            or sweep[a, 2] < low_x
            or sweep[a, 1] > high_y
            or sweep[a, 3] < low_y
        ):
            continue
        for f in range(frames):
            left, down, right, up = bounds_of(corners[f, a])
            if left > high_x or right < low_x or down > high_y or up < low_y:
                continue
            if ring_touches_box(ring, np.int64(0), len(ring), corners[f, a]):
                inside[f, a] = True
                stations[f, a] = project(line, traffic.pose[f, a, 0], traffic.pose[f, a, 1])
    return inside, stations


@inner
def _pose_at(xyyaw, along, station, poses, v, step):
    """Fill poses[v, step] with the pose at a station of a path (N, 3) whose headings are
    unwrapped.
    """
    station = min(max(station, _PATH_START_M), along[-1])
    low, j = 0, len(along) - 1
    while j - low > 1:  # along[low] < station <= along[j]
        middle = (low + j) // 2
        if along[middle] < station:
            low = middle
        else:
            j = middle
    part = station - along[j - 1]
    for k in range(3):
        poses[v, step, k] = (xyyaw[j, k] - xyyaw[j - 1, k]) / (
            along[j] - along[j - 1]
        ) * part + xyyaw[j - 1, k]
    poses[v, step, 2] = wrapped(poses[v, step, 2])


@inner
def _advance(motion, leaders, v, step, target):
    """One step of the intelligent driver model."""
    station, speed = motion[v, step - 1, 0], motion[v, step - 1, 1]
    approach = speed * (speed - leaders[v, step, _SPEED]) / (2 * math.sqrt(_ACC * _DEC))
    desired_gap = _MIN_GAP_M + speed * _HEADWAY_S + approach
    gap = max(leaders[v, step, _STATION] - station - leaders[v, step, _REAR], _MIN_GAP_M)
    rate = _ACC * (1 - (speed / target) ** _EXPONENT - (desired_gap / gap) ** 2)
    motion[v, step, 0] = station + STEP_S * speed
    motion[v, step, 1] = speed + STEP_S * min(max(rate, -_DEC), _ACC)


@inner
def _nearest_ahead(box, station, f, inside, stations, rank, boxes, light_xy, light_start, passed):
    """Index of the track, or A + index of the light, nearest to the ego box among those ahead of a
    station (-1: none), its distance, and whether another one is equally near.
    """
    nearest, leader, tie = math.inf, -1, False
    tracks = inside.shape[1] - len(light_start) + 1
    for o in range(inside.shape[1]):
        light = o - tracks
        if not inside[f, o] or stations[f, o] <= station or (light >= 0 and passed[light]):
            continue
        if light >= 0:
            distance = ring_box_distance(light_xy, light_start[light], light_start[light + 1], box)
        else:
            first = 4 * (f * tracks + o)
            distance = ring_box_distance(boxes, first, first + 4, box)
        tie = tie or distance == nearest
        if distance < nearest or (distance == nearest and rank[f, o] < rank[f, leader]):
            nearest, leader = distance, o
    return leader, nearest, tie


@kernel
def _unroll(
    xyyaw,
    along,
    targets,
    first,
    last,
    inside,
    stations,
    rank,
    boxes,
    light_xy,
    light_start,
    track_pose,
    track_speed,
    moves,
    passed,
    flags,
    poses,
    motion,
    leaders,
):
    """Unroll proposals (V, ...) of one path over steps first + 1 .. last, in place; returns the
    number of steps with equally near leaders.
    """
    box, tracks, ties = np.empty((4, 2)), len(moves), 0
    for v in range(len(targets)):
        if first == 0:
            _pose_at(xyyaw, along, motion[v, 0, 0], poses, v, 0)
    for step in range(first + 1, last + 1):
        station_of_leader, speed_of_leader, rear_of_leader = 0.0, 0.0, 0.0
        for v in range(len(targets)):
            if not flags[_SHARES]:
                station_of_leader, speed_of_leader, rear_of_leader = 0.0, 0.0, 0.0
            if step % FORECAST_STRIDE and (step > 1 or flags[_BRAKES]):
                for k in range(3):
                    leaders[v, step, k] = leaders[v, step - 1, k]
                continue
            station, yaw = motion[v, step - 1, 0], poses[v, step - 1, 2]
            x = poses[v, step - 1, 0] + REAR_AXLE_TO_CENTER_M * math.cos(yaw)
            y = poses[v, step - 1, 1] + REAR_AXLE_TO_CENTER_M * math.sin(yaw)
            fill_box(x, y, yaw, HALF_LENGTH_M, HALF_WIDTH_M, box)
            f = step // FORECAST_STRIDE
            leader, distance, tie = _nearest_ahead(
                box, station, f, inside, stations, rank, boxes, light_xy, light_start, passed
            )
            ties += tie
            if leader < 0:  # free road: the end of the path is a wall
                station_of_leader, rear_of_leader = along[-1], HALF_LENGTH_M
            else:
                station_of_leader = station + distance
                if leader < tracks:  # a red light leaves the speed as it was
                    turn = wrapped(track_pose[0, leader, 2] - yaw)
                    speed_of_leader = (
                        math.cos(turn) * track_speed[0, leader] if moves[leader] else 0.0
                    )
            leaders[v, step, _STATION] = station_of_leader
            leaders[v, step, _SPEED] = speed_of_leader
            leaders[v, step, _REAR] = rear_of_leader
        for v in range(len(targets)):
            _advance(motion, leaders, v, step, targets[v])
            if not flags[_NEGATIVE]:
                motion[v, step, 1] = max(motion[v, step, 1], 0.0)
            _pose_at(xyyaw, along, motion[v, step, 0], poses, v, step)
    return ties
