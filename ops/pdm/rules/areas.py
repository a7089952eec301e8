"""In which areas the ego box is at each state: several lanes, off the road, on the wrong side.

Source: docs/metrics.md, "Ego areas"; devkit pdm_planner/scoring/pdm_scorer.py
`_calculate_ego_area`. A point on an edge is outside. T states.
"""

from enum import IntEnum

import numpy as np

from ops.pdm.rules.engine import inner
from ops.pdm.rules.geometry import bounds_of
from ops.pdm.rules.map_index import DRIVABLE, INTERSECTION, LANE, ON_ROUTE, inside


class Area(IntEnum):
    """Columns of the areas of one state."""

    MULTIPLE_LANES = (
        0  # the corners lie in more than one lane or connector, and none holds all four
    )
    NON_DRIVABLE = 1  # a corner lies in no roadblock, intersection or car park
    ONCOMING = 2  # the centre lies in no lane or connector of the route
    INTERSECTION = 3  # the centre lies in an intersection (DDC and LK of v2)
    REAR_INTERSECTION = 4  # the rear axle lies in an intersection (TTC)


@inner
def swept_bounds(corners):
    """Lowest x, lowest y, highest x, highest y of all ego boxes (T, 5, 2)."""
    low_x, low_y, high_x, high_y = bounds_of(corners[0])
    for t in range(1, corners.shape[0]):
        a, b, c, d = bounds_of(corners[t])
        low_x, low_y, high_x, high_y = min(low_x, a), min(low_y, b), max(high_x, c), max(high_y, d)
    return low_x, low_y, high_x, high_y


@inner
def ego_areas(states, corners, polygons, out):
    """Fill `out` (T, 5) bool from the states (T, 11) and the ego boxes (T, 5, 2): four corners,
    then the centre.
    """
    bounds, kind, first, slabs_per_m = (
        polygons.bounds,
        polygons.kind,
        polygons.slab_start,
        polygons.slabs_per_m,
    )
    edge_start, edges = polygons.edge_start, polygons.edges
    low_x, low_y, high_x, high_y = swept_bounds(corners)
    near = np.empty(len(kind), dtype=np.int64)
    count = 0
    for m in range(len(kind)):
        if (
            bounds[m, 0] <= high_x
            and bounds[m, 2] >= low_x
            and bounds[m, 1] <= high_y
            and bounds[m, 3] >= low_y
        ):
            near[count] = m
            count += 1
    for t in range(corners.shape[0]):
        low_x, low_y, high_x, high_y = bounds_of(corners[t])
        lanes, one_lane, drivable, center_kinds, rear_kinds = 0, False, 0, 0, 0
        for n in range(count):
            m = near[n]
            if (
                bounds[m, 0] > high_x
                or bounds[m, 2] < low_x
                or bounds[m, 1] > high_y
                or bounds[m, 3] < low_y
            ):
                continue
            held = 0  # one bit for each corner, then the centre, then the rear axle
            for k in range(6):
                x = states[t, 0] if k == 5 else corners[t, k, 0]
                y = states[t, 1] if k == 5 else corners[t, k, 1]
                relevant = (
                    INTERSECTION
                    if k == 5
                    else ON_ROUTE | INTERSECTION
                    if k == 4
                    else LANE | DRIVABLE
                )
                if (
                    kind[m] & relevant
                    and bounds[m, 0] <= x <= bounds[m, 2]
                    and bounds[m, 1] <= y <= bounds[m, 3]
                    and inside(
                        x,
                        y,
                        first[m],
                        first[m + 1] - first[m],
                        bounds[m, 1],
                        slabs_per_m[m],
                        edge_start,
                        edges,
                    )
                ):
                    held |= 1 << k
            if kind[m] & LANE and held & 15:
                lanes += 1
                one_lane = one_lane or held & 15 == 15
            if kind[m] & DRIVABLE:
                drivable |= held & 15
            if held & 16:
                center_kinds |= kind[m]
            if held & 32:
                rear_kinds |= kind[m]
        out[t, Area.MULTIPLE_LANES] = lanes > 1 and not one_lane
        out[t, Area.NON_DRIVABLE] = drivable != 15
        out[t, Area.ONCOMING] = center_kinds & ON_ROUTE == 0
        out[t, Area.INTERSECTION] = center_kinds & INTERSECTION != 0
        out[t, Area.REAR_INTERSECTION] = rear_kinds & INTERSECTION != 0
