"""One scene as a picture: the bird's-eye view with map, agents and paths, and the camera with a plan drawn into it.
Not a page; pages are put together elsewhere.

The bird's-eye view looks down with the ego's heading upwards: a point (x forward, y left) is drawn at (-y, x).
Legend: T poses, 3 = x, y, heading in the ego frame of the scene, metres.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

import matplotlib.patheffects as effects
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection, PolyCollection

from ops.boxes import corners
from storage.errors import ArtifactError
from storage.frame_store import read_calibration, read_frames
from storage.lake import Lake
from storage.sources.contract import Camera
from storage.trajectory_table import Category, Command, MapLayer, read_table

INK = "#1c2430"                     # text on light paper
PATH_STYLES: dict[str, tuple[str, str]] = {     # planner -> colour, line style; Okabe and Ito's colours, apart for every eye
    "human": ("#00795c", "-"), "student": ("#d55e00", "-"), "vla": ("#0072b2", "-"), "pdm_closed": ("#b0529a", "--"),
    "planner_alone": ("#b87a00", "-"), "student_no_teacher": ("#3a9bd1", "--"), "ego_status_mlp": ("#7a5c3d", ":"),
    "constant_velocity": ("#6b7280", ":"), "constant_turn_rate": ("#6b7280", "--"), "stopped": ("#1c2430", ":"),
}
LAYER_FILLS: tuple[tuple[MapLayer, str], ...] = (       # painted in this order
    (MapLayer.WALKWAY, "#efe9dc"), (MapLayer.ROADBLOCK, "#dfe3e8"), (MapLayer.ROADBLOCK_CONNECTOR, "#dfe3e8"),
    (MapLayer.CARPARK_AREA, "#d3dbe3"), (MapLayer.INTERSECTION, "#d5dae0"), (MapLayer.LANE, "#dfe3e8"),
    (MapLayer.LANE_CONNECTOR, "#d9dee4"), (MapLayer.CROSSWALK, "#ffffff"))
AGENT_FILLS = {Category.VEHICLE: "#6f8fb5", Category.PEDESTRIAN: "#e0457b", Category.BICYCLE: "#8a5cc2"}
OBJECT_FILL = "#9a8f78"             # cones, barriers and other static things
RED_LIGHT = "#d7263d"
EGO_LENGTH_M, EGO_WIDTH_M, EGO_CENTER_M = 5.176, 2.297, 1.461   # the vehicle of the PDM score


@dataclass(frozen=True, slots=True)
class SceneView:
    """What a picture of one frame shows; map and agents are in the ego frame of the frame."""

    log_id: str
    frame_index: int
    image: np.ndarray | None            # (H, W, 3) uint8 of the front camera
    camera: Camera | None
    polygons: Mapping[MapLayer, list[np.ndarray]]   # each (n, 2)
    baselines: list[np.ndarray]         # of lanes and connectors, each (n, 2)
    red_lines: list[np.ndarray]         # baselines of connectors under a red light, each (n, 2)
    boxes: np.ndarray                   # (A, 5) x, y, heading, length, width
    box_velocity: np.ndarray            # (A, 2) m/s
    box_category: np.ndarray            # (A,) int8
    history: np.ndarray                 # (T, 3) past poses that exist, oldest first
    human: np.ndarray                   # (T, 3) future poses that exist
    speed_mps: float
    command: Command
    tags: tuple[str, ...]


@lru_cache(maxsize=8)
def _log_tables(lake: Lake, log_id: str) -> dict[str, pa.Table]:
    folder = lake.log("trajectories", log_id)
    return {name: read_table(folder, name) for name in ("trajectories", "agents", "lights", "map")}


def read_scene_view(lake: Lake, log_id: str, frame_index: int) -> SceneView:
    """Everything that is known of one frame, for drawing. Raises ArtifactError if the log or the frame does not exist."""
    if log_id not in lake.log_ids("trajectories"):
        raise ArtifactError(f"there are no trajectories of log '{log_id}'", where=lake.root / "trajectories",
                            expected=", ".join(lake.log_ids("trajectories")[:5]) or "at least one log", found=log_id,
                            do="list the logs with `latentvla show`, or make them: latentvla run --until trajectories")
    tables = _log_tables(lake, log_id)
    rows = tables["trajectories"].filter(pc.field("frame_index") == frame_index).to_pylist()
    if not rows:
        index = tables["trajectories"]["frame_index"].to_numpy()
        raise ArtifactError(f"log '{log_id}' has no frame {frame_index}", where=lake.log("trajectories", log_id),
                            expected=f"{index.min()} ... {index.max()}", found=frame_index, do="choose a frame of the log")
    row = rows[0]
    pose = np.array([row["x_m"], row["y_m"], row["yaw_rad"]])
    image, camera = None, None
    if row["has_image"] and log_id in lake.log_ids("frames"):
        image = read_frames(lake.log("frames", log_id), np.array([frame_index], np.int32))[0]
        camera = read_calibration(lake.log("frames", log_id))[0]
    red = set(tables["lights"].filter((pc.field("frame_index") == frame_index) & pc.field("is_red"))
              ["lane_connector_id"].to_pylist())
    polygons, baselines, red_lines = _map_in_ego(tables["map"], pose, red)
    agents = tables["agents"].filter(pc.field("frame_index") == frame_index)
    box = np.stack([agents[name].to_numpy() for name in ("x_m", "y_m", "yaw_rad", "length_m", "width_m")], axis=1)
    box = np.concatenate([_to_ego(box[:, :2], pose), box[:, 2:3] - pose[2], box[:, 3:]], axis=1)
    velocity = np.stack([agents["vx_mps"].to_numpy(), agents["vy_mps"].to_numpy()], axis=1)
    return SceneView(
        log_id=log_id, frame_index=frame_index, image=image, camera=camera, polygons=polygons, baselines=baselines,
        red_lines=red_lines, boxes=box, box_velocity=_to_ego(velocity, np.array([0.0, 0.0, pose[2]])),
        box_category=agents["category"].to_numpy(), history=_poses(row["history_xyyaw"], row["history_valid"]),
        human=_poses(row["future_xyyaw"], row["future_valid"]), speed_mps=float(np.hypot(row["vx_mps"], row["vy_mps"])),
        command=Command(row["command"]), tags=tuple(row["tags"]))


def draw_bev(ax: Axes, view: SceneView, paths: Mapping[str, np.ndarray], *, reach_m: float = 42.0) -> None:
    """Paint map, lights, agents, the ego and the paths {planner: (T, 3)} as seen from above, `reach_m` ahead."""
    half = reach_m * 0.56
    ax.set_facecolor("#f6f5f1")
    for layer, fill in LAYER_FILLS:
        rings = [_up(ring) for ring in view.polygons.get(layer, ())]
        edge = "#9aa3ad" if layer == MapLayer.CROSSWALK else fill
        ax.add_collection(PolyCollection(rings, facecolors=fill, edgecolors=edge, linewidths=0.6,
                                         hatch="////" if layer == MapLayer.CROSSWALK else None, zorder=1))
    lanes = [_up(ring[np.r_[0:len(ring), 0]]) for ring in view.polygons.get(MapLayer.LANE, ())]
    ax.add_collection(LineCollection(lanes, colors="#ffffff", linewidths=1.0, zorder=2))
    ax.add_collection(LineCollection([_up(line) for line in view.baselines], colors="#a9b2bd", linewidths=0.7,
                                     linestyles=(0, (4, 4)), zorder=2))
    ax.add_collection(LineCollection([_up(line) for line in view.red_lines], colors=RED_LIGHT, linewidths=2.2,
                                     alpha=0.45, zorder=3))
    ax.add_collection(LineCollection([_up(ring[np.r_[0:len(ring), 0]]) for ring in view.polygons.get(MapLayer.STOP_LINE, ())],
                                     colors="#7d8794", linewidths=1.0, zorder=3))
    _draw_agents(ax, view)
    ego = corners(np.array([EGO_CENTER_M, 0.0, 0.0, EGO_LENGTH_M, EGO_WIDTH_M]))
    ax.add_collection(PolyCollection([_up(ego)], facecolors=INK, edgecolors="white", linewidths=0.8, zorder=6))
    if len(view.history):
        ax.plot(*_up(np.vstack([view.history[:, :2], [[0.0, 0.0]]])).T, color=INK, lw=1.2, alpha=0.5, zorder=5)
    for name, path in paths.items():
        colour, style = PATH_STYLES.get(name, ("#444444", "-."))
        points = _up(np.vstack([[[0.0, 0.0]], path[:, :2]]))
        ax.plot(*points.T, color=colour, ls=style, lw=2.2, zorder=8, label=name.replace("_", " "),
                path_effects=[effects.Stroke(linewidth=3.6, foreground="white"), effects.Normal()])
        ax.plot(*points[1:].T, color=colour, ls="none", marker="o", ms=3.2, mec="white", mew=0.5, zorder=9)
    ax.set(xlim=(-half, half), ylim=(-0.28 * reach_m, reach_m), aspect="equal", xticks=[], yticks=[])
    _scale_bar(ax, half, reach_m)


def draw_camera(ax: Axes, view: SceneView, paths: Mapping[str, np.ndarray], *, ribbon_width_m: float = 1.4) -> None:
    """Show the camera image with each path {planner: (T, 3)} as a ribbon on the ground; the first one is filled."""
    ax.set(xticks=[], yticks=[])
    for side in ax.spines.values():
        side.set_visible(False)
    if view.image is None or view.camera is None:
        ax.text(0.5, 0.5, "no image of this frame", ha="center", va="center", color=INK, transform=ax.transAxes)
        return
    ax.imshow(view.image, interpolation="lanczos")
    for order, (name, path) in enumerate(paths.items()):
        colour, style = PATH_STYLES.get(name, ("#444444", "-."))
        left, right = ground_ribbon(view.camera, path, ribbon_width_m if order == 0 else 0.0)
        if len(left) < 2:
            continue
        if order == 0:
            ax.fill(*np.vstack([left, right[::-1]]).T, color=colour, alpha=0.45, lw=0, zorder=3)
            ax.plot(*left.T, color=colour, lw=1.3, zorder=4)
            ax.plot(*right.T, color=colour, lw=1.3, zorder=4)
        else:
            ax.plot(*left.T, color=colour, ls=style, lw=1.8, zorder=5,
                    path_effects=[effects.Stroke(linewidth=3.0, foreground="white", alpha=0.8), effects.Normal()])
    ax.set(xlim=(-0.5, view.image.shape[1] - 0.5), ylim=(view.image.shape[0] - 0.5, -0.5))


def ground_ribbon(camera: Camera, path_T3: np.ndarray, width_m: float, near_m: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Pixels (n, 2) of the left and the right edge of a ribbon along a path on the ground, from `near_m` ahead of the lens.

    The path is made dense by straight lines between its poses; the part behind the lens is left out.
    """
    poses = np.vstack([[[0.0, 0.0, 0.0]], path_T3]).astype(np.float64)
    poses[:, 2] = np.unwrap(poses[:, 2])
    fine = np.linspace(0, len(poses) - 1, 12 * (len(poses) - 1) + 1)
    x, y, yaw = (np.interp(fine, np.arange(len(poses)), poses[:, axis]) for axis in range(3))
    ego_to_camera = np.linalg.inv(camera.camera_to_ego)
    edges = []
    for side in (0.5 * width_m, -0.5 * width_m):
        points = np.stack([x - side * np.sin(yaw), y + side * np.cos(yaw), np.zeros_like(x), np.ones_like(x)])
        edges.append((ego_to_camera @ points)[:3])
    seen = (edges[0][2] > near_m) & (edges[1][2] > near_m)
    left, right = ((camera.intrinsics @ edge[:, seen]) for edge in edges)
    return (left[:2] / left[2]).T, (right[:2] / right[2]).T


def _draw_agents(ax: Axes, view: SceneView) -> None:
    outlines = corners(view.boxes)
    fills = [AGENT_FILLS.get(Category(kind), OBJECT_FILL) for kind in view.box_category]
    if len(outlines):
        ax.add_collection(PolyCollection([_up(box) for box in outlines], facecolors=fills, edgecolors="white",
                                         linewidths=0.7, zorder=6))
    moving = np.hypot(*view.box_velocity.T) > 0.3
    ends = view.boxes[moving, :2] + view.box_velocity[moving]       # where it is one second later
    ax.add_collection(LineCollection([_up(np.stack(pair)) for pair in zip(view.boxes[moving, :2], ends, strict=True)],
                                     colors="#33445c", linewidths=1.1, zorder=7))
    walking = view.box_category == Category.PEDESTRIAN
    ax.plot(*_up(view.boxes[walking, :2]).T, ls="none", marker="o", ms=5, color=AGENT_FILLS[Category.PEDESTRIAN], mec="white",
            mew=0.7, zorder=7)


def _scale_bar(ax: Axes, half: float, reach_m: float) -> None:
    left, low = -half * 0.94, -0.25 * reach_m
    ax.plot([left, left + 10.0], [low, low], color=INK, lw=2, solid_capstyle="butt", zorder=10)
    ax.text(left + 5.0, low + 0.012 * reach_m, "10 m", ha="center", va="bottom", fontsize=7, color=INK, zorder=10)


def _map_in_ego(table: pa.Table, pose: np.ndarray, red: set[str]) -> tuple[dict, list[np.ndarray], list[np.ndarray]]:
    polygons: dict[MapLayer, list[np.ndarray]] = {}
    baselines, red_lines = [], []
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


def _up(points_X2: np.ndarray) -> np.ndarray:
    return np.stack([-points_X2[..., 1], points_X2[..., 0]], axis=-1)


