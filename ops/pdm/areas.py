"""Where the ego box is at each moment: across lanes, off the road, on the wrong side. Not a score: see compliance.py.

Source: PDM_SPEC 1.5 (navsim pdm_scorer.py `_calculate_ego_area`). A point on an edge is outside.
"""

from enum import IntEnum

from ops.pdm.engine import kernel
from ops.pdm.geometry import INSIDE, box_bounds
from ops.pdm.map_index import DRIVABLE, INTERSECTION, LANE, ON_ROUTE, locate, polygons_near


class Area(IntEnum):
    """Columns of the areas of one moment."""

    MULTIPLE_LANES = 0      # corners touch more than one lane or connector, and none holds all four
    NON_DRIVABLE = 1        # a corner lies in no roadblock, intersection or car park
    ONCOMING = 2            # the centre lies in no lane or connector of the route
    INTERSECTION = 3        # the centre lies in an intersection (used by DDC and LK of v2)


@kernel
def ego_areas(corners, polygons, out):
    """Fill `out` (T, 4) bool from the ego boxes `corners` (T, 5, 2): four corners, then the centre."""
    low_x, low_y, high_x, high_y = box_bounds(corners[0])
    for t in range(1, corners.shape[0]):
        a, b, c, d = box_bounds(corners[t])
        low_x, low_y, high_x, high_y = min(low_x, a), min(low_y, b), max(high_x, c), max(high_y, d)
    near = polygons_near(polygons, low_x, low_y, high_x, high_y)
    for t in range(corners.shape[0]):
        _areas_at(corners[t], polygons, near, out[t])


@kernel
def _areas_at(points, polygons, near, out):
    """Areas of one ego box `points` (5, 2)."""
    low_x, low_y, high_x, high_y = box_bounds(points)
    lanes, one_lane, drivable, on_route, intersection = 0, False, 0, False, False
    for n in range(len(near)):
        m = near[n]
        bounds, kind = polygons.bounds[m], polygons.kind[m]
        if bounds[0] > high_x or bounds[2] < low_x or bounds[1] > high_y or bounds[3] < low_y:
            continue
        inside = 0
        if kind & (LANE | DRIVABLE):
            for k in range(4):
                if locate(polygons, m, points[k, 0], points[k, 1]) == INSIDE:
                    inside |= 1 << k
        if kind & LANE and inside:
            lanes += 1
            one_lane = one_lane or inside == 15
        if kind & DRIVABLE:
            drivable |= inside
        if kind & (ON_ROUTE | INTERSECTION) and locate(polygons, m, points[4, 0], points[4, 1]) == INSIDE:
            on_route = on_route or kind & ON_ROUTE != 0
            intersection = intersection or kind & INTERSECTION != 0
    out[0] = lanes > 1 and not one_lane
    out[1] = drivable != 15
    out[2] = not on_route
    out[3] = intersection
