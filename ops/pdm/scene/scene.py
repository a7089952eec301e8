"""A scene: all inputs of the score at one frame, as plain arrays. from_tables.py builds it.

World frame: metres, radians. K = 11 key frames at 0, 0.5, ... 5 s (v1 needs them all, v2 the first
nine), A agents, M polygons with P vertices in all, L lane connectors with a light, R lanes and
connectors of the route, N centreline points.
"""

from dataclasses import dataclass, field, fields

import numpy as np

from storage.errors import SourceError
from storage.trajectory_table import MapLayer

KEY_FRAMES = 11
HISTORY_POSES = 4
HUMAN_POSES = 8


@dataclass(frozen=True, slots=True, eq=False)
class Scene:
    """Inputs of the score at one frame."""

    scene_key: tuple[str, int]  # (log_id, frame_index)
    time_us: int
    # (7,) rear axle x, y, heading (world), vx, vy, ax, ay (ego frame)
    ego: np.ndarray
    past: np.ndarray  # (4, 7) human states at -1.5, -1.0, -0.5, 0 s, same columns
    past_time_us: np.ndarray  # (4,) int64
    human: np.ndarray  # (8, 3) human future in the ego frame, 0.5 s steps
    # (11, A, 6) present, x, y, heading of the box centre, vx, vy (world)
    agents: np.ndarray
    agent_lwh: np.ndarray  # (A, 3) box size, of the first sighting
    agent_category: np.ndarray  # (A,) int8, Category
    agent_token: np.ndarray  # (A,) str
    light_token: np.ndarray  # (L,) str, lane connectors
    light_red: np.ndarray  # (11, L) bool
    map_xy: np.ndarray  # (P, 2) vertices of open rings
    # (M + 1,) int64: ring m is map_xy[map_start[m]:map_start[m + 1]]
    map_start: np.ndarray
    map_layer: np.ndarray  # (M,) int8, MapLayer
    map_token: np.ndarray  # (M,) str
    route_lane_token: np.ndarray  # (R,) str, lanes and connectors of the route
    centerline: np.ndarray  # (N, 3) x, y, heading of the route from the starting lane on
    speed_limit_mps: float | None  # of the starting lane; None: unknown, 15 m/s is used
    split: str = ""  # train | val | test
    location: str = ""  # map name
    # (Q, 3) centre lines of the lanes
    path_xyyaw: np.ndarray = field(default_factory=lambda: np.zeros((0, 3)))
    # (M + 1,) int64: the centre line of polygon m is path_xyyaw[path_start[m]:path_start[m + 1]]
    path_start: np.ndarray = field(default_factory=lambda: np.zeros(1, np.int64))
    # (M,) speed limit of polygon m, 0 where unknown
    path_limit_mps: np.ndarray = field(default_factory=lambda: np.zeros(0))

    @property
    def where(self) -> str:
        """Log and frame, for messages."""
        return f"log '{self.scene_key[0]}', frame {self.scene_key[1]}"


def check_scene(scene: Scene) -> Scene:
    """The scene itself if it can be scored. Else raises SourceError with log, frame and field."""
    agents, count = scene.agents, len(scene.agent_token)
    shapes = {
        "ego": (7,),
        "past": (HISTORY_POSES, 7),
        "past_time_us": (HISTORY_POSES,),
        "human": (HUMAN_POSES, 3),
        "agents": (KEY_FRAMES, count, 6),
        "agent_lwh": (count, 3),
        "agent_category": (count,),
        "light_red": (KEY_FRAMES, len(scene.light_token)),
        "map_start": (len(scene.map_token) + 1,),
    }
    for name, shape in shapes.items():
        if getattr(scene, name).shape != shape:
            raise SourceError(
                f"field '{name}' of a scene has a wrong shape",
                where=scene.where,
                expected=shape,
                found=getattr(scene, name).shape,
            )
    for item in fields(scene):
        value = getattr(scene, item.name)
        if (
            isinstance(value, np.ndarray)
            and value.dtype.kind == "f"
            and not np.isfinite(value).all()
        ):
            raise SourceError(
                f"field '{item.name}' of a scene holds NaN or infinity", where=scene.where
            )
    if len(scene.centerline) < 2:
        raise SourceError(
            "the scene has no centreline",
            where=scene.where,
            expected="at least 2 points",
            found=len(scene.centerline),
            do="check that the log has a route and a map there",
        )
    if not np.isin(scene.map_layer, (MapLayer.LANE, MapLayer.LANE_CONNECTOR)).any():
        raise SourceError(
            "the scene has no lane around the ego",
            where=scene.where,
            do="check that the log's map covers its path",
        )
    if (np.diff(scene.map_start) < 3).any():
        raise SourceError(
            "a map polygon has fewer than three corners",
            where=scene.where,
            found=scene.map_token[np.diff(scene.map_start) < 3].tolist(),
        )
    without_size = agents[..., 0].any(axis=0) & ~(scene.agent_lwh > 0).all(axis=1)
    if without_size.any():
        raise SourceError(
            "an agent's box has no size",
            where=scene.where,
            expected="length, width, height > 0",
            found=scene.agent_token[without_size].tolist(),
        )
    if (np.diff(scene.past_time_us) <= 0).any() or scene.past_time_us[-1] != scene.time_us:
        raise SourceError(
            "the past states are not in time order up to now",
            where=scene.where,
            found=scene.past_time_us.tolist(),
        )
    return scene
