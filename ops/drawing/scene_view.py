"""Read everything that a picture of one frame shows, in the ego frame of that frame.

Legend: A agents, T poses, 3 = x, y, heading in the ego frame, metres.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from storage.camera import Camera
from storage.errors import ArtifactError
from storage.frame_store import read_calibration, read_frames
from storage.lake import Lake
from storage.trajectory_table import Command, MapLayer, read_table


@dataclass(frozen=True, slots=True)
class SceneView:
    """One frame with its image, map, agents and paths, in the ego frame of the frame."""

    log_id: str
    frame_index: int
    image: np.ndarray | None  # (H, W, 3) uint8 of the front camera
    camera: Camera | None
    polygons: Mapping[MapLayer, list[np.ndarray]]  # each (n, 2)
    baselines: list[np.ndarray]  # of lanes and connectors, each (n, 2)
    red_lines: list[np.ndarray]  # baselines of connectors under a red light, each (n, 2)
    boxes: np.ndarray  # (A, 5) x, y, heading, length, width
    box_velocity: np.ndarray  # (A, 2) m/s
    box_category: np.ndarray  # (A,) int8
    history: np.ndarray  # (T, 3) valid past poses, oldest first
    human: np.ndarray  # (T, 3) valid future poses
    speed_mps: float
    command: Command
    tags: tuple[str, ...]


def read_scene_view(lake: Lake, log_id: str, frame_index: int) -> SceneView:
    """Read one frame. Raises ArtifactError if the log or the frame does not exist."""
    if log_id not in lake.log_ids("trajectories"):
        raise ArtifactError(
            f"there are no trajectories of log '{log_id}'",
            where=lake.root / "trajectories",
            expected=", ".join(lake.log_ids("trajectories")[:5]) or "at least one log",
            found=log_id,
            do="list the logs: latentvla logs; or run: latentvla run --until trajectories",
        )
    tables = _log_tables(lake, log_id)
    rows = tables["trajectories"].filter(pc.field("frame_index") == frame_index).to_pylist()
    if not rows:
        index = tables["trajectories"]["frame_index"].to_numpy()
        raise ArtifactError(
            f"log '{log_id}' has no frame {frame_index}",
            where=lake.log("trajectories", log_id),
            expected=f"{index.min()} ... {index.max()}",
            found=frame_index,
            do="choose a frame of the log",
        )
    row = rows[0]
    pose = np.array([row["x_m"], row["y_m"], row["yaw_rad"]])
    image, camera = None, None
    if row["has_image"] and log_id in lake.log_ids("frames"):
        image = read_frames(lake.log("frames", log_id), np.array([frame_index], np.int32))[0]
        camera = read_calibration(lake.log("frames", log_id))[0]
    red = set(
        tables["lights"]
        .filter((pc.field("frame_index") == frame_index) & pc.field("is_red"))["lane_connector_id"]
        .to_pylist()
    )
    polygons, baselines, red_lines = _map_in_ego(tables["map"], pose, red)
    agents = tables["agents"].filter(pc.field("frame_index") == frame_index)
    box = np.stack(
        [agents[name].to_numpy() for name in ("x_m", "y_m", "yaw_rad", "length_m", "width_m")],
        axis=1,
    )
    box = np.concatenate([_to_ego(box[:, :2], pose), box[:, 2:3] - pose[2], box[:, 3:]], axis=1)
    velocity = np.stack([agents["vx_mps"].to_numpy(), agents["vy_mps"].to_numpy()], axis=1)
    return SceneView(
        log_id=log_id,
        frame_index=frame_index,
        image=image,
        camera=camera,
        polygons=polygons,
        baselines=baselines,
        red_lines=red_lines,
        boxes=box,
        box_velocity=_to_ego(velocity, np.array([0.0, 0.0, pose[2]])),
        box_category=agents["category"].to_numpy(),
        history=_poses(row["history_xyyaw"], row["history_valid"]),
        human=_poses(row["future_xyyaw"], row["future_valid"]),
        speed_mps=float(np.hypot(row["vx_mps"], row["vy_mps"])),
        command=Command(row["command"]),
        tags=tuple(row["tags"]),
    )


@lru_cache(maxsize=8)
def _log_tables(lake: Lake, log_id: str) -> dict[str, pa.Table]:
    folder = lake.log("trajectories", log_id)
    return {name: read_table(folder, name) for name in ("trajectories", "agents", "lights", "map")}


def _map_in_ego(
    table: pa.Table, pose: np.ndarray, red: set[str]
) -> tuple[dict, list[np.ndarray], list[np.ndarray]]:
    polygons: dict[MapLayer, list[np.ndarray]] = {}
    baselines: list[np.ndarray] = []
    red_lines: list[np.ndarray] = []
    for item in table.select(["layer", "token", "polygon_xy", "baseline_xyyaw"]).to_pylist():
        layer = MapLayer(item["layer"])
        ring = _to_ego(np.reshape(item["polygon_xy"], (-1, 2)), pose)
        if len(ring) > 2:
            polygons.setdefault(layer, []).append(ring)
        line = _to_ego(np.reshape(item["baseline_xyyaw"], (-1, 3))[:, :2], pose)
        if len(line) > 1:
            is_red = layer == MapLayer.LANE_CONNECTOR and item["token"] in red
            (red_lines if is_red else baselines).append(line)
    return polygons, baselines, red_lines


def _to_ego(points_X2: np.ndarray, pose: np.ndarray) -> np.ndarray:
    cos, sin = np.cos(pose[2]), np.sin(pose[2])
    return (points_X2 - pose[:2]) @ np.array([[cos, -sin], [sin, cos]])


def _poses(flat: list[float], valid: list[bool]) -> np.ndarray:
    return np.reshape(flat, (-1, 3))[np.array(valid, bool)]
