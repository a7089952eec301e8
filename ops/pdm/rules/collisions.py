"""Contacts with other road users and red lights: at-fault collisions, time to collision, traffic
light compliance.

Source: docs/metrics.md, "NC", "TTC" and "TLC"; devkit pdm_planner/scoring/pdm_scorer.py
`_calculate_no_at_fault_collision`, `_calculate_ttc`, `_calculate_traffic_light_compliance`,
pdm_scorer_utils.py `get_collision_type`, nuplan planning/simulation/observation/idm/utils.py.
Tracks are independent of each other: each is followed in time until a contact that is not the ego's
fault. Legend: T states, F frames of the traffic (`stride` states each), A tracks.
"""

import math

import numpy as np

from ops.pdm.rules.areas import Area
from ops.pdm.rules.engine import inner
from ops.pdm.rules.geometry import (
    CLOSE_M,
    bounds_of,
    box_gap,
    boxes_touch,
    ring_touches_box,
    segment_touches_box,
)
from ops.pdm.rules.vehicle import HALF_LENGTH_M, HALF_WIDTH_M, STEP_S

STOPPED_EGO_MPS = 5e-2  # collision: an ego this slow is never at fault
STOPPED_TRACK_MPS = 5e-2  # collision: a track this slow is always the ego's fault
STANDING_EGO_MPS = 5e-3  # time to collision: states slower than this are skipped
# of 0.1 s, within 1 s: the ego is moved straight ahead for these times
LOOK_AHEAD_STEPS = (0, 3, 6, 9)
_REACH_S = LOOK_AHEAD_STEPS[-1] * STEP_S
_AHEAD, _BEHIND = math.cos(math.radians(30.0)), math.cos(math.radians(150.0))
_HALF_DIAGONAL_M = math.hypot(HALF_LENGTH_M, HALF_WIDTH_M)


@inner
def tracks_near(states, bounds, traffic, out):
    """Fill `out` (A,) with the tracks that can touch the ego, given the `bounds` of all its boxes;
    returns their number.
    """
    fastest = 0.0
    for t in range(states.shape[0]):
        fastest = max(fastest, math.hypot(states[t, 3], states[t, 4]))
    margin_m = fastest * _REACH_S + CLOSE_M
    sweep, ignored = traffic.sweep, traffic.ignored
    count = 0
    for a in range(len(ignored)):
        if (
            not ignored[a]
            and sweep[a, 0] <= bounds[2] + margin_m
            and sweep[a, 2] >= bounds[0] - margin_m
            and sweep[a, 1] <= bounds[3] + margin_m
            and sweep[a, 3] >= bounds[1] - margin_m
        ):
            out[count] = a
            count += 1
    return count


@inner
def _touch(x, y, c, s, pose, facing, half, radius, f, a):
    """1 if the ego box with centre x, y and direction c, s surely touches track a, -1 if surely
    not, 0 if unsure.
    """
    dx, dy = pose[f, a, 0] - x, pose[f, a, 1] - y
    far = _HALF_DIAGONAL_M + radius[a] + CLOSE_M
    if dx * dx + dy * dy > far * far:
        return -1
    gap = box_gap(
        dx,
        dy,
        c,
        s,
        HALF_LENGTH_M,
        HALF_WIDTH_M,
        facing[f, a, 0],
        facing[f, a, 1],
        half[a, 0],
        half[a, 1],
    )
    return 0 if abs(gap) < CLOSE_M else 1 if gap < 0 else -1


@inner
def _touch_exactly(corners, t, shift_x, shift_y, track_corners, f, a):
    """True if the ego box at state t, moved by a shift, shares a point with track a."""
    box = np.empty((4, 2))
    for k in range(4):
        box[k, 0], box[k, 1] = corners[t, k, 0] + shift_x, corners[t, k, 1] + shift_y
    return boxes_touch(box, track_corners[f, a])


@inner
def _direction(states, t, c, s, x, y):
    """Cosine of the angle between the ego's heading (c, s) and the direction from its rear axle to
    a point.

    The devkit takes the arccosine of this. Rounding can carry its cosine past 1, where the
    arccosine is NaN and a track straight ahead counts as neither ahead nor behind. Which tracks
    that affects depends on the build of numpy, so it is not reproduced.
    """
    dx, dy = x - states[t, 0], y - states[t, 1]
    distance = math.sqrt(dx * dx + dy * dy)
    return (c * dx + s * dy) / distance if distance > 0.0 else 1.0


@inner
def _at_fault(states, t, c, s, corners, areas, traffic, f, a):
    """True if a contact with track a at state t is the ego's fault."""
    if math.hypot(states[t, 3], states[t, 4]) <= STOPPED_EGO_MPS:
        return False
    if not traffic.moves[a] or traffic.speed[f, a] <= STOPPED_TRACK_MPS:
        return True
    if _direction(states, t, c, s, traffic.pose[f, a, 0], traffic.pose[f, a, 1]) < _BEHIND:
        return False
    front = corners[t]
    if segment_touches_box(
        front[0, 0], front[0, 1], front[3, 0], front[3, 1], traffic.corners[f, a]
    ):
        return True
    return areas[t, Area.MULTIPLE_LANES] or areas[t, Area.NON_DRIVABLE]


@inner
def no_at_fault_collision(states, corners, facing, areas, traffic, near):
    """Score (1, 0.5 static object, 0) of one simulated plan and index of its first at-fault contact
    (inf if none).

    After the first contact with a track, the track is not looked at again: if it was not the ego's
    fault the devkit ignores the track, and if it was the score cannot get lower with it.
    """
    present, pose, direction, half = traffic.present, traffic.pose, traffic.facing, traffic.half
    radius, track_corners, stride = traffic.radius, traffic.corners, traffic.stride
    score, first = 1.0, math.inf
    for a in near:
        for t in range(states.shape[0]):
            f = t // stride
            if not present[f, a]:
                continue
            touch = _touch(
                corners[t, 4, 0],
                corners[t, 4, 1],
                facing[t, 0],
                facing[t, 1],
                pose,
                direction,
                half,
                radius,
                f,
                a,
            )
            if touch < 0 or (
                touch == 0 and not _touch_exactly(corners, t, 0.0, 0.0, track_corners, f, a)
            ):
                continue
            if _at_fault(states, t, facing[t, 0], facing[t, 1], corners, areas, traffic, f, a):
                score = min(score, 0.0 if traffic.moves[a] else 0.5)
                first = min(first, float(t))
            break
    return score, first


@inner
def time_to_collision(states, corners, facing, areas, traffic, near, steps):
    """Score (1 or 0) and index of the first infraction (inf if none) in states 0 .. steps - 1."""
    first = math.inf
    for a in near:
        first = min(first, _first_infraction(states, corners, facing, areas, traffic, steps, a))
    return (1.0 if first == math.inf else 0.0), first


@inner
def _first_infraction(states, corners, facing, areas, traffic, steps, a):
    """Index of the first state from which the ego would run into track a, inf if there is none."""
    present, pose, direction, half = traffic.present, traffic.pose, traffic.facing, traffic.half
    radius, track_corners, stride = traffic.radius, traffic.corners, traffic.stride
    for t in range(steps):
        c, s = facing[t, 0], facing[t, 1]
        speed = math.hypot(states[t, 3], states[t, 4])
        if speed < STANDING_EGO_MPS:
            continue
        for offset in LOOK_AHEAD_STEPS:
            f = (t + offset) // stride
            if not present[f, a]:
                continue
            shift_x, shift_y = c * speed * (offset * STEP_S), s * speed * (offset * STEP_S)
            touch = _touch(
                corners[t, 4, 0] + shift_x,
                corners[t, 4, 1] + shift_y,
                c,
                s,
                pose,
                direction,
                half,
                radius,
                f,
                a,
            )
            if touch < 0 or (
                touch == 0 and not _touch_exactly(corners, t, shift_x, shift_y, track_corners, f, a)
            ):
                continue
            cosine = _direction(states, t, c, s, pose[f, a, 0], pose[f, a, 1])
            off_lane = (
                areas[t, Area.MULTIPLE_LANES]
                or areas[t, Area.NON_DRIVABLE]
                or areas[t, Area.REAR_INTERSECTION]
            )
            return float(t) if cosine > _AHEAD or (off_lane and cosine >= _BEHIND) else math.inf
    return math.inf


@inner
def runs_red_light(corners, bounds, traffic):
    """True if the ego box ever shares a point with a red connector, also if it does so at the
    start.
    """
    start, xy = traffic.light_start, traffic.light_xy
    light_bounds, red = traffic.light_bounds, traffic.red
    for light in range(red.shape[1]):
        if (
            light_bounds[light, 0] > bounds[2]
            or light_bounds[light, 2] < bounds[0]
            or light_bounds[light, 1] > bounds[3]
            or light_bounds[light, 3] < bounds[1]
        ):
            continue
        for t in range(corners.shape[0]):
            if not red[t // traffic.stride, light]:
                continue
            low_x, low_y, high_x, high_y = bounds_of(corners[t])
            if (
                light_bounds[light, 0] <= high_x
                and light_bounds[light, 2] >= low_x
                and light_bounds[light, 1] <= high_y
                and light_bounds[light, 3] >= low_y
                and ring_touches_box(xy, start[light], start[light + 1], corners[t])
            ):
                return True
    return False
