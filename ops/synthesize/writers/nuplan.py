"""Writes a town as a nuPlan map: `nuplan-maps-v1.0.json` and `<location>/<version>/map.gpkg`. Not
the file format itself.

Layers and columns are those of nuPlan's published maps; identifiers are the town's own. In nuPlan's
words a connector has an `exit_lane` from which it comes and an `entry_lane` into which it leads,
and lanes of a group are counted from the left.
"""

import hashlib
import json
import os
import pickle
import shutil
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from shapely.geometry import LineString, Polygon

from ops.synthesize.film.ground import PAVEMENT_M
from ops.synthesize.town import curves
from ops.synthesize.town.town import Lane, Town, TownConfig, Turn, build_town
from ops.synthesize.writers.geopackage import write_geopackage

# the official readers admit only the names of the four real maps
LOCATION = "us-ma-boston"
UTM_ZONE = 19
ORIGIN_M = np.array([331_000.0, 4_690_500.0])  # where the town's own zero lies, UTM
_BOUNDARY = 100_000  # boundary ids: lane id * 2 and + 1 above this
_TURN_TYPE = {Turn.STRAIGHT: 0, Turn.LEFT: 1, Turn.RIGHT: 2}
_TRAFFIC_LIGHT_STOP, _YIELD_STOP = 2, 4  # nuPlan's StopLineType

Layer = tuple[str, list[str], list[dict[str, Any]]]


def write_map(raw: Path, town: Town) -> None:
    """Write the map of a town below `raw/maps`, once: its version names its content, and two
    writers cannot meet.

    The map of another town, or of another state of this code, is replaced.
    """
    version, index_file = map_version(town.config), raw / "maps" / "nuplan-maps-v1.0.json"
    index = json.dumps({LOCATION: {"version": version, "layers": {}}}, indent=1)
    folder = raw / "maps" / LOCATION / version
    if (folder / "map.gpkg").exists() and index_file.exists() and index_file.read_text() == index:
        return
    aside = raw / "maps" / f".part-{os.getpid()}"
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    write_geopackage(
        aside / "map.gpkg",
        nuplan_layers(town),
        {
            "meta": [
                {"key": "projectedCoordSystem", "value": f"epsg:326{UTM_ZONE}"},
                {"key": "geographicCoordSystem", "value": "epsg:4326"},
            ]
        },
        UTM_ZONE,
    )
    (aside / "index.json").write_text(index)
    folder.mkdir(parents=True, exist_ok=True)
    os.replace(aside / "map.gpkg", folder / "map.gpkg")
    os.replace(aside / "index.json", index_file)
    shutil.rmtree(aside)


@lru_cache(maxsize=2)
def map_version(config: TownConfig) -> str:
    """Twelve hex digits over all that the map of this town holds."""
    town = build_town(config)
    return hashlib.sha256(pickle.dumps((town.lanes, town.roadblocks, town.junctions))).hexdigest()[
        :12
    ]


def nuplan_layers(town: Town) -> dict[str, Layer]:
    """All layers of the map, geometry in UTM metres."""
    lanes = [lane for lane in town.lanes.values() if not lane.is_connector]
    connectors = [lane for lane in town.lanes.values() if lane.is_connector]
    return (
        _lane_layers(town, lanes)
        | _connector_layers(town, connectors)
        | _area_layers(town)
        | {
            "baseline_paths": (
                "LINESTRING",
                _columns("path_type_fid INTEGER", "lane_fid INTEGER", "lane_connector_fid INTEGER"),
                [
                    {
                        "fid": lane.lane_id,
                        "geom": _line(lane.path),
                        "path_type_fid": int(lane.is_connector),
                        "lane_connector_fid" if lane.is_connector else "lane_fid": lane.lane_id,
                    }
                    for lane in (*lanes, *connectors)
                ],
            ),
            "boundaries": (
                "LINESTRING",
                _columns(
                    "boundary_segment_fids TEXT",
                    "has_reflectors BOOLEAN",
                    "boundary_type_fid INTEGER",
                ),
                [
                    {
                        "fid": fid,
                        "geom": _line(border),
                        "boundary_segment_fids": str(fid),
                        "has_reflectors": False,
                        "boundary_type_fid": 2 if lane.is_connector else 0,
                    }
                    for lane in (*lanes, *connectors)
                    for fid, border in zip(_borders(lane), (lane.left, lane.right), strict=True)
                ],
            ),
        }
    )


def _lane_layers(town: Town, lanes: list[Lane]) -> dict[str, Layer]:
    groups = [block for block in town.roadblocks.values() if not block.is_connector]
    return {
        "lanes_polygons": (
            "POLYGON",
            _columns(
                "lane_group_fid INTEGER",
                "lane_fid INTEGER",
                "lane_index MEDIUMINT",
                "road_type_fid INTEGER",
                "lane_type_fid INTEGER",
                "left_boundary_fid INTEGER",
                "right_boundary_fid INTEGER",
                "speed_limit_mps REAL",
                "from_edge_fid INTEGER",
                "to_edge_fid INTEGER",
            ),
            [
                {
                    "fid": lane.lane_id,
                    "geom": _area(lane.ring),
                    "lane_group_fid": lane.roadblock_id,
                    "lane_fid": lane.lane_id,
                    "lane_index": lane.index,
                    "road_type_fid": 0,
                    "lane_type_fid": 0,
                    "left_boundary_fid": _borders(lane)[0],
                    "right_boundary_fid": _borders(lane)[1],
                    "speed_limit_mps": lane.speed_mps,
                }
                for lane in lanes
            ],
        ),
        "lane_groups_polygons": (
            "POLYGON",
            _columns(
                "left_boundary_fid INTEGER",
                "right_boundary_fid INTEGER",
                "from_edge_fid INTEGER",
                "to_edge_fid INTEGER",
            ),
            [
                {
                    "fid": block.roadblock_id,
                    "geom": _area(block.ring),
                    "left_boundary_fid": _borders(town.lanes[block.lane_ids[0]])[0],
                    "right_boundary_fid": _borders(town.lanes[block.lane_ids[-1]])[1],
                }
                for block in groups
            ],
        ),
    }


def _connector_layers(town: Town, connectors: list[Lane]) -> dict[str, Layer]:
    def stops(lane: Lane) -> str:
        junction = town.junctions[lane.junction_id]
        return str(_stop_of(town, lane)) if junction.signalled else ""

    return {
        "lane_connectors": (
            "LINESTRING",
            _columns(
                "exit_lane_group_fid INTEGER",
                "exit_lane_fid INTEGER",
                "entry_lane_group_fid INTEGER",
                "lane_group_connector_fid INTEGER",
                "entry_lane_fid INTEGER",
                "intersection_fid INTEGER",
                "turn_type_fid INTEGER",
                "traffic_light_stop_line_fids TEXT",
                "overlap MEDIUMINT",
                "speed_limit_mps REAL",
            ),
            [
                {
                    "fid": lane.lane_id,
                    "geom": _line(lane.path),
                    "exit_lane_fid": lane.predecessors[0],
                    "exit_lane_group_fid": town.lanes[lane.predecessors[0]].roadblock_id,
                    "entry_lane_fid": lane.successors[0],
                    "entry_lane_group_fid": town.lanes[lane.successors[0]].roadblock_id,
                    "lane_group_connector_fid": lane.roadblock_id,
                    "intersection_fid": lane.junction_id,
                    "turn_type_fid": _TURN_TYPE[lane.turn],
                    "traffic_light_stop_line_fids": stops(lane),
                    "overlap": 0,
                    "speed_limit_mps": lane.speed_mps,
                }
                for lane in connectors
            ],
        ),
        "gen_lane_connectors_scaled_width_polygons": (
            "POLYGON",
            _columns(
                "lane_connector_fid INTEGER",
                "left_boundary_fid INTEGER",
                "right_boundary_fid INTEGER",
            ),
            [
                {
                    "fid": lane.lane_id,
                    "geom": _area(lane.ring),
                    "lane_connector_fid": lane.lane_id,
                    "left_boundary_fid": _borders(lane)[0],
                    "right_boundary_fid": _borders(lane)[1],
                }
                for lane in connectors
            ],
        ),
        "lane_group_connectors": (
            "POLYGON",
            _columns(
                "intersection_fid INTEGER",
                "from_lane_group_fid INTEGER",
                "to_lane_group_fid INTEGER",
            ),
            [
                {
                    "fid": block.roadblock_id,
                    "geom": _area(block.ring),
                    "intersection_fid": block.junction_id,
                    "from_lane_group_fid": block.from_id,
                    "to_lane_group_fid": block.to_id,
                }
                for block in town.roadblocks.values()
                if block.is_connector
            ],
        ),
    }


def _area_layers(town: Town) -> dict[str, Layer]:
    junctions = list(town.junctions.values())
    arms = [(junction, arm) for junction in junctions for arm in junction.arms]
    walks = [
        side for street in town.streets for side in _pavements(street.middle, street.half_width_m)
    ]
    bays = [ring for street in town.streets for ring in street.bay_rings]
    return {
        "intersections": (
            "POLYGON",
            _columns("intersection_type_fid INTEGER", "is_mini BOOLEAN"),
            [
                {
                    "fid": junction.junction_id,
                    "geom": _area(junction.ring),
                    "intersection_type_fid": 2 if junction.signalled else 0,
                    "is_mini": False,
                }
                for junction in junctions
            ],
        ),
        "stop_polygons": (
            "POLYGON",
            _columns(
                "stop_polygon_type_fid INTEGER",
                "lane_group_fid INTEGER",
                "lane_fids TEXT",
                "lane_connector_fids TEXT",
            ),
            [
                {
                    "fid": arm.stop_id,
                    "geom": _area(arm.stop_ring),
                    "stop_polygon_type_fid": _TRAFFIC_LIGHT_STOP
                    if junction.signalled
                    else _YIELD_STOP,
                    **_served(town, arm.stop_id),
                }
                for junction, arm in arms
                if junction.signalled or arm.axis == 1
            ],
        ),
        "crosswalks": (
            "POLYGON",
            _columns("intersection_fids TEXT", "lane_fids TEXT", "is_marked BOOLEAN"),
            [
                {
                    "fid": arm.crosswalk_id,
                    "geom": _area(arm.crosswalk),
                    "intersection_fids": str(junction.junction_id),
                    "lane_fids": "",
                    "is_marked": True,
                }
                for junction, arm in arms
                if arm.crosswalk is not None
            ],
        ),
        "walkways": (
            "POLYGON",
            _columns("pavement_type_fid INTEGER", "intersection_fids TEXT", "lane_fids TEXT"),
            [
                {
                    "fid": 80000 + number,
                    "geom": _area(ring),
                    "pavement_type_fid": 0,
                    "intersection_fids": "",
                    "lane_fids": "",
                }
                for number, ring in enumerate(walks)
            ],
        ),
        "carpark_areas": (
            "POLYGON",
            _columns("heading REAL"),
            [
                {"fid": 90000 + number, "geom": _area(ring), "heading": 0.0}
                for number, ring in enumerate(bays)
            ],
        ),
    }


def _served(town: Town, stop_id: int) -> dict[str, Any]:
    """Lane group, lanes and connectors that a stop polygon holds back."""
    lanes = [
        lane
        for lane in town.lanes.values()
        if not lane.is_connector and _stop_of(town, lane) == stop_id
    ]
    onward = [item for lane in lanes for item in lane.successors]
    return {
        "lane_group_fid": lanes[0].roadblock_id,
        "lane_fids": ",".join(str(lane.lane_id) for lane in lanes),
        "lane_connector_fids": ",".join(str(item) for item in onward),
    }


def _stop_of(town: Town, lane: Lane) -> int:
    """Stop polygon at the line where a lane ends, or a connector begins."""
    return 70000 + 4 * (lane.junction_id - 50000) + lane.arm


def _pavements(middle: np.ndarray, half_width_m: float) -> list[np.ndarray]:
    return [
        curves.band(
            curves.offset(middle, side * half_width_m),
            curves.offset(middle, side * (half_width_m + PAVEMENT_M)),
        )
        for side in (1, -1)
    ]


def _borders(lane: Lane) -> tuple[int, int]:
    return _BOUNDARY + 2 * lane.lane_id, _BOUNDARY + 2 * lane.lane_id + 1


def _columns(*declared: str) -> list[str]:
    """`name TYPE` -> `"name" TYPE`, with nuPlan's creator_id first."""
    pairs = ["creator_id TEXT(256)", *declared]
    return [f'"{pair.split()[0]}" {" ".join(pair.split()[1:])}' for pair in pairs]


def _line(path: np.ndarray) -> LineString:
    return LineString(path[:, :2] + ORIGIN_M)


def _area(ring: np.ndarray) -> Polygon:
    return Polygon(ring[:, :2] + ORIGIN_M)
