"""A lake with three short logs on one straight road.

The road runs along the world direction YAW from START: two lanes of 3.5 m, the ego in the right
one. A leader drives ahead, a parked car stands beside the road, a pedestrian waits.
`write_tiny_lake` writes frames and trajectories.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pyarrow as pa

from storage.artifact import Lineage
from storage.camera import Camera
from storage.frame_store import CameraFrames, write_frames
from storage.lake import Lake
from storage.trajectory_table import (
    AGENTS,
    LIGHTS,
    MAP,
    TABLES,
    TRAJECTORIES,
    Category,
    Command,
    MapLayer,
    write_table,
)

YAW = 0.3
START = np.array([664400.0, 3998000.0])  # far from zero, as real maps are
FRAMES = 24
STEP_US = 500_000
HEIGHT, WIDTH = 54, 96
CAMERA = Camera(
    "CAM_F0",
    WIDTH,
    HEIGHT,
    np.array([[70.0, 0, 47.5], [0, 70.0, 26.5], [0, 0, 1.0]]),
    np.array([[0.0, 0, 1, 1.5], [-1, 0, 0, 0], [0, -1, 0, 1.6], [0, 0, 0, 1]]),
)
# log id -> split, speed in m/s
LOGS = {"log-a": ("test", 8.0), "log-b": ("test", 11.0), "log-c": ("train", 6.0)}


def write_tiny_lake(root: Path, logs: Mapping[str, tuple[str, float]] = LOGS) -> Lake:
    """Write the logs' frames and tables, with a lineage file for each artefact as in a pipeline."""
    lake = Lake(root)
    for log_id, (split, speed) in logs.items():
        for asset in ("frames", "trajectories"):
            folder = lake.log(asset, log_id)
            folder.mkdir(parents=True)
            (folder / "lineage.json").write_text(
                json.dumps(asdict(Lineage(f"{asset}/{log_id}", "0", {}, {}, "0")))
            )
        along = speed * 0.5 * np.arange(FRAMES) + 20.0
        index = np.arange(FRAMES, dtype=np.int32)
        write_frames(
            lake.log("frames", log_id),
            log_id,
            [
                CameraFrames(
                    CAMERA,
                    index,
                    index.astype(np.int64) * STEP_US,
                    list(_images(along)),
                    np.ones(FRAMES, bool),
                )
            ],
        )
        tables = {
            "trajectories": _trajectories(log_id, split, along, speed),
            "agents": _agents(log_id, along, speed),
            "lights": _lights(log_id),
            "map": _map(),
        }
        for name, table in tables.items():
            write_table(table, lake.log("trajectories", log_id) / f"{name}.parquet", TABLES[name])
    return lake


def on_road(along: float | np.ndarray, left: float | np.ndarray) -> np.ndarray:
    """World points (..., 2) from metres along the road and to the left of the ego's lane centre."""
    along, left = np.broadcast_arrays(along, left)
    return START + np.stack(
        [along * np.cos(YAW) - left * np.sin(YAW), along * np.sin(YAW) + left * np.cos(YAW)],
        axis=-1,
    )


def _images(along: np.ndarray) -> np.ndarray:
    """A grey road under a sky with dashes that move with the ego, (T, H, W, 3)."""
    row, column = np.mgrid[0:HEIGHT, 0:WIDTH].astype(float)
    depth = 1.6 * 70.0 / np.maximum(row - 26.5, 0.3)
    side = (column - 47.5) * depth / 70.0
    images = []
    for position in along:
        image = np.where((row < 27)[..., None], [170, 200, 230], [95, 140, 85]).astype(float)
        road = (row >= 27) & (side > -5.2) & (side < 1.8)
        image[road] = [105, 105, 110]
        dash = road & (np.abs(side + 1.75) < 0.12) & ((depth + position) % 6.0 < 3.0)
        image[dash] = [235, 235, 225]
        images.append(image.astype(np.uint8))
    return np.stack(images)


def _trajectories(log_id: str, split: str, along: np.ndarray, speed: float) -> pa.Table:
    rows = []
    for frame, position in enumerate(along):
        steps = frame + np.array([-4, -3, -2, -1, 1, 2, 3, 4, 5, 6, 7, 8])
        valid = (steps >= 0) & (steps < FRAMES)
        offset = np.where(valid, (steps - frame) * speed * 0.5, 0.0)
        poses = np.stack([offset, 0 * offset, 0 * offset], axis=1).astype(np.float32)
        x, y = on_road(position, 0.0)
        rows.append(
            {
                "log_id": log_id,
                "frame_index": frame,
                "timestamp_us": frame * STEP_US,
                "split": split,
                "location": "road",
                "x_m": x,
                "y_m": y,
                "yaw_rad": YAW,
                "vx_mps": speed,
                "vy_mps": 0.0,
                "ax_mps2": 0.0,
                "ay_mps2": 0.0,
                "yaw_rate_radps": 0.0,
                "command": int(Command.STRAIGHT),
                "has_image": True,
                "history_xyyaw": poses[:4].ravel(),
                "history_valid": valid[:4],
                "future_xyyaw": poses[4:].ravel(),
                "future_valid": valid[4:],
                "route_roadblock_ids": ["block"],
                "tags": ["cut_in"] if log_id == "log-b" and 8 <= frame < 12 else [],
            }
        )
    return pa.Table.from_pylist(rows, TRAJECTORIES)


def _agents(log_id: str, along: np.ndarray, speed: float) -> pa.Table:
    rows = []
    for frame, position in enumerate(along):
        lead = on_road(position + 25.0, 0.0)
        agents = [
            ("lead", Category.VEHICLE, lead, speed, (4.6, 1.9, 1.6)),
            ("parked", Category.VEHICLE, on_road(60.0, -4.2), 0.0, (4.4, 1.8, 1.5)),
            ("walker", Category.PEDESTRIAN, on_road(90.0, 7.5), 0.0, (0.6, 0.6, 1.7)),
        ]
        rows += [
            {
                "log_id": log_id,
                "frame_index": frame,
                "track_token": token,
                "category": int(kind),
                "x_m": at[0],
                "y_m": at[1],
                "z_m": 0.8,
                "yaw_rad": YAW,
                "vx_mps": pace * np.cos(YAW),
                "vy_mps": pace * np.sin(YAW),
                "length_m": size[0],
                "width_m": size[1],
                "height_m": size[2],
            }
            for token, kind, at, pace, size in agents
        ]
    return pa.Table.from_pylist(rows, AGENTS)


def _lights(log_id: str) -> pa.Table:
    return pa.Table.from_pylist(
        [{"log_id": log_id, "frame_index": 3, "lane_connector_id": "none", "is_red": True}], LIGHTS
    )


def _map() -> pa.Table:
    def ring(low: float, high: float) -> np.ndarray:
        return on_road(np.array([0.0, 300.0, 300.0, 0.0]), np.array([low, low, high, high])).ravel()

    def lane(token: str, center: float, left: str, right: str) -> dict:
        line = on_road(np.arange(0.0, 300.1, 5.0), center)
        poses = np.concatenate([line, np.full((len(line), 1), YAW)], axis=1)
        return {
            "layer": int(MapLayer.LANE),
            "token": token,
            "polygon_xy": ring(center - 1.75, center + 1.75),
            "baseline_xyyaw": poses.ravel(),
            "speed_limit_mps": 13.9,
            "roadblock_id": "block",
            "left_neighbor": left,
            "right_neighbor": right,
        }

    empty = {
        "location": "road",
        "baseline_xyyaw": [],
        "speed_limit_mps": None,
        "roadblock_id": "",
        "predecessors": [],
        "successors": [],
        "left_neighbor": "",
        "right_neighbor": "",
    }
    objects = [
        lane("right", 0.0, "left", ""),
        lane("left", 3.5, "", "right"),
        {"layer": int(MapLayer.ROADBLOCK), "token": "block", "polygon_xy": ring(-1.75, 5.25)},
        {"layer": int(MapLayer.CARPARK_AREA), "token": "parking", "polygon_xy": ring(-5.6, -1.75)},
        {
            "layer": int(MapLayer.CROSSWALK),
            "token": "crossing",
            "polygon_xy": on_road(
                np.array([88.0, 92, 92, 88]), np.array([-1.75, -1.75, 5.25, 5.25])
            ).ravel(),
        },
    ]
    return pa.Table.from_pylist([empty | item for item in objects], MAP)
