"""Writes a tiny scene in the nuScenes format: 13 tables, images, a map expansion, CAN bus messages.

A car drives at a steady speed along y = -2 of a straight two-lane road; another drives 10 m ahead.
Written from the published schema, so that nuscenes-devkit itself opens it.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import shapely

from tests.worlds.tiny_openscene import FRONT_TO_EGO, write_image

SCENE, VERSION, LOCATION = "scene-0001", "v1.0-mini", "boston-seaport"
SPEED_MPS, GROUND_Z = 5.0, 3.0
START_US = 1_530_000_000_000_000
HALF = [np.sqrt(0.5), 0.0, 0.0, np.sqrt(0.5)]  # a quarter turn about z
# camera axes x right, y down, z forward in the ego frame
FRONT_QUATERNION = [0.5, -0.5, 0.5, -0.5]


def write_scene(
    raw: Path, *, frames: int = 24, can_bus: bool = True, with_map: bool = True
) -> None:
    """Write everything below `raw`."""
    assert np.allclose(FRONT_TO_EGO @ [0, 0, 1], [1, 0, 0])
    for name, rows in _tables(frames).items():
        file = raw / VERSION / f"{name}.json"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(rows))
    for index in range(frames):
        write_image(raw / "samples" / "CAM_FRONT" / f"{index:04d}.jpg", index)
    write_image(raw / "maps" / "mask.png", 0)
    if with_map:
        (raw / "maps" / "expansion").mkdir()
        (raw / "maps" / "expansion" / f"{LOCATION}.json").write_text(json.dumps(_expansion()))
    if can_bus:
        (raw / "can_bus").mkdir()
        pose = [
            {
                "utime": START_US + 20_000 * step,
                "vel": [SPEED_MPS, 0.0, 0.0],
                "accel": [0.0, 0.0, 9.8],
            }
            for step in range(25 * frames)
        ]
        (raw / "can_bus" / f"{SCENE}_pose.json").write_text(json.dumps(pose))
        (raw / "can_bus" / f"{SCENE}_route.json").write_text(
            json.dumps([[0.0, -2.0], [100.0, -2.0], [100.0, 80.0]])
        )


def _tables(frames: int) -> dict[str, list[dict[str, Any]]]:
    def tokens(kind: str, index: int) -> dict[str, str]:
        return {
            "token": f"{kind}{index}",
            "prev": f"{kind}{index - 1}" if index else "",
            "next": f"{kind}{index + 1}" if index < frames - 1 else "",
        }

    times = [START_US + 500_000 * index for index in range(frames)]
    data = [
        {
            **tokens("front", index),
            "sample_token": f"sample{index}",
            "ego_pose_token": f"pose{index}",
            "calibrated_sensor_token": "front",
            "timestamp": time_us + 12_000,
            "fileformat": "jpg",
            "is_key_frame": True,
            "height": 36,
            "width": 64,
            "filename": f"samples/CAM_FRONT/{index:04d}.jpg",
        }
        for index, time_us in enumerate(times)
    ]
    data += [
        {
            **row,
            **tokens("lidar", index),
            "calibrated_sensor_token": "lidar",
            "timestamp": times[index],
            "fileformat": "pcd",
            "filename": f"samples/LIDAR_TOP/{index:04d}.pcd.bin",
        }
        for index, row in enumerate(data)
    ]
    boxes = [
        {
            **tokens("box", index),
            "sample_token": f"sample{index}",
            "instance_token": "car",
            "visibility_token": "4",
            "attribute_tokens": [],
            "translation": [10.0 + SPEED_MPS * index / 2, -2.0, GROUND_Z + 0.8],
            "size": [1.9, 4.5, 1.6],
            "rotation": [1.0, 0, 0, 0],
            "num_lidar_pts": 5,
            "num_radar_pts": 0,
        }
        for index in range(frames)
    ]
    boxes.append(
        {
            "token": "once",
            "prev": "",
            "next": "",
            "sample_token": "sample3",
            "instance_token": "walker",
            "visibility_token": "4",
            "attribute_tokens": [],
            "translation": [30.0, 5.0, GROUND_Z + 0.9],
            "size": [0.6, 0.7, 1.8],
            "rotation": HALF,
            "num_lidar_pts": 5,
            "num_radar_pts": 0,
        }
    )
    camera = {
        "translation": [1.7, 0.0, 1.5],
        "rotation": FRONT_QUATERNION,
        "camera_intrinsic": [[60.0, 0, 31.5], [0, 60.0, 17.5], [0, 0, 1]],
    }
    return {
        "category": [
            {"token": "c0", "name": "vehicle.car", "description": ""},
            {"token": "c1", "name": "human.pedestrian.adult", "description": ""},
        ],
        "attribute": [{"token": "a", "name": "vehicle.moving", "description": ""}],
        "visibility": [{"token": "4", "level": "v80-100", "description": ""}],
        "instance": [
            {
                "token": token,
                "category_token": kind,
                "nbr_annotations": 1,
                "first_annotation_token": first,
                "last_annotation_token": first,
            }
            for token, kind, first in (("car", "c0", "box0"), ("walker", "c1", "once"))
        ],
        "sensor": [
            {"token": "s0", "channel": "CAM_FRONT", "modality": "camera"},
            {"token": "s1", "channel": "LIDAR_TOP", "modality": "lidar"},
        ],
        "calibrated_sensor": [
            {"token": "front", "sensor_token": "s0", **camera},
            {
                "token": "lidar",
                "sensor_token": "s1",
                "translation": [1.0, 0, 1.8],
                "rotation": [1.0, 0, 0, 0],
                "camera_intrinsic": [],
            },
        ],
        "ego_pose": [
            {
                "token": f"pose{index}",
                "timestamp": time_us,
                "rotation": [1.0, 0, 0, 0],
                "translation": [SPEED_MPS * index / 2, -2.0, GROUND_Z],
            }
            for index, time_us in enumerate(times)
        ],
        "log": [
            {
                "token": "log",
                "logfile": "tiny",
                "vehicle": "v",
                "date_captured": "2018-01-01",
                "location": LOCATION,
            }
        ],
        "scene": [
            {
                "token": "scene",
                "log_token": "log",
                "nbr_samples": frames,
                "first_sample_token": "sample0",
                "last_sample_token": f"sample{frames - 1}",
                "name": SCENE,
                "description": "",
            }
        ],
        "sample": [
            {**tokens("sample", index), "timestamp": time_us, "scene_token": "scene"}
            for index, time_us in enumerate(times)
        ],
        "sample_data": data,
        "sample_annotation": boxes,
        "map": [
            {
                "token": "map",
                "log_tokens": ["log"],
                "category": "semantic_prior",
                "filename": "maps/mask.png",
            }
        ],
    }


def _expansion() -> dict[str, Any]:
    """Two lanes to the east (y = 2 and y = -2) from 0 to 100 m, a connector of 20 m, and a lane
    behind it.
    """
    nodes: list[dict[str, Any]] = []
    polygons: list[dict[str, Any]] = []

    def area(token: str, *bounds: float) -> dict[str, str]:
        ring = shapely.get_coordinates(shapely.box(*bounds))[:-1]
        first = len(nodes)
        nodes.extend(
            {"token": f"n{first + corner}", "x": x, "y": y} for corner, (x, y) in enumerate(ring)
        )
        polygons.append(
            {
                "token": f"area_{token}",
                "holes": [],
                "exterior_node_tokens": [f"n{first + corner}" for corner in range(len(ring))],
            }
        )
        return {"token": token, "polygon_token": f"area_{token}"}

    def lane(token: str, *bounds: float) -> dict[str, Any]:
        return {
            **area(token, *bounds),
            "lane_type": "CAR",
            "from_edge_line_token": "",
            "to_edge_line_token": "",
            "left_lane_divider_segments": [],
            "right_lane_divider_segments": [],
        }

    def arc(x0: float, x1: float, y: float) -> list[dict[str, Any]]:
        return [
            {
                "start_pose": [x0, y, 0.0],
                "end_pose": [x1, y, 0.0],
                "shape": "LSR",
                "radius": 999.999,
                "segment_length": [0.0, x1 - x0, 0.0],
            }
        ]

    return {
        "version": "1.3",
        "canvas_edge": [300.0, 100.0],
        "lane": [
            lane("left", 0, 0, 100, 4),
            lane("right", 0, -4, 100, 0),
            lane("behind", 120, -4, 220, 0),
        ],
        "lane_connector": [{"token": "joint"}],
        "road_block": [area("block", 0, -4, 100, 4), area("block2", 120, -4, 220, 0)],
        "road_segment": [
            {**area("road", 0, -4, 100, 4), "is_intersection": False},
            {**area("crossroads", 98, -10, 122, 10), "is_intersection": True},
        ],
        "ped_crossing": [area("zebra", 90, -6, 93, 6)],
        "walkway": [area("pavement", 0, 4, 100, 6)],
        "stop_line": [{**area("halt", 96, -4, 98, 0), "stop_line_type": "YIELD"}],
        "carpark_area": [],
        "drivable_area": [],
        "road_divider": [],
        "lane_divider": [],
        "traffic_light": [],
        "line": [],
        "node": nodes,
        "polygon": polygons,
        "arcline_path_3": {
            "left": arc(0, 100, 2),
            "right": arc(0, 100, -2),
            "joint": arc(100, 120, -2),
            "behind": arc(120, 220, -2),
        },
        "connectivity": {
            "right": {"incoming": [], "outgoing": ["joint"]},
            "joint": {"incoming": ["right"], "outgoing": ["behind"]},
            "behind": {"incoming": ["joint"], "outgoing": []},
            "left": {"incoming": [], "outgoing": []},
        },
    }
