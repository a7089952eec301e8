"""Distances to and along the centreline: raw progress and lane keeping.

Source: docs/metrics.md, "EP" and "LK"; devkit pdm_planner/scoring/pdm_scorer.py
`_calculate_progress`, `_calculate_lane_keeping`; GEOS LengthIndexOfPoint. aggregate.py normalises
the progress.
"""

import math
from typing import NamedTuple

import numpy as np

from ops.pdm.rules.areas import Area
from ops.pdm.rules.engine import inner, kernel
from ops.pdm.rules.geometry import segment_distance

LANE_LIMIT_M = 0.5  # distance to the centreline above which a sample counts against lane keeping
LANE_SAMPLES = 20  # consecutive samples (2.0 s) that make it fail
_BLOCK = 16  # segments that share one bounding rectangle


class Line(NamedTuple):
    """A polyline with N points and B blocks of segments."""

    xy: np.ndarray  # (N, 2)
    along: np.ndarray  # (N,) distance from the start
    bounds: np.ndarray  # (B, 4) of each block: lowest x, lowest y, highest x, highest y


def make_line(xy: np.ndarray) -> Line:
    """Index a polyline (N, 2), N >= 2."""
    xy = np.ascontiguousarray(xy, dtype=np.float64)
    along = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(xy, axis=0).T))])
    blocks = -(-(len(xy) - 1) // _BLOCK)
    rows = np.minimum(np.arange(blocks)[:, None] * _BLOCK + np.arange(_BLOCK + 1), len(xy) - 1)
    return Line(xy, along, np.concatenate([xy[rows].min(axis=1), xy[rows].max(axis=1)], axis=1))


@inner
def _block_distance(bounds, b, x, y):
    """Distance of a point to the rectangle of a block."""
    dx = max(max(bounds[b, 0] - x, x - bounds[b, 2]), 0.0)
    dy = max(max(bounds[b, 1] - y, y - bounds[b, 3]), 0.0)
    return math.sqrt(dx * dx + dy * dy)


@kernel
def project(line, x, y):
    """Distance along the line of its point nearest to (x, y); the first one if there are
    several.
    """
    xy, bounds = line.xy, line.bounds
    best, station = math.inf, 0.0
    for b in range(len(bounds)):
        if _block_distance(bounds, b, x, y) > best:
            continue
        for i in range(b * _BLOCK, min((b + 1) * _BLOCK, len(xy) - 1)):
            ax, ay, bx, by = xy[i, 0], xy[i, 1], xy[i + 1, 0], xy[i + 1, 1]
            distance = segment_distance(x, y, ax, ay, bx, by)
            if distance < best:
                best = distance
                square = (bx - ax) * (bx - ax) + (by - ay) * (by - ay)
                part = (
                    ((x - ax) * (bx - ax) + (y - ay) * (by - ay)) / square if square > 0.0 else 0.0
                )
                station = line.along[i] + min(max(part, 0.0), 1.0) * math.sqrt(square)
    return station


@inner
def _farther(xy, bounds, x, y, limit):
    """True if a point is farther than `limit` from every point of the line."""
    for b in range(len(bounds)):
        if _block_distance(bounds, b, x, y) > limit:
            continue
        for i in range(b * _BLOCK, min((b + 1) * _BLOCK, len(xy) - 1)):
            if segment_distance(x, y, xy[i, 0], xy[i, 1], xy[i + 1, 0], xy[i + 1, 1]) <= limit:
                return False
    return True


@inner
def raw_progress(corners, line):
    """Distance in m that the ego's centre advances along the centreline from the first state to the
    last, at least 0.
    """
    last = corners.shape[0] - 1
    start = project(line, corners[0, 4, 0], corners[0, 4, 1])
    return max(project(line, corners[last, 4, 0], corners[last, 4, 1]) - start, 0.0)


@inner
def keeps_lane(corners, areas, line, pause):
    """False if 20 samples in a row are farther than 0.5 m from the centreline.

    `pause`: samples in an intersection are skipped; else they reset the count.
    """
    xy, bounds = line.xy, line.bounds
    count = 0
    for t in range(corners.shape[0]):
        if areas[t, Area.INTERSECTION]:
            count = count if pause else 0
            continue
        x, y = corners[t, 4, 0], corners[t, 4, 1]
        count = count + 1 if _farther(xy, bounds, x, y, LANE_LIMIT_M) else 0
        if count >= LANE_SAMPLES:
            return False
    return True
