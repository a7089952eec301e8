"""Exact predicates on points, boxes and polygons in the plane.

Coordinates of real maps are around 5e6 m, where doubles are 1e-9 m apart, and the devkit (GEOS)
decides contact and containment with exact signs. The sign of an orientation is therefore taken from
plain doubles where their error bound allows it, and from double-double arithmetic elsewhere.

Legend: a ring is rows [start, stop) of layer g of a (G, V, 2) array, open (the last vertex joins
the first). A box is an array whose first four rows are its corners, counter-clockwise: front left,
rear left, rear right, front right. Arguments are numbers where possible: passing arrays costs more
than the arithmetic here.
"""

import math

import numpy as np

from ops.pdm.rules.engine import inner, kernel
from ops.pdm.rules.vehicle import HALF_LENGTH_M, HALF_WIDTH_M, REAR_AXLE_TO_CENTER_M

# (3 + 16 eps) eps, eps = 2^-53: Shewchuk 1997, bound A of orient2d
_ORIENT_BOUND = 3.3306690738754716e-16
_SPLIT = 134217729.0  # 2^27 + 1: Veltkamp's constant
_HALF_PI = math.pi / 2
CLOSE_M = 1e-6  # for gaps nearer to 0 than this the corners are tested exactly

OUTSIDE, BOUNDARY, INSIDE = 0, 1, 2


@inner
def _difference(a, b):
    """a - b as an unevaluated sum of two doubles (Knuth)."""
    high = a - b
    part = a - high
    return high, (a - (high + part)) + (part - b)


@inner
def _product(a, b):
    """a * b as an unevaluated sum of two doubles (Dekker)."""
    high = a * b
    big = _SPLIT * a
    a_high = big - (big - a)
    a_low = a - a_high
    big = _SPLIT * b
    b_high = big - (big - b)
    b_low = b - b_high
    return high, ((a_high * b_high - high) + a_high * b_low + a_low * b_high) + a_low * b_low


@inner
def _orient_precise(ax, ay, bx, by, px, py):
    """Sign of the orientation in double-double arithmetic."""
    ux, ux_low = _difference(bx, ax)
    uy, uy_low = _difference(by, ay)
    vx, vx_low = _difference(px, ax)
    vy, vy_low = _difference(py, ay)
    left, left_low = _product(ux, vy)
    left_low += ux * vy_low + ux_low * vy
    right, right_low = _product(uy, vx)
    right_low += uy * vx_low + uy_low * vx
    high, low = _difference(left, right)
    return np.sign(high + (low + (left_low - right_low)))


@inner
def orient(ax, ay, bx, by, px, py):
    """1 if p lies left of the line a -> b, -1 if right, 0 if on it."""
    left = (bx - ax) * (py - ay)
    right = (by - ay) * (px - ax)
    det = left - right
    bound = _ORIENT_BOUND * (abs(left) + abs(right))
    if abs(det) > bound:
        return np.sign(det)
    return _orient_precise(ax, ay, bx, by, px, py)


@inner
def fill_box(center_x, center_y, yaw, half_length, half_width, out):
    """Fill the first four rows of `out` with the corners of a box."""
    lon_x, lon_y = math.cos(yaw), math.sin(yaw)
    lat_x, lat_y = math.cos(yaw + _HALF_PI), math.sin(yaw + _HALF_PI)
    for i in range(4):
        lon = half_length if i == 0 or i == 3 else -half_length
        lat = half_width if i < 2 else -half_width
        out[i, 0] = center_x + (lat * lat_x + lon * lon_x)
        out[i, 1] = center_y + (lat * lat_y + lon * lon_y)


@inner
def fill_ego_boxes(states, corners, facing):
    """Fill `corners` (T, 5, 2) with the four corners and the centre of the ego box at each state
    (T, 11), `facing` (T, 2) with the cosine and sine of its heading.
    """
    for t in range(states.shape[0]):
        yaw = states[t, 2]
        facing[t, 0], facing[t, 1] = math.cos(yaw), math.sin(yaw)
        x = states[t, 0] + REAR_AXLE_TO_CENTER_M * facing[t, 0]
        y = states[t, 1] + REAR_AXLE_TO_CENTER_M * facing[t, 1]
        fill_box(x, y, yaw, HALF_LENGTH_M, HALF_WIDTH_M, corners[t])
        corners[t, 4, 0], corners[t, 4, 1] = x, y


@inner
def box_gap(dx, dy, c, s, half_length, half_width, c2, s2, half_length2, half_width2):
    """Widest gap between two boxes along their four axes, within rounding: > 0 if they are apart,
    < 0 if they overlap.

    (dx, dy) is the vector from the first centre to the second; (c, s) and (c2, s2) are the
    directions of their long axes.
    """
    turn_c, turn_s = abs(c * c2 + s * s2), abs(c * s2 - s * c2)
    gap = abs(dx * c + dy * s) - (half_length + half_length2 * turn_c + half_width2 * turn_s)
    gap = max(
        gap, abs(dy * c - dx * s) - (half_width + half_length2 * turn_s + half_width2 * turn_c)
    )
    gap = max(
        gap, abs(dx * c2 + dy * s2) - (half_length2 + half_length * turn_c + half_width * turn_s)
    )
    return max(
        gap, abs(dy * c2 - dx * s2) - (half_width2 + half_length * turn_s + half_width * turn_c)
    )


@inner
def boxes_touch(a, b):
    """True if two boxes share a point, decided exactly on their corners."""
    for first in range(2):
        for i in range(4):
            j = (i + 1) % 4
            apart = True
            for k in range(4):
                if first == 0:
                    side = orient(a[i, 0], a[i, 1], a[j, 0], a[j, 1], b[k, 0], b[k, 1])
                else:
                    side = orient(b[i, 0], b[i, 1], b[j, 0], b[j, 1], a[k, 0], a[k, 1])
                apart = apart and side < 0
            if apart:
                return False
    return True


@inner
def segment_touches_box(ax, ay, bx, by, box):
    """True if the closed segment a-b shares a point with a box (separating axes: the edges of the
    box and the segment).
    """
    left, right = 0, 0
    for i in range(4):
        j = (i + 1) % 4
        x, y, next_x, next_y = box[i, 0], box[i, 1], box[j, 0], box[j, 1]
        if orient(x, y, next_x, next_y, ax, ay) < 0 and orient(x, y, next_x, next_y, bx, by) < 0:
            return False
        side = orient(ax, ay, bx, by, x, y)
        left += side > 0
        right += side < 0
    return left < 4 and right < 4


@inner
def crossing(ax, ay, bx, by, x, y):
    """How an edge a-b meets the ray from (x, y) towards +x: 0 not at all, 1 crosses it, 2 contains
    the point itself.
    """
    if ax < x and bx < x:
        return 0
    if bx == x and by == y:
        return 2
    if ay == y and by == y:
        return 2 if min(ax, bx) <= x <= max(ax, bx) else 0
    if (ay > y) != (by > y):
        side = orient(ax, ay, bx, by, x, y)
        if side == 0:
            return 2
        return 1 if (side > 0) == (by > ay) else 0
    return 0


@inner
def locate_in_ring(x, y, xy, start, stop):
    """OUTSIDE, BOUNDARY or INSIDE (even-odd rule, so a self-crossing ring is defined too)."""
    odd = False
    for i in range(start, stop):
        j = i + 1 if i + 1 < stop else start
        kind = crossing(xy[i, 0], xy[i, 1], xy[j, 0], xy[j, 1], x, y)
        if kind == 2:
            return BOUNDARY
        odd = odd != (kind == 1)
    return INSIDE if odd else OUTSIDE


@inner
def ring_touches_box(xy, start, stop, box):
    """True if a polygon shares a point with a box."""
    low_x, low_y, high_x, high_y = bounds_of(box)
    for i in range(start, stop):
        j = i + 1 if i + 1 < stop else start
        ax, ay, bx, by = xy[i, 0], xy[i, 1], xy[j, 0], xy[j, 1]
        if (
            max(ax, bx) < low_x
            or min(ax, bx) > high_x
            or max(ay, by) < low_y
            or min(ay, by) > high_y
        ):
            continue
        if segment_touches_box(ax, ay, bx, by, box):
            return True
    return locate_in_ring(box[0, 0], box[0, 1], xy, start, stop) != OUTSIDE


@inner
def bounds_of(box):
    """Lowest x, lowest y, highest x, highest y of a box."""
    low_x = min(min(box[0, 0], box[1, 0]), min(box[2, 0], box[3, 0]))
    low_y = min(min(box[0, 1], box[1, 1]), min(box[2, 1], box[3, 1]))
    high_x = max(max(box[0, 0], box[1, 0]), max(box[2, 0], box[3, 0]))
    high_y = max(max(box[0, 1], box[1, 1]), max(box[2, 1], box[3, 1]))
    return low_x, low_y, high_x, high_y


@inner
def segment_distance(x, y, ax, ay, bx, by):
    """Distance of a point to a closed segment."""
    ux, uy = bx - ax, by - ay
    square = ux * ux + uy * uy
    along = ((x - ax) * ux + (y - ay) * uy) / square if square > 0.0 else 0.0
    if along <= 0.0:
        return math.sqrt((x - ax) * (x - ax) + (y - ay) * (y - ay))
    if along >= 1.0:
        return math.sqrt((x - bx) * (x - bx) + (y - by) * (y - by))
    return abs((ay - y) * ux - (ax - x) * uy) / math.sqrt(square)


@inner
def ring_box_distance(xy, start, stop, box):
    """Distance between a polygon and a box, 0 if they share a point."""
    if ring_touches_box(xy, start, stop, box):
        return 0.0
    nearest = math.inf
    for i in range(start, stop):
        j = i + 1 if i + 1 < stop else start
        ax, ay, bx, by = xy[i, 0], xy[i, 1], xy[j, 0], xy[j, 1]
        for k in range(4):
            m = (k + 1) % 4
            nearest = min(
                nearest, segment_distance(ax, ay, box[k, 0], box[k, 1], box[m, 0], box[m, 1])
            )
            nearest = min(nearest, segment_distance(box[k, 0], box[k, 1], ax, ay, bx, by))
    return nearest


@inner
def wrapped(angle):
    """Angle in [-pi, pi]."""
    if -math.pi < angle < math.pi:
        return angle
    return math.atan2(math.sin(angle), math.cos(angle))


@kernel
def box_corners(pose, half):
    """(F, A, 4, 2) corners of boxes with half sizes (A, 2) at poses (F, A, 3)."""
    out = np.empty((pose.shape[0], pose.shape[1], 4, 2))
    for f in range(pose.shape[0]):
        for a in range(pose.shape[1]):
            fill_box(pose[f, a, 0], pose[f, a, 1], pose[f, a, 2], half[a, 0], half[a, 1], out[f, a])
    return out


def ego_center(ego: np.ndarray) -> np.ndarray:
    """(2,) centre of the ego box at a state that starts with the rear axle's x, y, heading."""
    return ego[:2] + REAR_AXLE_TO_CENTER_M * np.array([np.cos(ego[2]), np.sin(ego[2])])


def ego_box(ego: np.ndarray) -> np.ndarray:
    """(4, 2) corners of the ego box at a state that starts with the rear axle's x, y, heading."""
    pose = np.array([[[*ego_center(ego), ego[2]]]])
    return box_corners(pose, np.array([[HALF_LENGTH_M, HALF_WIDTH_M]]))[0, 0]
