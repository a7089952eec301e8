"""An index of map polygons with which a point is tested against a few edges only.

Each polygon is cut into horizontal slabs and each slab lists the edges that reach into it. A ray
towards +x from a point can only meet edges of the point's slab, so the result is that of the whole
ring.
"""

from typing import NamedTuple

import numpy as np

from ops.pdm.rules.engine import inner, kernel
from ops.pdm.rules.geometry import crossing

LANE, DRIVABLE, ON_ROUTE, INTERSECTION = 1, 2, 4, 8  # bits of `kind`
_EDGES_A_SLAB = 2  # the number of slabs is such that about this many edges start in each


class Polygons(NamedTuple):
    """M polygons with S slabs in all; arrays only, so that compiled code can take it as one
    argument.
    """

    bounds: np.ndarray  # (M, 4) lowest x, lowest y, highest x, highest y
    kind: np.ndarray  # (M,) uint8 bits LANE | DRIVABLE | ON_ROUTE | INTERSECTION
    slab_start: np.ndarray  # (M + 1,) first slab of each polygon
    slabs_per_m: np.ndarray  # (M,) slabs in a metre of y
    edge_start: np.ndarray  # (S + 1,) first row of each slab in `edges`
    edges: np.ndarray  # (E, 4) x, y of both ends of an edge


def index_polygons(xy: np.ndarray, start: np.ndarray, kind: np.ndarray) -> Polygons:
    """Index M open rings: `xy` (P, 2), `start` (M + 1,), `kind` (M,) uint8 bits."""
    xy = np.ascontiguousarray(xy, dtype=np.float64).reshape(-1, 2)
    start = np.ascontiguousarray(start, dtype=np.int64)
    sizes = np.diff(start)
    low, high = (np.zeros((len(sizes), 2)) for _ in range(2))
    if len(sizes):
        low, high = (bound.reduceat(xy, start[:-1], axis=0) for bound in (np.minimum, np.maximum))
    slabs = np.maximum(1, sizes // _EDGES_A_SLAB)
    slab_start = np.concatenate([[0], np.cumsum(slabs)])
    height = high[:, 1] - low[:, 1]
    slabs_per_m = np.divide(slabs, height, out=np.zeros(len(sizes)), where=height > 0)
    bounds = np.concatenate([low, high], axis=1)
    following = np.arange(len(xy)) + 1
    following[start[1:] - 1] = start[:-1]
    edges = np.concatenate([xy, xy[following]], axis=1)
    edge_start, order = _fill_slabs(edges, start, bounds, slab_start, slabs_per_m)
    kind = np.ascontiguousarray(kind, dtype=np.uint8)
    return Polygons(bounds, kind, slab_start, slabs_per_m, edge_start, edges[order])


@inner
def _slab(y, low_y, slabs_per_m, count):
    return max(0, min(count - 1, int((y - low_y) * slabs_per_m)))


@kernel
def _fill_slabs(edges, start, bounds, slab_start, slabs_per_m):
    """First entry of each slab, and the edges that reach into the slabs, as rows of `edges`
    (P, 4).
    """
    first = np.zeros(slab_start[-1] + 1, dtype=np.int64)
    place = np.zeros(slab_start[-1] + 1, dtype=np.int64)
    order = np.empty(0, dtype=np.int64)
    for fill in range(2):  # first count, then fill
        if fill:
            for s in range(1, len(first)):
                first[s] += first[s - 1]
                place[s] = first[s]
            order = np.empty(first[-1], dtype=np.int64)
        for m in range(len(start) - 1):
            slabs = slab_start[m + 1] - slab_start[m]
            for i in range(start[m], start[m + 1]):
                low, high = min(edges[i, 1], edges[i, 3]), max(edges[i, 1], edges[i, 3])
                a = slab_start[m] + _slab(low, bounds[m, 1], slabs_per_m[m], slabs)
                b = slab_start[m] + _slab(high, bounds[m, 1], slabs_per_m[m], slabs)
                for s in range(a, b + 1):
                    if fill:
                        order[place[s]] = i
                        place[s] += 1
                    else:
                        first[s + 1] += 1
    return first, order


@inner
def inside(x, y, first_slab, slabs, low_y, slabs_per_m, edge_start, edges):
    """True if a point within a polygon's bounds lies strictly inside it."""
    slab = first_slab + _slab(y, low_y, slabs_per_m, slabs)
    odd = False
    for e in range(edge_start[slab], edge_start[slab + 1]):
        kind = crossing(edges[e, 0], edges[e, 1], edges[e, 2], edges[e, 3], x, y)
        if kind == 2:
            return False
        odd = odd != (kind == 1)
    return odd
