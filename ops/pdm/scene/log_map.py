"""The map table of one log as a lane network, and the map polygons around the ego.

Source: docs/metrics.md, "Inputs of a scene"; devkit pdm_planner/observation/pdm_occupancy_map.py
`PDMDrivableMap.from_simulation`.
"""

from itertools import pairwise

import numpy as np
import pyarrow as pa
import shapely

from ops.pdm.rules.vehicle import REAR_AXLE_TO_CENTER_M
from ops.pdm.scene.lane_network import Block, Lane, Network
from storage.trajectory_table import MapLayer

# half side of the square around the ego from which map objects are taken
RADIUS_M = 100.0
_LANES = (MapLayer.LANE, MapLayer.LANE_CONNECTOR)
_BLOCKS = (MapLayer.ROADBLOCK, MapLayer.ROADBLOCK_CONNECTOR)
_PLAIN = (MapLayer.INTERSECTION, MapLayer.CARPARK_AREA)


class LogMap:
    """The map of one log."""

    def __init__(self, table: pa.Table) -> None:
        names = ["token", "roadblock_id", "predecessors", "successors", "speed_limit_mps"]
        rows = table.select(names).to_pylist()
        self._layer = table["layer"].to_numpy().astype(np.int8)
        self._token = np.asarray([row["token"] for row in rows], dtype=str)
        self._rings = [ring.reshape(-1, 2) for ring in _lists(table["polygon_xy"])]
        self._paths = [path.reshape(-1, 3) for path in _lists(table["baseline_xyyaw"])]
        self._limit = np.array([row["speed_limit_mps"] or 0.0 for row in rows])
        self._is_polygon = np.array([len(ring) >= 3 for ring in self._rings], dtype=bool)
        shapes = [
            shapely.Polygon(ring) if is_polygon else shapely.Polygon()
            for ring, is_polygon in zip(self._rings, self._is_polygon, strict=True)
        ]
        lanes: dict[str, Lane] = {}
        members: dict[str, list[str]] = {}
        self._block = np.asarray([row["roadblock_id"] for row in rows], dtype=str)
        for i, row in enumerate(rows):
            path = self._paths[i]
            if self._layer[i] in _LANES and self._is_polygon[i] and len(path) > 1:
                length = float(np.hypot(*np.diff(path[:, :2], axis=0).T).sum())
                lanes[row["token"]] = Lane(
                    row["token"],
                    row["roadblock_id"],
                    shapes[i],
                    path,
                    length,
                    row["speed_limit_mps"],
                    tuple(row["successors"]),
                )
                members.setdefault(row["roadblock_id"], []).append(row["token"])
        blocks = {
            row["token"]: Block(
                row["token"],
                MapLayer(self._layer[i]),
                shapes[i],
                tuple(members.get(row["token"], ())),
                tuple(row["predecessors"]),
                tuple(row["successors"]),
            )
            for i, row in enumerate(rows)
            if self._layer[i] in _BLOCKS
        }
        self.network = Network(lanes, blocks)
        self._tree = shapely.STRtree(shapes)

    def around(self, ego: np.ndarray) -> dict[str, np.ndarray]:
        """The fields map_* and path_* of a scene.

        Roadblocks, intersections and car parks that intersect the square of 200 m around the ego's
        centre; all lanes of those roadblocks; all connectors of the roadblock connectors there. The
        polygons of the roadblock connectors themselves are left out.
        """
        x = ego[0] + REAR_AXLE_TO_CENTER_M * np.cos(ego[2])
        y = ego[1] + REAR_AXLE_TO_CENTER_M * np.sin(ego[2])
        square = shapely.box(x - RADIUS_M, y - RADIUS_M, x + RADIUS_M, y + RADIUS_M)
        near = np.zeros(len(self._layer), dtype=bool)
        near[self._tree.query(square, predicate="intersects")] = True
        blocks = near & np.isin(self._layer, _BLOCKS)
        inside = np.isin(self._layer, _LANES) & np.isin(self._block, self._token[blocks])
        chosen = np.flatnonzero(
            self._is_polygon & (inside | near & np.isin(self._layer, (MapLayer.ROADBLOCK, *_PLAIN)))
        )
        xy, start = _joined([self._rings[i] for i in chosen], 2)
        paths, path_start = _joined([self._paths[i] for i in chosen], 3)
        return {
            "map_xy": xy,
            "map_start": start,
            "map_layer": self._layer[chosen],
            "map_token": self._token[chosen],
            "path_xyyaw": paths,
            "path_start": path_start,
            "path_limit_mps": self._limit[chosen],
        }


def _joined(parts: list[np.ndarray], width: int) -> tuple[np.ndarray, np.ndarray]:
    """Arrays (n_i, width) as one, and the first row of each."""
    start = np.concatenate([[0], np.cumsum([len(part) for part in parts])]).astype(np.int64)
    return np.concatenate([np.zeros((0, width)), *parts]), start


def _lists(column: pa.ChunkedArray) -> list[np.ndarray]:
    """A column of lists of numbers as arrays."""
    flat = column.combine_chunks()
    offsets = flat.offsets.to_numpy()
    values = flat.values.to_numpy()
    return [values[a:b] for a, b in pairwise(offsets)]
