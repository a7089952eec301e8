"""PDM-Closed: the rule-based planner whose progress every plan is measured against. Not its score: that is score.py's.

Source: PDM_SPEC 1.10 (navsim pdm_generator.py, batch_idm_policy.py, abstract_pdm_closed_planner.py). Three paths (centreline,
1 m right, 1 m left) times five target speeds give 15 proposals, path-major. Quirks that published numbers have are kept:
the first step brakes for a leader at the origin (the array of leaders starts as zeros and is only filled at even steps), and
the record of the leader is shared by the five speeds of a path without a reset, so parts of it leak from one to the next.
"""

import math

import numpy as np
import shapely

from ops.pdm.engine import kernel
from ops.pdm.geometry import box_corners, ring_box_distance, ring_meets_box, wrapped
from ops.pdm.observation import FORECAST_STRIDE, Traffic, ego_box, forecast_traffic
from ops.pdm.progress import Line, make_line, project
from ops.pdm.scene import Scene
from ops.pdm.vehicle import HALF_LENGTH_M, HALF_WIDTH_M, REAR_AXLE_TO_CENTER_M, STEP_S, STEPS, WIDTH_M

LATERAL_OFFSETS_M = (0.0, -1.0, 1.0)                    # of the three paths; positive is left
SPEED_FRACTIONS = (0.2, 0.4, 0.6, 0.8, 1.0)             # of the speed limit
FALLBACK_SPEED_MPS = 15.0                               # where no limit is known
PROPOSALS = len(LATERAL_OFFSETS_M) * len(SPEED_FRACTIONS)
LONG_STEPS = 50                                         # the chosen proposal is unrolled to 5 s
_MIN_GAP_M, _HEADWAY_S, _ACC, _DEC, _EXPONENT = 1.0, 1.5, 1.5, 3.0, 10
_PATH_START_M = 1e-5                                    # smallest place on a path that is looked up
_X, _SPEED, _REAR = 0, 1, 2                             # record of a leader: place on the path, speed, half length


@kernel
def _pose_at(xyyaw, along, place, out):
    """Fill `out` (3,) with the pose at a place on a path (N, 3) whose headings are unwrapped."""
    place = min(max(place, _PATH_START_M), along[-1])
    j = min(max(np.searchsorted(along, place), 1), len(along) - 1)
    part = place - along[j - 1]
    for k in range(3):
        out[k] = (xyyaw[j, k] - xyyaw[j - 1, k]) / (along[j] - along[j - 1]) * part + xyyaw[j - 1, k]
    out[2] = wrapped(out[2])


@kernel
def _idm(place, speed, leader, target):
    """One step of the intelligent driver model: next place and speed. The speed may go negative, as in the devkit."""
    wanted = _MIN_GAP_M + speed * _HEADWAY_S + speed * (speed - leader[_SPEED]) / (2 * math.sqrt(_ACC * _DEC))
    gap = max(leader[_X] - place - leader[_REAR], _MIN_GAP_M)
    rate = _ACC * (1 - (speed / target) ** _EXPONENT - (wanted / gap) ** 2)
    return place + STEP_S * speed, speed + STEP_S * min(max(rate, -_DEC), _ACC)


@kernel
def _in_corridor(ring, traffic):
    """(F, A + L) bool: tracks and red lights that share a point with the corridor at each frame of the forecast."""
    frames, tracks, lights = traffic.present.shape[0], traffic.present.shape[1], traffic.red.shape[1]
    out = np.zeros((frames, tracks + lights), dtype=np.bool_)
    low_x, low_y, high_x, high_y = ring[:, 0].min(), ring[:, 1].min(), ring[:, 0].max(), ring[:, 1].max()
    for a in range(tracks):
        sweep = traffic.sweep[a]
        if traffic.ignored[a] or sweep[0] > high_x or sweep[2] < low_x or sweep[1] > high_y or sweep[3] < low_y:
            continue
        for f in range(frames):
            out[f, a] = ring_meets_box(ring, 0, len(ring), traffic.corners[f, a])
    return out


@kernel
def _leader(pose, place, f, inside, places, traffic, heading, light_ignored, path_length, record):
    """Update the shared `record` (3,) of the leader of a proposal at `place` on its path with `pose` (3,)."""
    box = np.empty((4, 2))
    box_corners(pose[0] + REAR_AXLE_TO_CENTER_M * math.cos(pose[2]), pose[1] + REAR_AXLE_TO_CENTER_M * math.sin(pose[2]),
                pose[2], HALF_LENGTH_M, HALF_WIDTH_M, box)
    tracks = traffic.present.shape[1]
    nearest, who = math.inf, -1
    for a in range(inside.shape[1]):
        if not inside[f, a] or places[f, a] <= place:
            continue
        if a < tracks:
            distance = ring_box_distance(traffic.corners[f, a], 0, 4, box)
        elif light_ignored[a - tracks]:
            continue
        else:
            light = a - tracks
            distance = ring_box_distance(traffic.light_xy, traffic.light_start[light], traffic.light_start[light + 1], box)
        if distance < nearest:
            nearest, who = distance, a
    if who < 0:                                         # free road: the end of the path is a wall
        record[_X], record[_REAR] = path_length, HALF_LENGTH_M
        return
    record[_X] = place + nearest
    if who < tracks:                                    # a red light keeps the speed that was there before
        record[_SPEED] = math.cos(wrapped(heading[who] - pose[2])) * traffic.speed[who] if traffic.moves[who] else 0.0


@kernel
def _unroll(xyyaw, along, start_place, start_speed, targets, first, last, inside, places, traffic, heading, light_ignored,
            poses, motion, leaders):
    """Unroll the proposals of one path over steps first + 1 .. last; rows of `targets` (V,) share the leader's record."""
    count = len(targets)
    for step in range(first + 1, last + 1):
        record = np.zeros(3)
        for v in range(count):
            if step % FORECAST_STRIDE == 0:
                _leader(poses[v, step - 1], motion[v, step - 1, 0], step // FORECAST_STRIDE, inside, places, traffic,
                        heading, light_ignored, along[-1], record)
                leaders[v, step] = record
            else:
                leaders[v, step] = leaders[v, step - 1]
        for v in range(count):
            place, speed = _idm(motion[v, step - 1, 0], motion[v, step - 1, 1], leaders[v, step], targets[v])
            motion[v, step, 0], motion[v, step, 1] = place, speed
            _pose_at(xyyaw, along, place, poses[v, step])


class Proposals:
    """The 15 proposals of one scene and what is needed to unroll the chosen one further."""

    def __init__(self, scene: Scene) -> None:
        self._scene = scene
        self.traffic, self._heading, self._speed = forecast_traffic(scene)
        limit = FALLBACK_SPEED_MPS if scene.speed_limit_mps is None else scene.speed_limit_mps
        self._targets = limit * np.array(SPEED_FRACTIONS)
        self._light_ignored = self._lights_around_ego()
        self.poses = np.zeros((PROPOSALS, LONG_STEPS + 1, 3))           # world; steps after 4 s are 0 until unrolled
        self._motion = np.zeros((PROPOSALS, LONG_STEPS + 1, 2))         # place on the path, speed
        self._leaders = np.zeros((PROPOSALS, LONG_STEPS + 1, 3))
        self._paths = [self._path(offset) for offset in LATERAL_OFFSETS_M]
        for p, path in enumerate(self._paths):
            rows = slice(p * len(SPEED_FRACTIONS), (p + 1) * len(SPEED_FRACTIONS))
            start = project(path[0], scene.ego[0], scene.ego[1])
            self._motion[rows, 0] = start, scene.ego[3]
            _pose_at(path[1], path[0].along, start, self.poses[rows.start, 0])
            self.poses[rows, 0] = self.poses[rows.start, 0]
            self._unroll(p, rows, 0, STEPS)

    def finish(self, proposal: int) -> np.ndarray:
        """(51, 3) world poses of a proposal over 5 s at 0.1 s."""
        self._unroll(proposal // len(SPEED_FRACTIONS), slice(proposal, proposal + 1), STEPS, LONG_STEPS)
        return self.poses[proposal]

    def _unroll(self, p: int, rows: slice, first: int, last: int) -> None:
        line, xyyaw, inside, places = self._paths[p]
        targets = self._targets[np.arange(PROPOSALS)[rows] % len(SPEED_FRACTIONS)]
        _unroll(xyyaw, line.along, 0.0, 0.0, targets, first, last, inside, places, self.traffic, self._heading,
                self._light_ignored, self.poses[rows], self._motion[rows], self._leaders[rows])

    def _path(self, offset_m: float) -> tuple[Line, np.ndarray, np.ndarray, np.ndarray]:
        """A path beside the centreline: its line, its poses (N, 3), and what stands in its corridor and where on it."""
        center = self._scene.centerline
        xyyaw = center.copy()
        xyyaw[:, 0] += np.cos(center[:, 2] + np.pi / 2) * offset_m
        xyyaw[:, 1] += np.sin(center[:, 2] + np.pi / 2) * offset_m
        xyyaw[:, 2] = np.unwrap(xyyaw[:, 2])
        line = make_line(xyyaw[:, :2])
        ring = self._corridor(line)
        inside = _in_corridor(ring, self.traffic)
        tracks = self.traffic.present.shape[1]
        corridor = shapely.polygons(ring)
        centers = []
        for light, (a, b) in enumerate(zip(self.traffic.light_start[:-1], self.traffic.light_start[1:], strict=True)):
            polygon = shapely.polygons(self.traffic.light_xy[a:b])
            inside[:, tracks + light] = self.traffic.red[:, light] & bool(shapely.intersects(corridor, polygon))
            centers.append(shapely.get_coordinates(shapely.centroid(polygon))[0])
        return line, xyyaw, inside, _places(line, self.traffic, np.array(centers).reshape(-1, 2), inside)

    def _corridor(self, line: Line) -> np.ndarray:
        """Ring of the ego's width around the path from the first vertex past the ego to 5 s at the highest speed."""
        start = project(line, self._scene.ego[0], self._scene.ego[1])
        stop = min(start + abs(self._targets.max()) * LONG_STEPS * STEP_S, line.along[-1])
        ahead = line.xy[(line.along >= start) & (line.along <= stop)]
        if len(ahead) < 2:
            whole = shapely.LineString(line.xy)
            ahead = np.stack([shapely.get_coordinates(shapely.line_interpolate_point(whole, place))[0]
                              for place in (start, stop)])
        return shapely.get_coordinates(shapely.LineString(ahead).buffer(WIDTH_M / 2, cap_style="square").exterior)[:-1]

    def _lights_around_ego(self) -> np.ndarray:
        """(L,) bool: connectors with a light that hold the whole ego box now; PDM-Closed does not stop for those."""
        ego = shapely.polygons(ego_box(self._scene.ego))
        rings = zip(self.traffic.light_start[:-1], self.traffic.light_start[1:], strict=True)
        return np.array([shapely.within(ego, shapely.polygons(self.traffic.light_xy[a:b])) for a, b in rings], dtype=bool)


@kernel
def _places(line, traffic, light_centers, inside):
    """(F, A + L) places on the path of the centres of what stands in the corridor."""
    out = np.zeros(inside.shape)
    tracks = traffic.present.shape[1]
    for f in range(inside.shape[0]):
        for a in range(inside.shape[1]):
            if inside[f, a]:
                x = traffic.pose[f, a, 0] if a < tracks else light_centers[a - tracks, 0]
                y = traffic.pose[f, a, 1] if a < tracks else light_centers[a - tracks, 1]
                out[f, a] = project(line, x, y)
    return out
