"""Map polygons laid out so that a point is tested against a handful of edges. Not the choice of polygons: that is scene.py.

Each polygon is cut into horizontal slabs and each slab lists the edges that reach into it. A ray towards +x from a point can
only meet edges of the point's own slab, so the answer is the one of the full ring.
"""

import math
from typing import NamedTuple

import numpy as np

from ops.pdm.engine import kernel
from ops.pdm.geometry import BOUNDARY, INSIDE, OUTSIDE, crossing

LANE, DRIVABLE, ON_ROUTE, INTERSECTION = 1, 2, 4, 8     # bits of `kind`
_EDGES_A_SLAB = 2                                       # slabs are made so thin that about this many edges reach into each


class Polygons(NamedTuple):
    """M polygons with P vertices and S slabs in all; arrays only, so that compiled code can take it as one argument."""

    xy: np.ndarray              # (P, 2) vertices, world
    start: np.ndarray           # (M + 1,) first vertex of each polygon
    bounds: np.ndarray          # (M, 4) lowest x, lowest y, highest x, highest y
    kind: np.ndarray            # (M,) uint8 bits LANE | DRIVABLE | ON_ROUTE | INTERSECTION
    slab_start: np.ndarray      # (M + 1,) first slab of each polygon
    slabs_per_m: np.ndarray     # (M,) slabs in a metre of y
    edge_start: np.ndarray      # (S + 1,) first entry of each slab in `edges`
    edges: np.ndarray           # (E,) int32 index of the first vertex of an edge


def index_polygons(xy: np.ndarray, start: np.ndarray, kind: np.ndarray) -> Polygons:
    """Index M open rings: `xy` (P, 2), `start` (M + 1,), `kind` (M,) uint8 bits."""
    xy = np.ascontiguousarray(xy, dtype=np.float64).reshape(-1, 2)
    start = np.ascontiguousarray(start, dtype=np.int64)
    sizes = np.diff(start)
    low, high = (np.zeros((len(sizes), 2)) for _ in range(2))
    if len(sizes):
        low = np.minimum.reduceat(xy, start[:-1], axis=0)
        high = np.maximum.reduceat(xy, start[:-1], axis=0)
    slabs = np.maximum(1, sizes // _EDGES_A_SLAB)
    slab_start = np.concatenate([[0], np.cumsum(slabs)])
    height = high[:, 1] - low[:, 1]
    slabs_per_m = np.where(height > 0, slabs / np.where(height > 0, height, 1.0), 0.0)
    bounds = np.concatenate([low, high], axis=1)
    edge_start, edges = _fill_slabs(xy, start, bounds, slab_start, slabs_per_m)
    return Polygons(xy, start, bounds, np.ascontiguousarray(kind, dtype=np.uint8), slab_start, slabs_per_m, edge_start,
                    edges)


@kernel
def _slab(y, low_y, slabs_per_m, count):
    return max(0, min(count - 1, int(math.floor((y - low_y) * slabs_per_m))))


@kernel
def _fill_slabs(xy, start, bounds, slab_start, slabs_per_m):
    """Edges that reach into each slab, as first positions and a flat list."""
    count = np.zeros(slab_start[-1] + 1, dtype=np.int64)
    for round_ in range(2):
        if round_ == 1:
            for s in range(len(count) - 1, 0, -1):
                count[s] = count[s - 1]
            count[0] = 0
            for s in range(1, len(count)):
                count[s] += count[s - 1]
            first = count.copy()
            edges = np.empty(first[-1], dtype=np.int32)
        for m in range(len(start) - 1):
            slabs = slab_start[m + 1] - slab_start[m]
            for i in range(start[m], start[m + 1]):
                j = i + 1 if i + 1 < start[m + 1] else start[m]
                a = _slab(min(xy[i, 1], xy[j, 1]), bounds[m, 1], slabs_per_m[m], slabs)
                b = _slab(max(xy[i, 1], xy[j, 1]), bounds[m, 1], slabs_per_m[m], slabs)
                for s in range(slab_start[m] + a, slab_start[m] + b + 1):
                    if round_ == 1:
                        edges[count[s]] = i
                    count[s] += 1
    return first, edges


@kernel
def locate(polygons, m, x, y):
    """OUTSIDE, BOUNDARY or INSIDE: where a point lies with respect to polygon m."""
    bounds = polygons.bounds
    if x < bounds[m, 0] or y < bounds[m, 1] or x > bounds[m, 2] or y > bounds[m, 3]:
        return OUTSIDE
    first = polygons.slab_start[m]
    slab = first + _slab(y, bounds[m, 1], polygons.slabs_per_m[m], polygons.slab_start[m + 1] - first)
    start, stop = polygons.start[m], polygons.start[m + 1]
    odd = False
    for e in range(polygons.edge_start[slab], polygons.edge_start[slab + 1]):
        i = polygons.edges[e]
        j = i + 1 if i + 1 < stop else start
        side = crossing(polygons.xy[i, 0], polygons.xy[i, 1], polygons.xy[j, 0], polygons.xy[j, 1], x, y)
        if side == 2:
            return BOUNDARY
        if side == 1:
            odd = not odd
    return INSIDE if odd else OUTSIDE


@kernel
def in_kind(polygons, bits, x, y):
    """True if a point lies strictly inside a polygon that has one of the `bits`."""
    for m in range(len(polygons.kind)):
        if polygons.kind[m] & bits and locate(polygons, m, x, y) == INSIDE:
            return True
    return False


@kernel
def polygons_near(polygons, low_x, low_y, high_x, high_y):
    """Indices of the polygons whose bounds meet a rectangle."""
    found = np.empty(len(polygons.kind), dtype=np.int64)
    n = 0
    bounds = polygons.bounds
    for m in range(len(polygons.kind)):
        if bounds[m, 0] <= high_x and bounds[m, 2] >= low_x and bounds[m, 1] <= high_y and bounds[m, 3] >= low_y:
            found[n] = m
            n += 1
    return found[:n]
