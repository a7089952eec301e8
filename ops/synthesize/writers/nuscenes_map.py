"""A town as nuScenes' map expansion (version 1.3) and basemap mask.

Layers and fields are those of nuScenes' published maps; the coordinates are the town's.
"""

from typing import Any

import cv2
import numpy as np
import shapely
from shapely.geometry import LineString, Polygon

from ops.synthesize.film.ground import PAVEMENT_M, Palette
from ops.synthesize.film.props import Instances, place_props
from ops.synthesize.town import curves
from ops.synthesize.town.town import BAY_WIDTH_M, MEDIAN_OPEN_M, Arm, Junction, Lane, Street, Town
from ops.synthesize.writers.nuscenes_shapes import Record, Shapes, arclines, rounded

# the devkit accepts only the names of the four published maps; in this one traffic keeps right
LOCATION = "boston-seaport"
MASK_M = 0.1  # metres per pixel of the basemap, as the devkit expects
BETWEEN_LANES = "DOUBLE_DASHED_WHITE"  # the only dashed marking in the published maps
# colour, metres above the centre of the traffic light
LAMPS = (("RED", 0.6), ("YELLOW", 0.0), ("GREEN", -0.6))


def map_expansion(town: Town, palette: Palette) -> dict[str, Any]:
    """The content of `maps/expansion/<LOCATION>.json`; the palette identifies the town's props."""
    shapes = Shapes()
    roads = _drivable(town)
    lanes = [lane for lane in town.lanes.values() if not lane.is_connector]
    connectors = [lane for lane in town.lanes.values() if lane.is_connector]
    lights = _traffic_lights(shapes, town, place_props(town.config, palette))
    return {
        "version": "1.3",
        "canvas_edge": list(town.size_m),
        "drivable_area": [
            {
                "token": "drivable",
                "polygon_tokens": [
                    shapes.area(f"drivable-{number}", part)
                    for number, part in enumerate(shapely.get_parts(roads))
                ],
            }
        ],
        "road_segment": _road_segments(shapes, town),
        "road_block": _road_blocks(shapes, town),
        "lane": [_lane(shapes, town, lane) for lane in lanes],
        "lane_connector": [
            {"token": _name(lane), "polygon_token": shapes.area(_name(lane), Polygon(lane.ring))}
            for lane in connectors
        ],
        "ped_crossing": _crossings(shapes, town),
        "walkway": [
            {"token": f"walkway-{number}", "polygon_token": shapes.area(f"walkway-{number}", part)}
            for number, part in enumerate(_walkways(town, roads))
        ],
        "stop_line": _stop_lines(shapes, town, lights),
        "carpark_area": _carparks(shapes, town),
        "road_divider": [
            {
                "token": f"middle-{number}",
                "road_segment_token": f"street-{number}",
                "line_token": shapes.line(f"middle-{number}", street.middle)[0],
            }
            for number, street in enumerate(town.streets)
        ],
        "lane_divider": [_lane_divider(shapes, lane) for lane in lanes if lane.index > 1],
        "traffic_light": lights,
        "line": shapes.lines,
        "node": shapes.nodes,
        "polygon": shapes.polygons,
        "arcline_path_3": {_name(lane): arclines(lane.path) for lane in town.lanes.values()},
        "connectivity": {
            _name(lane): {
                "incoming": [_name(town.lanes[other]) for other in lane.predecessors],
                "outgoing": [_name(town.lanes[other]) for other in lane.successors],
            }
            for lane in town.lanes.values()
        },
    }


def basemap_mask(town: Town) -> np.ndarray:
    """(H, W) uint8, first row in the north: 255 on drivable surface and pavement, else 0."""
    width, height = (round(side / MASK_M) for side in town.size_m)
    mask = np.zeros((height, width), np.uint8)
    for area in shapely.get_parts(_built(town)):
        rings = [np.asarray(ring.coords) for ring in (area.exterior, *area.interiors)]
        cv2.fillPoly(
            mask,
            [np.round(16 * (ring / MASK_M - [0.0, 1.0])).astype(np.int32) for ring in rings],
            (255,),
            shift=4,
        )
    return np.ascontiguousarray(mask[::-1])


def _road_segments(shapes: Shapes, town: Town) -> list[Record]:
    areas = [
        (f"street-{number}", Polygon(curves.band(*street.edges)), False)
        for number, street in enumerate(town.streets)
    ]
    areas += [
        (f"junction-{key}", Polygon(junction.ring), len(junction.arms) > 2)
        for key, junction in town.junctions.items()
    ]
    return [
        {
            "token": name,
            "polygon_token": shapes.area(name, polygon),
            "is_intersection": crossing,
            "drivable_area_token": "drivable",
        }
        for name, polygon, crossing in areas
    ]


def _road_blocks(shapes: Shapes, town: Town) -> list[Record]:
    blocks = [block for block in town.roadblocks.values() if not block.is_connector]
    out = []
    for number, block in enumerate(blocks):  # two for each street, in the streets' order
        first, last = town.lanes[block.lane_ids[0]], town.lanes[block.lane_ids[-1]]
        name = f"block-{block.roadblock_id}"
        out.append(
            {
                "token": name,
                "polygon_token": shapes.area(name, Polygon(block.ring)),
                "road_segment_token": f"street-{number // 2}",
                **_ends(shapes, name, first.left, last.right),
            }
        )
    return out


def _lane(shapes: Shapes, town: Town, lane: Lane) -> Record:
    group = town.roadblocks[lane.roadblock_id].lane_ids
    name = _name(lane)

    def segments(side: str, border: np.ndarray, is_marked: bool) -> list[Record]:
        nodes = shapes.line(f"{name}-{side}", border)[1] if is_marked else []
        return [{"node_token": node, "segment_type": BETWEEN_LANES} for node in nodes]

    return {
        "token": name,
        "polygon_token": shapes.area(name, Polygon(lane.ring)),
        "lane_type": "CAR",
        **_ends(shapes, name, lane.left, lane.right),
        "left_lane_divider_segments": segments("left", lane.left, lane.index > 1),
        "right_lane_divider_segments": segments("right", lane.right, lane.index < len(group)),
    }


def _lane_divider(shapes: Shapes, lane: Lane) -> Record:
    line, nodes = shapes.line(f"divider-{lane.lane_id}", lane.left)
    return {
        "token": f"divider-{lane.lane_id}",
        "line_token": line,
        "lane_divider_segments": [
            {"node_token": node, "segment_type": BETWEEN_LANES} for node in nodes
        ],
    }


def _ends(shapes: Shapes, name: str, left: np.ndarray, right: np.ndarray) -> Record:
    return {
        f"{end}_edge_line_token": shapes.line(f"{name}-{end}", np.stack([left[row], right[row]]))[0]
        for end, row in (("from", 0), ("to", -1))
    }


def _crossings(shapes: Shapes, town: Town) -> list[Record]:
    return [
        {
            "token": f"crossing-{arm.crosswalk_id}",
            "road_segment_token": f"junction-{junction.junction_id}",
            "polygon_token": shapes.area(f"crossing-{arm.crosswalk_id}", Polygon(arm.crosswalk)),
        }
        for junction, arm in _arms(town)
        if arm.crosswalk is not None
    ]


def _carparks(shapes: Shapes, town: Town) -> list[Record]:
    return [
        {
            "token": f"bay-{street_index}-{number}",
            "orientation": 0.0,
            "road_block_token": "",
            "polygon_token": shapes.area(f"bay-{street_index}-{number}", Polygon(ring)),
        }
        for street_index, street in enumerate(town.streets)
        for number, ring in enumerate(street.bay_rings)
    ]


def _stop_lines(shapes: Shapes, town: Town, lights: list[Record]) -> list[Record]:
    out = []
    for junction, arm in _arms(town):
        if not junction.signalled and (arm.axis == 0 or len(junction.arms) == 2):
            continue  # vehicles neither stop nor yield here
        name, block = f"stop-{arm.stop_id}", _block_before(town, arm)
        out.append(
            {
                "token": name,
                "polygon_token": shapes.area(name, Polygon(arm.stop_ring)),
                "stop_line_type": "TRAFFIC_LIGHT" if junction.signalled else "YIELD",
                "ped_crossing_tokens": [],
                "traffic_light_tokens": [
                    light["token"] for light in lights if light["from_road_block_token"] == block
                ],
                "road_block_token": block,
            }
        )
    return out


def _traffic_lights(shapes: Shapes, town: Town, props: Instances) -> list[Record]:
    """One record per traffic light: its line leads from the light towards arriving vehicles."""
    signals, out = props.take(props.model == "signal"), []
    for number, (xyz, yaw, size, (junction, _)) in enumerate(
        zip(signals.position, signals.yaw_rad, signals.size_m, signals.light, strict=True)
    ):
        arm = min(
            town.junctions[int(junction)].arms,
            key=lambda arm: abs(float(curves.wrap(arm.mouth[2] + np.pi - yaw))),
        )
        facing = xyz[:2] - curves.heading_vector(yaw)
        x, y, z = rounded(*xyz[:2], xyz[2] + size[2] / 2)
        out.append(
            {
                "token": f"light-{number}",
                "line_token": shapes.line(f"light-{number}", np.stack([xyz[:2], facing]))[0],
                "traffic_light_type": "VERTICAL",
                "from_road_block_token": _block_before(town, arm),
                "pose": {
                    "tx": x,
                    "ty": y,
                    "tz": z,
                    "rx": 0.0,
                    "ry": 0.0,
                    "rz": round(float(curves.wrap(yaw + np.pi)), 6),
                },
                "items": [
                    {
                        "color": colour,
                        "shape": "CIRCLE",
                        "to_road_block_tokens": [],
                        "rel_pos": {
                            "tx": 0.0,
                            "ty": 0.0,
                            "tz": above,
                            "rx": 0.0,
                            "ry": 0.0,
                            "rz": 0.0,
                        },
                    }
                    for colour, above in LAMPS
                ],
            }
        )
    return out


def _arms(town: Town) -> list[tuple[Junction, Arm]]:
    return [(junction, arm) for junction in town.junctions.values() for arm in junction.arms]


def _block_before(town: Town, arm: Arm) -> str:
    """Token of the road block whose lanes end at the stop line of an arm."""
    junction, way = divmod(arm.stop_id - 70000, 4)
    return next(
        f"block-{lane.roadblock_id}"
        for lane in town.lanes.values()
        if not lane.is_connector and (lane.junction_id, lane.arm) == (50000 + junction, way)
    )


def _road_polygons(town: Town) -> list[Polygon]:
    """Streets, parking bays and junctions."""
    rings = [curves.band(*street.edges) for street in town.streets]
    rings += [ring for street in town.streets for ring in street.bay_rings]
    return [
        Polygon(ring).buffer(0)
        for ring in (*rings, *(junction.ring for junction in town.junctions.values()))
    ]


def _built(town: Town) -> Any:
    """Roads with their pavements."""
    return shapely.union_all([polygon.buffer(PAVEMENT_M) for polygon in _road_polygons(town)])


def _drivable(town: Town) -> Any:
    """Streets, bays and junctions without the medians."""
    medians = [
        LineString(street.middle[int(MEDIAN_OPEN_M) : -int(MEDIAN_OPEN_M), :2]).buffer(
            street.median_m / 2, cap_style="flat"
        )
        for street in town.streets
        if street.median_m > 0
    ]
    # a margin of 1 cm closes the seams between a street and its junction
    return shapely.union_all([polygon.buffer(0.01) for polygon in _road_polygons(town)]).difference(
        shapely.union_all(medians)
    )


def _walkways(town: Town, roads: Any) -> list[Polygon]:
    """The pavements along both sides of each street."""
    built, out = _built(town), []
    for street in town.streets:
        for side in (1, -1):
            pavement = _roadside(street, side).intersection(built).difference(roads)
            out += [
                Polygon(part.exterior)
                for part in shapely.get_parts(pavement)
                if part.geom_type == "Polygon" and part.area > 2.0
            ]
    return out


def _roadside(street: Street, side: int) -> Polygon:
    borders = [
        curves.offset(street.middle, side * (street.half_width_m + wide))
        for wide in (0.0, BAY_WIDTH_M + PAVEMENT_M)
    ]
    return Polygon(curves.band(*borders)).buffer(0)


def _name(lane: Lane) -> str:
    return f"{'connector' if lane.is_connector else 'lane'}-{lane.lane_id}"
