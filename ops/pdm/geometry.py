"""Exact predicates on points, boxes and polygons in the plane. Not an index: that is map_index.py.

Coordinates of real maps are around 5e6 m, where doubles are 1e-9 m apart, and the reference decides touching and
containment with exact signs. The sign of an orientation is therefore taken from plain doubles where their error bound allows
it, and from double-double arithmetic where it does not.

Legend: a ring is a range [start, stop) of rows of an (P, 2) array, open (the last vertex joins the first). A box is a (4, 2)
array, counter-clockwise: front left, rear left, rear right, front right.
"""

import math

from ops.pdm.engine import kernel
from ops.pdm.vehicle import HALF_LENGTH_M, HALF_WIDTH_M, REAR_AXLE_TO_CENTER_M

_ORIENT_BOUND = 3.3306690738754716e-16      # (3 + 16 eps) eps, eps = 2^-53: Shewchuk 1997, bound A of orient2d
_SPLIT = 134217729.0                        # 2^27 + 1: Veltkamp's constant
_HALF_PI = math.pi / 2

OUTSIDE, BOUNDARY, INSIDE = 0, 1, 2


@kernel
def _two_diff(a, b):
    """a - b as an unevaluated sum of two doubles (Knuth)."""
    high = a - b
    part = a - high
    return high, (a - (high + part)) + (part - b)


@kernel
def _two_product(a, b):
    """a * b as an unevaluated sum of two doubles (Dekker)."""
    high = a * b
    big = _SPLIT * a
    a_high = big - (big - a)
    a_low = a - a_high
    big = _SPLIT * b
    b_high = big - (big - b)
    b_low = b - b_high
    return high, ((a_high * b_high - high) + a_high * b_low + a_low * b_high) + a_low * b_low


@kernel
def _orient_precise(ax, ay, bx, by, px, py):
    """Sign of the orientation in double-double arithmetic."""
    ux, ux_low = _two_diff(bx, ax)
    uy, uy_low = _two_diff(by, ay)
    vx, vx_low = _two_diff(px, ax)
    vy, vy_low = _two_diff(py, ay)
    left, left_low = _two_product(ux, vy)
    left_low += ux * vy_low + ux_low * vy
    right, right_low = _two_product(uy, vx)
    right_low += uy * vx_low + uy_low * vx
    high, low = _two_diff(left, right)
    total = high + (low + (left_low - right_low))
    if total > 0.0:
        return 1
    return -1 if total < 0.0 else 0


@kernel
def orient(ax, ay, bx, by, px, py):
    """1 if p lies left of the line a -> b, -1 if right, 0 if on it."""
    left = (bx - ax) * (py - ay)
    right = (by - ay) * (px - ax)
    det = left - right
    bound = _ORIENT_BOUND * (abs(left) + abs(right))
    if det > bound:
        return 1
    if -det > bound:
        return -1
    return _orient_precise(ax, ay, bx, by, px, py)


@kernel
def box_corners(center_x, center_y, yaw, half_length, half_width, out):
    """Fill (4, 2) `out` with the corners of a box: front left, rear left, rear right, front right."""
    lon_x, lon_y = math.cos(yaw), math.sin(yaw)
    lat_x, lat_y = math.cos(yaw + _HALF_PI), math.sin(yaw + _HALF_PI)
    for i in range(4):
        lon = half_length if i == 0 or i == 3 else -half_length
        lat = half_width if i < 2 else -half_width
        out[i, 0] = center_x + (lat * lat_x + lon * lon_x)
        out[i, 1] = center_y + (lat * lat_y + lon * lon_y)


@kernel
def ego_corners(states, out):
    """Fill `out` (T, 5, 2) with the corners and, last, the centre of the ego box at each state (T, 11)."""
    for t in range(states.shape[0]):
        x = states[t, 0] + REAR_AXLE_TO_CENTER_M * math.cos(states[t, 2])
        y = states[t, 1] + REAR_AXLE_TO_CENTER_M * math.sin(states[t, 2])
        box_corners(x, y, states[t, 2], HALF_LENGTH_M, HALF_WIDTH_M, out[t])
        out[t, 4, 0] = x
        out[t, 4, 1] = y


@kernel
def box_bounds(box):
    """Lowest x, lowest y, highest x, highest y of a box."""
    low_x = min(min(box[0, 0], box[1, 0]), min(box[2, 0], box[3, 0]))
    low_y = min(min(box[0, 1], box[1, 1]), min(box[2, 1], box[3, 1]))
    high_x = max(max(box[0, 0], box[1, 0]), max(box[2, 0], box[3, 0]))
    high_y = max(max(box[0, 1], box[1, 1]), max(box[2, 1], box[3, 1]))
    return low_x, low_y, high_x, high_y


@kernel
def _separates(a, b):
    """True if an edge of box a has the whole of box b strictly on its outer side."""
    for i in range(4):
        j = (i + 1) % 4
        outside = True
        for k in range(4):
            if orient(a[i, 0], a[i, 1], a[j, 0], a[j, 1], b[k, 0], b[k, 1]) >= 0:
                outside = False
                break
        if outside:
            return True
    return False


@kernel
def boxes_intersect(a, b):
    """True if two boxes share a point; touching counts."""
    return not (_separates(a, b) or _separates(b, a))


@kernel
def segments_intersect(ax, ay, bx, by, cx, cy, dx, dy):
    """True if the closed segments a-b and c-d share a point."""
    if max(ax, bx) < min(cx, dx) or max(cx, dx) < min(ax, bx) or max(ay, by) < min(cy, dy) or max(cy, dy) < min(ay, by):
        return False
    if orient(ax, ay, bx, by, cx, cy) * orient(ax, ay, bx, by, dx, dy) > 0:
        return False
    return orient(cx, cy, dx, dy, ax, ay) * orient(cx, cy, dx, dy, bx, by) <= 0


@kernel
def segment_meets_box(ax, ay, bx, by, box):
    """True if the closed segment a-b shares a point with a box."""
    for k in range(2):
        if point_in_box(ax if k == 0 else bx, ay if k == 0 else by, box):
            return True
    for i in range(4):
        j = (i + 1) % 4
        if segments_intersect(ax, ay, bx, by, box[i, 0], box[i, 1], box[j, 0], box[j, 1]):
            return True
    return False


@kernel
def point_in_box(x, y, box):
    """True if a point lies in a box or on its edge."""
    for i in range(4):
        j = (i + 1) % 4
        if orient(box[i, 0], box[i, 1], box[j, 0], box[j, 1], x, y) < 0:
            return False
    return True


@kernel
def crossing(ax, ay, bx, by, x, y):
    """How an edge a-b meets the ray from (x, y) towards +x: 0 not, 1 crosses it, 2 holds the point itself."""
    if ax < x and bx < x:
        return 0
    if bx == x and by == y:
        return 2
    if ay == y and by == y:
        return 2 if min(ax, bx) <= x <= max(ax, bx) else 0
    if (ay > y and by <= y) or (by > y and ay <= y):
        side = orient(ax, ay, bx, by, x, y)
        if side == 0:
            return 2
        return 1 if (side > 0) == (by > ay) else 0
    return 0


@kernel
def locate_in_ring(x, y, xy, start, stop):
    """OUTSIDE, BOUNDARY or INSIDE (even-odd rule, so a self-crossing ring is defined too)."""
    odd = False
    for i in range(start, stop):
        j = i + 1 if i + 1 < stop else start
        kind = crossing(xy[i, 0], xy[i, 1], xy[j, 0], xy[j, 1], x, y)
        if kind == 2:
            return BOUNDARY
        if kind == 1:
            odd = not odd
    return INSIDE if odd else OUTSIDE


@kernel
def ring_meets_box(xy, start, stop, box):
    """True if a polygon shares a point with a box; touching counts."""
    low_x, low_y, high_x, high_y = box_bounds(box)
    for i in range(start, stop):
        j = i + 1 if i + 1 < stop else start
        ax, ay, bx, by = xy[i, 0], xy[i, 1], xy[j, 0], xy[j, 1]
        if max(ax, bx) < low_x or min(ax, bx) > high_x or max(ay, by) < low_y or min(ay, by) > high_y:
            continue
        if segment_meets_box(ax, ay, bx, by, box):
            return True
    return locate_in_ring(box[0, 0], box[0, 1], xy, start, stop) != OUTSIDE


@kernel
def segment_distance(x, y, ax, ay, bx, by):
    """Distance of a point to a closed segment."""
    ux, uy = bx - ax, by - ay
    square = ux * ux + uy * uy
    if square == 0.0:
        return math.hypot(x - ax, y - ay)
    along = ((x - ax) * ux + (y - ay) * uy) / square
    if along <= 0.0:
        return math.hypot(x - ax, y - ay)
    if along >= 1.0:
        return math.hypot(x - bx, y - by)
    return abs((ay - y) * ux - (ax - x) * uy) / math.sqrt(square)


@kernel
def ring_box_distance(xy, start, stop, box):
    """Distance between a polygon and a box, 0 if they share a point."""
    if ring_meets_box(xy, start, stop, box):
        return 0.0
    nearest = math.inf
    for i in range(start, stop):
        j = i + 1 if i + 1 < stop else start
        for k in range(4):
            m = (k + 1) % 4
            there = segment_distance(xy[i, 0], xy[i, 1], box[k, 0], box[k, 1], box[m, 0], box[m, 1])
            here = segment_distance(box[k, 0], box[k, 1], xy[i, 0], xy[i, 1], xy[j, 0], xy[j, 1])
            nearest = min(nearest, there, here)
    return nearest


@kernel
def wrapped(angle):
    """Angle in [-pi, pi], as the arctangent of its sine and cosine."""
    return math.atan2(math.sin(angle), math.cos(angle))
