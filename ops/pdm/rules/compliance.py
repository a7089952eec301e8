"""Drivable area and driving direction compliance, from the ego areas of areas.py.

Source: docs/metrics.md, "DAC" and "DDC"; devkit pdm_planner/scoring/pdm_scorer.py
`_calculate_drivable_area_compliance`, `_calculate_driving_direction_compliance`.
"""

import math

from ops.pdm.rules.areas import Area
from ops.pdm.rules.engine import inner

ONCOMING_SAMPLES = 11  # sliding window: 1.0 s
ONCOMING_LIMIT_M = 2.0  # less than this far on the wrong side is compliant
ONCOMING_VIOLATION_M = 6.0  # this far or farther scores 0, between the two limits 0.5


@inner
def stays_on_road(areas):
    """1 if all corners lie in roadblocks, intersections or car parks at every state, else 0."""
    for t in range(areas.shape[0]):
        if areas[t, Area.NON_DRIVABLE]:
            return 0.0
    return 1.0


@inner
def driving_direction(corners, areas, spare_intersections):
    """1, 0.5 or 0 by the longest distance on the wrong side within 1 s.

    `spare_intersections` (v2): steps that end in an intersection do not count.
    """
    worst = 0.0
    for t in range(corners.shape[0]):
        total = 0.0
        for s in range(max(t - ONCOMING_SAMPLES + 1, 1), t + 1):
            if areas[s, Area.ONCOMING] and not (
                spare_intersections and areas[s, Area.INTERSECTION]
            ):
                total += math.hypot(
                    corners[s, 4, 0] - corners[s - 1, 4, 0], corners[s, 4, 1] - corners[s - 1, 4, 1]
                )
        worst = max(worst, total)
    if worst < ONCOMING_LIMIT_M:
        return 1.0
    return 0.5 if worst < ONCOMING_VIOLATION_M else 0.0
