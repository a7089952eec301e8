"""Reads a nuScenes map expansion into map objects through nuscenes-devkit.

The format has no neighbours and no parents of lanes: a lane belongs to the road block that contains
its representative point, and its neighbours are the adjacent lanes of that block. Lane connectors
have no polygon: theirs is the centre line widened to 3.5 m. Road blocks whose polygon_token is null
(all of the published queenstown and hollandvillage) have no area and are the parent of no lane.
"""

from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import shapely

from storage.errors import SourceError
from storage.sources.contract import MapLayer, MapObject
from storage.sources.raw_files import is_regular, too_large

MAX_MAP_BYTES = 2**30  # the largest published town has 40 MB
CONNECTOR_WIDTH_M = 3.5
STEP_M = 1.0  # spacing of centre-line vertices
PLAIN_LAYERS = {
    "road_block": MapLayer.ROADBLOCK,
    "stop_line": MapLayer.STOP_LINE,
    "ped_crossing": MapLayer.CROSSWALK,
    "walkway": MapLayer.WALKWAY,
    "carpark_area": MapLayer.CARPARK_AREA,
}


def read_nuscenes_map(raw: Path, location: str) -> tuple[MapObject, ...]:
    """All map objects of one town, cached until the file changes.

    Raises SourceError if the file cannot be read.
    """
    file = raw / "maps" / "expansion" / f"{location}.json"
    if is_regular(file) and file.stat().st_size > MAX_MAP_BYTES:
        raise too_large(file, f"at most {MAX_MAP_BYTES} bytes", f"{file.stat().st_size} bytes")
    state = file.stat()
    return _read_cached(raw, location, state.st_mtime_ns, state.st_size)


@lru_cache(maxsize=4)
def _read_cached(raw: Path, location: str, _mtime_ns: int, _size: int) -> tuple[MapObject, ...]:
    import matplotlib.pyplot as plt

    # importing the devkit's map module changes the style of all later figures
    with plt.rc_context():
        from nuscenes.map_expansion.map_api import NuScenesMap

    class Expansion(NuScenesMap):  # type: ignore[misc]
        """A polygon_token that is null, "" or left out stands for an empty polygon."""

        def _load_layers(self) -> None:
            super()._load_layers()
            self.polygon.append({"token": None, "exterior_node_tokens": [], "holes": []})
            for name in (*PLAIN_LAYERS, "road_segment", "lane"):
                for record in getattr(self, name):
                    record["polygon_token"] = record.get("polygon_token") or None

    try:
        return tuple(_objects(Expansion(dataroot=str(raw), map_name=location)))
    # the devkit raises plain Exception for a map of an older version
    except Exception as error:
        raise SourceError(
            "the map expansion cannot be read",
            where=raw / "maps" / "expansion" / f"{location}.json",
            expected="version 1.3 of a published town's map",
            found=f"{type(error).__name__}: {error}",
            do="download the map expansion again",
        ) from error


def _objects(expansion: Any) -> Iterator[MapObject]:
    for name, layer in PLAIN_LAYERS.items():
        for record in getattr(expansion, name):
            yield MapObject(
                layer, record["token"], _ring(expansion.extract_polygon(record["polygon_token"]))
            )
    for record in expansion.road_segment:
        if record["is_intersection"]:
            polygon = expansion.extract_polygon(record["polygon_token"])
            yield MapObject(MapLayer.INTERSECTION, record["token"], _ring(polygon))
    yield from _with_neighbors(_lanes(expansion))
    for record in expansion.lane_connector:
        line = _baseline(expansion, record["token"])
        area = None
        if len(line) > 1:
            area = shapely.LineString(line[:, :2]).buffer(CONNECTOR_WIDTH_M / 2, cap_style="flat")
        yield MapObject(
            MapLayer.LANE_CONNECTOR,
            record["token"],
            _ring(area),
            line,
            predecessors=_edges(expansion, record["token"], "incoming"),
            successors=_edges(expansion, record["token"], "outgoing"),
        )


def _lanes(expansion: Any) -> list[MapObject]:
    blocks = [record["token"] for record in expansion.road_block]
    areas = shapely.STRtree(
        [expansion.extract_polygon(record["polygon_token"]) for record in expansion.road_block]
    )
    lanes = []
    for record in expansion.lane:
        polygon = expansion.extract_polygon(record["polygon_token"])
        inside = areas.query(polygon.representative_point(), predicate="within")
        lanes.append(
            MapObject(
                MapLayer.LANE,
                record["token"],
                _ring(polygon),
                _baseline(expansion, record["token"]),
                roadblock_id=blocks[inside[0]] if len(inside) else "",
                predecessors=_edges(expansion, record["token"], "incoming"),
                successors=_edges(expansion, record["token"], "outgoing"),
            )
        )
    return lanes


def _with_neighbors(lanes: list[MapObject]) -> Iterator[MapObject]:
    """The lanes with their left and right neighbours: the lanes of a road block, sorted sideways by
    the midpoints of their centre lines.
    """
    groups: dict[str, list[MapObject]] = {}
    for lane in lanes:
        groups.setdefault(lane.roadblock_id if len(lane.baseline_xyyaw) else "", []).append(lane)
    for block, group in groups.items():
        if not block:
            yield from group
            continue
        middle = np.array([lane.baseline_xyyaw[len(lane.baseline_xyyaw) // 2] for lane in group])
        yaw = middle[0, 2]
        # from left to right
        order = np.argsort(np.sin(yaw) * middle[:, 0] - np.cos(yaw) * middle[:, 1])
        tokens = ["", *(group[index].token for index in order), ""]
        for rank, index in enumerate(order):
            yield replace(group[index], left_neighbor=tokens[rank], right_neighbor=tokens[rank + 2])


def _baseline(expansion: Any, token: str) -> np.ndarray:
    """Centre line (n, 3) without the vertices that the devkit repeats between two arcs."""
    poses = np.array(expansion.discretize_lanes([token], STEP_M)[token], dtype=np.float64).reshape(
        -1, 3
    )
    if len(poses) < 2:
        return np.zeros((0, 3))
    return poses[np.append(True, np.hypot(*np.diff(poses[:, :2], axis=0).T) > 1e-3)]


def _edges(expansion: Any, token: str, direction: str) -> tuple[str, ...]:
    return tuple(expansion.connectivity.get(token, {}).get(direction, ()))


def _ring(polygon: Any) -> np.ndarray:
    return (
        np.zeros((0, 2))
        if polygon is None
        else shapely.get_coordinates(shapely.get_exterior_ring(polygon))[:-1]
    )
