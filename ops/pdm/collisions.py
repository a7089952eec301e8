"""Touches with other road users: at-fault collisions, time to collision, red lights. Not their weights: see aggregate.py.

Source: PDM_SPEC 1.6 and 1.7 (navsim pdm_scorer.py, pdm_scorer_utils.py `get_collision_type`, nuplan idm/utils.py). Tracks are
independent of each other: each is followed through time until it is found not to be the ego's fault. T states, A tracks.
"""

import math

import numpy as np

from ops.pdm.areas import Area
from ops.pdm.engine import kernel
from ops.pdm.geometry import box_bounds, boxes_intersect, ring_meets_box, segment_meets_box
from ops.pdm.map_index import INTERSECTION, in_kind

STOPPED_EGO_MPS = 5e-2              # collision: an ego this slow is never at fault
STOPPED_TRACK_MPS = 5e-2            # collision: a track this slow is always the ego's fault
STANDING_EGO_MPS = 5e-3             # time to collision: not evaluated below
_AHEAD = math.cos(math.radians(30.0))
_BEHIND = math.cos(math.radians(150.0))
_TTC_OFFSETS = (0, 3, 6, 9)         # steps of 0.1 s looked ahead, within 1 s
_TTC_REACH_S = 0.9


@kernel
def _direction(state, x, y):
    """Cosine of the angle between the ego's heading and the way from its rear axle to a point.

    Rounding can carry the devkit's cosine past 1, where its arccosine is NaN and a track dead ahead counts as nowhere; which
    tracks that hits depends on the build of numpy, so it is not reproduced.
    """
    dx, dy = x - state[0], y - state[1]
    distance = math.hypot(dx, dy)
    return (math.cos(state[2]) * dx + math.sin(state[2]) * dy) / distance if distance > 0.0 else 1.0


@kernel
def _tracks_near(corners, traffic, margin_m):
    """Tracks whose boxes ever come within a margin of the rectangle around all ego boxes (T, 5, 2)."""
    low_x, low_y, high_x, high_y = box_bounds(corners[0])
    for t in range(1, corners.shape[0]):
        a, b, c, d = box_bounds(corners[t])
        low_x, low_y, high_x, high_y = min(low_x, a), min(low_y, b), max(high_x, c), max(high_y, d)
    found = np.empty(len(traffic.radius), dtype=np.int64)
    n = 0
    for a in range(len(traffic.radius)):
        sweep = traffic.sweep[a]
        if (not traffic.ignored[a] and sweep[0] <= high_x + margin_m and sweep[2] >= low_x - margin_m
                and sweep[1] <= high_y + margin_m and sweep[3] >= low_y - margin_m):
            found[n] = a
            n += 1
    return found[:n]


@kernel
def _meets(box, center_x, center_y, reach, traffic, f, a):
    """True if track a is present in frame f and its box shares a point with an ego box of half diagonal `reach`."""
    if not traffic.present[f, a]:
        return False
    dx, dy = traffic.pose[f, a, 0] - center_x, traffic.pose[f, a, 1] - center_y
    far = reach + traffic.radius[a] + 1e-6
    return dx * dx + dy * dy <= far * far and boxes_intersect(box, traffic.corners[f, a])


@kernel
def _at_fault(state, box, traffic, f, a, lost):
    """True if a touch is the ego's fault. `lost`: the ego is across lanes or off the road."""
    if math.hypot(state[3], state[4]) <= STOPPED_EGO_MPS:
        return False
    if not traffic.moves[a] or traffic.speed[a] <= STOPPED_TRACK_MPS:
        return True
    if _direction(state, traffic.pose[f, a, 0], traffic.pose[f, a, 1]) < _BEHIND:
        return False
    if segment_meets_box(box[0, 0], box[0, 1], box[3, 0], box[3, 1], traffic.corners[f, a]):
        return True
    return lost


@kernel
def no_at_fault_collision(states, corners, areas, traffic):
    """Score (1, 0.5 static object, 0) and index of the first at-fault touch (inf if none) of one simulated plan."""
    score, first = 1.0, math.inf
    near = _tracks_near(corners, traffic, 0.0)
    reach = _half_diagonal(corners)
    for n in range(len(near)):
        a = near[n]
        for t in range(corners.shape[0]):
            f = t // traffic.stride
            box = corners[t, :4]
            if not _meets(box, corners[t, 4, 0], corners[t, 4, 1], reach, traffic, f, a):
                continue
            lost = areas[t, Area.MULTIPLE_LANES] or areas[t, Area.NON_DRIVABLE]
            if _at_fault(states[t], box, traffic, f, a, lost):
                score = min(score, 0.0 if traffic.moves[a] else 0.5)
                first = min(first, float(t))
            break               # not the ego's fault: the track is ignored from here on; its fault: nothing can get worse
    return score, first


@kernel
def _half_diagonal(corners):
    return math.hypot(corners[0, 0, 0] - corners[0, 4, 0], corners[0, 0, 1] - corners[0, 4, 1])


@kernel
def time_to_collision(states, corners, areas, polygons, traffic, steps):
    """Score (1 or 0) and index of the first infraction (inf if none); states 0 .. steps - 1 are looked at."""
    fastest = 0.0
    for t in range(steps):
        fastest = max(fastest, abs(states[t, 3]))
    near = _tracks_near(corners, traffic, fastest * _TTC_REACH_S + 1e-6)
    reach = _half_diagonal(corners)
    first = math.inf
    box = np.empty((4, 2))
    for n in range(len(near)):
        first = min(first, _first_infraction(states, corners, areas, polygons, traffic, steps, near[n], reach, box))
    return (1.0 if first == math.inf else 0.0), first


@kernel
def _first_infraction(states, corners, areas, polygons, traffic, steps, a, reach, box):
    """Index of the first state from which the ego would run into track a, inf if there is none."""
    for t in range(steps):
        speed = math.hypot(states[t, 3], states[t, 4])
        if speed < STANDING_EGO_MPS:
            continue
        step_x, step_y = math.cos(states[t, 2]) * speed, math.sin(states[t, 2]) * speed
        for offset in _TTC_OFFSETS:
            f = (t + offset) // traffic.stride
            ahead_s = offset * 0.1
            shift_x, shift_y = step_x * ahead_s, step_y * ahead_s
            for k in range(4):
                box[k, 0] = corners[t, k, 0] + shift_x
                box[k, 1] = corners[t, k, 1] + shift_y
            if not _meets(box, corners[t, 4, 0] + shift_x, corners[t, 4, 1] + shift_y, reach, traffic, f, a):
                continue
            cosine = _direction(states[t], traffic.pose[f, a, 0], traffic.pose[f, a, 1])
            if cosine > _AHEAD:
                return float(t)
            if cosine >= _BEHIND and (areas[t, Area.MULTIPLE_LANES] or areas[t, Area.NON_DRIVABLE]
                                      or in_kind(polygons, INTERSECTION, states[t, 0], states[t, 1])):
                return float(t)
            return math.inf
    return math.inf


@kernel
def runs_red_light(corners, traffic):
    """True if the ego box ever shares a point with a red connector; also when it stands in it from the start."""
    for light in range(traffic.red.shape[1]):
        start, stop = traffic.light_start[light], traffic.light_start[light + 1]
        for t in range(corners.shape[0]):
            if traffic.red[t // traffic.stride, light] and ring_meets_box(traffic.light_xy, start, stop, corners[t, :4]):
                return True
    return False
