"""The layers of a nuPlan map of a town: geometry types, columns and rows.

Layers and columns are those of nuPlan's published maps; identifiers are the town's. In nuPlan's
terms a connector leads from its `exit_lane` to its `entry_lane`, and the lanes of a group are
counted from the left.
"""

from typing import Any

import numpy as np
from shapely.geometry import LineString, Polygon

from ops.synthesize.film.ground import PAVEMENT_M
from ops.synthesize.town import curves
from ops.synthesize.town.town import Arm, Junction, Lane, Town, Turn

ORIGIN_M = np.array([331_000.0, 4_690_500.0])  # UTM position of the town's origin
_BOUNDARY = 100_000  # boundary ids: lane id * 2 and + 1 above this
_TURN_TYPE = {Turn.STRAIGHT: 0, Turn.LEFT: 1, Turn.RIGHT: 2}
_TRAFFIC_LIGHT_STOP, _YIELD_STOP = 2, 4  # nuPlan's StopLineType

# geometry type, column declarations, rows
Layer = tuple[str, list[str], list[dict[str, Any]]]


def nuplan_layers(town: Town) -> dict[str, Layer]:
    """All layers of the map, geometry in UTM metres."""
    lanes = [lane for lane in town.lanes.values() if not lane.is_connector]
    connectors = [lane for lane in town.lanes.values() if lane.is_connector]
    return {
        "lanes_polygons": _lanes(lanes),
        "lane_groups_polygons": _lane_groups(town),
        "lane_connectors": _lane_connectors(town, connectors),
        "gen_lane_connectors_scaled_width_polygons": _connector_polygons(connectors),
        "lane_group_connectors": _lane_group_connectors(town),
        "intersections": _intersections(town),
        "stop_polygons": _stop_polygons(town),
        "crosswalks": _crosswalks(town),
        "walkways": _walkways(town),
        "carpark_areas": _carparks(town),
        "baseline_paths": _baseline_paths([*lanes, *connectors]),
        "boundaries": _boundaries([*lanes, *connectors]),
    }


def _lanes(lanes: list[Lane]) -> Layer:
    return (
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
    )


def _lane_groups(town: Town) -> Layer:
    return (
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
            for block in town.roadblocks.values()
            if not block.is_connector
        ],
    )


def _lane_connectors(town: Town, connectors: list[Lane]) -> Layer:
    def stop_lines(lane: Lane) -> str:
        junction = town.junctions[lane.junction_id]
        return str(_stop_of(town, lane)) if junction.signalled else ""

    return (
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
                "traffic_light_stop_line_fids": stop_lines(lane),
                "overlap": 0,
                "speed_limit_mps": lane.speed_mps,
            }
            for lane in connectors
        ],
    )


def _connector_polygons(connectors: list[Lane]) -> Layer:
    return (
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
    )


def _lane_group_connectors(town: Town) -> Layer:
    return (
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
    )


def _intersections(town: Town) -> Layer:
    return (
        "POLYGON",
        _columns("intersection_type_fid INTEGER", "is_mini BOOLEAN"),
        [
            {
                "fid": junction.junction_id,
                "geom": _area(junction.ring),
                "intersection_type_fid": 2 if junction.signalled else 0,
                "is_mini": False,
            }
            for junction in town.junctions.values()
        ],
    )


def _stop_polygons(town: Town) -> Layer:
    return (
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
                "stop_polygon_type_fid": _TRAFFIC_LIGHT_STOP if junction.signalled else _YIELD_STOP,
                **_controlled_lanes(town, arm.stop_id),
            }
            for junction, arm in _arms(town)
            if junction.signalled or arm.axis == 1
        ],
    )


def _crosswalks(town: Town) -> Layer:
    return (
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
            for junction, arm in _arms(town)
            if arm.crosswalk is not None
        ],
    )


def _walkways(town: Town) -> Layer:
    rings = [
        ring for street in town.streets for ring in _pavements(street.middle, street.half_width_m)
    ]
    return (
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
            for number, ring in enumerate(rings)
        ],
    )


def _carparks(town: Town) -> Layer:
    rings = [ring for street in town.streets for ring in street.bay_rings]
    return (
        "POLYGON",
        _columns("heading REAL"),
        [
            {"fid": 90000 + number, "geom": _area(ring), "heading": 0.0}
            for number, ring in enumerate(rings)
        ],
    )


def _baseline_paths(lanes: list[Lane]) -> Layer:
    return (
        "LINESTRING",
        _columns("path_type_fid INTEGER", "lane_fid INTEGER", "lane_connector_fid INTEGER"),
        [
            {
                "fid": lane.lane_id,
                "geom": _line(lane.path),
                "path_type_fid": int(lane.is_connector),
                "lane_connector_fid" if lane.is_connector else "lane_fid": lane.lane_id,
            }
            for lane in lanes
        ],
    )


def _boundaries(lanes: list[Lane]) -> Layer:
    return (
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
            for lane in lanes
            for fid, border in zip(_borders(lane), (lane.left, lane.right), strict=True)
        ],
    )


def _arms(town: Town) -> list[tuple[Junction, Arm]]:
    return [(junction, arm) for junction in town.junctions.values() for arm in junction.arms]


def _controlled_lanes(town: Town, stop_id: int) -> dict[str, Any]:
    """Lane group, lanes and connectors that a stop polygon controls."""
    lanes = [
        lane
        for lane in town.lanes.values()
        if not lane.is_connector and _stop_of(town, lane) == stop_id
    ]
    connectors = [item for lane in lanes for item in lane.successors]
    return {
        "lane_group_fid": lanes[0].roadblock_id,
        "lane_fids": ",".join(str(lane.lane_id) for lane in lanes),
        "lane_connector_fids": ",".join(str(item) for item in connectors),
    }


def _stop_of(town: Town, lane: Lane) -> int:
    """Id of the stop polygon where a lane ends or a connector begins."""
    return 70000 + 4 * (lane.junction_id - 50000) + lane.arm


def _pavements(middle: np.ndarray, half_width_m: float) -> list[np.ndarray]:
    """Rings (n, 2) of the pavements on both sides of a street."""
    return [
        curves.band(
            curves.offset(middle, side * half_width_m),
            curves.offset(middle, side * (half_width_m + PAVEMENT_M)),
        )
        for side in (1, -1)
    ]


def _borders(lane: Lane) -> tuple[int, int]:
    """Ids of the left and right boundary."""
    return _BOUNDARY + 2 * lane.lane_id, _BOUNDARY + 2 * lane.lane_id + 1


def _columns(*declared: str) -> list[str]:
    """`name TYPE` -> `"name" TYPE`, with nuPlan's creator_id first."""
    pairs = ["creator_id TEXT(256)", *declared]
    return [f'"{pair.split()[0]}" {" ".join(pair.split()[1:])}' for pair in pairs]


def _line(path: np.ndarray) -> LineString:
    return LineString(path[:, :2] + ORIGIN_M)


def _area(ring: np.ndarray) -> Polygon:
    return Polygon(ring[:, :2] + ORIGIN_M)
