"""A straight road for tests of the PDM score, on which every sub-score can be computed by hand.

The ego stands at the origin and looks along x. Lanes are 3.5 m wide: `right` (centre y = 0) and
`left` (y = 3.5) are one roadblock and on the route, `against` (y = 7) is another and not. An
intersection and a connector with a light can be put anywhere. `moved` moves and turns the whole
scene.
"""

from dataclasses import dataclass, field, replace

import numpy as np

from ops.pdm.scene.scene import Scene
from storage.trajectory_table import Category, MapLayer

START_X, END_X = -60.0, 160.0
FRONT_M, REAR_M, HALF_WIDTH_M = 4.049, 1.127, 1.1485  # of the ego, from the rear axle
TIME_US = 1_600_000_000_000_000


@dataclass(frozen=True)
class Road:
    """The road and the agents on it."""

    speed_mps: float = 8.0
    agents: tuple["Track", ...] = ()
    edge_y: float = -1.75  # right edge of the road
    # an intersection over all lanes between these
    intersection_x: tuple[float, float] | None = None
    # a connector on the route, with a light, between these
    light_x: tuple[float, float] | None = None
    red: tuple[bool, ...] = field(default=(True,) * 11)  # of that light, by key frame
    limit_mps: float | None = 15.0
    past_acceleration: float = 0.0  # lateral, of the human's history
    human: np.ndarray | None = None  # (8, 3); None: straight on at speed_mps


@dataclass(frozen=True)
class Track:
    """An agent that moves in a straight line."""

    x: float
    y: float
    speed_mps: float = 0.0
    yaw: float = 0.0
    category: Category = Category.VEHICLE
    length: float = 4.0
    width: float = 2.0
    keys: tuple[int, ...] = tuple(range(11))  # key frames in which it is seen


def straight(
    speed_mps: float, *, y: float = 0.0, yaw: float = 0.0, steps: int = 8, dt_s: float = 0.5
) -> np.ndarray:
    """(1, n, 3) plan at a constant speed, shifted sideways by y from the first pose on."""
    along = speed_mps * dt_s * np.arange(1, steps + 1)
    return np.stack([along, np.full(steps, y), np.full(steps, yaw)], axis=1)[None]


def road_scene(road: Road) -> Scene:
    """The scene of a road."""
    rings = [
        ("right", MapLayer.LANE, _strip(START_X, END_X, road.edge_y, 1.75)),
        ("left", MapLayer.LANE, _strip(START_X, END_X, 1.75, 5.25)),
        ("against", MapLayer.LANE, _strip(START_X, END_X, 5.25, 8.75)),
        ("block", MapLayer.ROADBLOCK, _strip(START_X, END_X, road.edge_y, 5.25)),
        ("other", MapLayer.ROADBLOCK, _strip(START_X, END_X, 5.25, 8.75)),
    ]
    route = ["right", "left"]
    if road.intersection_x:
        rings.append(
            ("crossing", MapLayer.INTERSECTION, _strip(*road.intersection_x, road.edge_y, 8.75))
        )
    if road.light_x:
        rings.append(("signal", MapLayer.LANE_CONNECTOR, _strip(*road.light_x, -1.5, 1.5)))
        route.append("signal")
    line_x = np.arange(START_X, END_X + 1)
    past_x = road.speed_mps * np.arange(-3, 1) * 0.5
    past = np.stack(
        [
            past_x,
            *np.zeros((2, 4)),
            np.full(4, road.speed_mps),
            *np.zeros((2, 4)),
            np.full(4, road.past_acceleration),
        ],
        axis=1,
    )
    human = straight(road.speed_mps)[0] if road.human is None else road.human
    agents = (
        np.stack([_sightings(track) for track in road.agents], axis=1)
        if road.agents
        else np.zeros((11, 0, 6))
    )
    return Scene(
        scene_key=("road", 0),
        time_us=TIME_US,
        ego=past[-1],
        past=past,
        past_time_us=TIME_US + np.arange(-3, 1) * 500_000,
        human=human,
        agents=agents,
        agent_lwh=np.array([[track.length, track.width, 1.5] for track in road.agents]).reshape(
            -1, 3
        ),
        agent_category=np.array([track.category for track in road.agents], dtype=np.int8),
        agent_token=np.array([f"track{i}" for i in range(len(road.agents))], dtype=str),
        light_token=np.array(["signal"] if road.light_x else [], dtype=str),
        light_red=np.array(road.red)[:, None] if road.light_x else np.zeros((11, 0), bool),
        map_xy=np.concatenate([ring for *_, ring in rings]),
        map_start=np.cumsum([0, *(len(ring) for *_, ring in rings)]),
        map_layer=np.array([layer for _, layer, _ in rings], dtype=np.int8),
        map_token=np.array([token for token, *_ in rings]),
        route_lane_token=np.array(route),
        centerline=np.stack([line_x, np.zeros_like(line_x), np.zeros_like(line_x)], axis=1),
        speed_limit_mps=road.limit_mps,
        split="test",
        location="road",
        **_paths(rings, road.limit_mps or 0.0),
    )


def _paths(
    rings: list[tuple[str, MapLayer, np.ndarray]], limit_mps: float
) -> dict[str, np.ndarray]:
    """Centre lines of the lanes, with a point every metre; the others have none."""
    center_y = {"right": 0.0, "left": 3.5, "against": 7.0}
    along = np.arange(START_X, END_X + 1)
    paths = [
        np.zeros((0, 3))
        if token not in center_y
        else np.stack(
            [
                along[::-1] if token == "against" else along,
                np.full_like(along, center_y[token]),
                np.full_like(along, np.pi if token == "against" else 0.0),
            ],
            axis=1,
        )
        for token, *_ in rings
    ]
    return {
        "path_xyyaw": np.concatenate(paths),
        "path_start": np.cumsum([0, *map(len, paths)]),
        "path_limit_mps": np.array([limit_mps if len(path) else 0.0 for path in paths]),
    }


def moved(scene: Scene, x: float, y: float, yaw: float) -> Scene:
    """The same scene, turned about the origin and then shifted."""
    return replace(
        scene,
        ego=_moved_poses(scene.ego, x, y, yaw),
        past=_moved_poses(scene.past, x, y, yaw),
        agents=_moved_agents(scene.agents, x, y, yaw),
        map_xy=_turned(scene.map_xy, yaw) + np.array([x, y]),
        centerline=_moved_poses(scene.centerline, x, y, yaw),
        path_xyyaw=_moved_poses(scene.path_xyyaw, x, y, yaw),
    )


def _strip(x0: float, x1: float, y0: float, y1: float) -> np.ndarray:
    """A rectangle as an open ring with a vertex every 5 m on its long sides."""
    x = np.linspace(x0, x1, max(2, round((x1 - x0) / 5)))
    return np.concatenate(
        [np.stack([x, np.full_like(x, y0)], 1), np.stack([x[::-1], np.full_like(x, y1)], 1)]
    )


def _sightings(track: Track) -> np.ndarray:
    """(11, 6) key frames of a track."""
    time_s = np.arange(11) * 0.5
    velocity = track.speed_mps * np.array([np.cos(track.yaw), np.sin(track.yaw)])
    rows = np.zeros((11, 6))
    rows[:, 1:3] = (track.x, track.y) + time_s[:, None] * velocity
    rows[:, 3], rows[:, 4:] = track.yaw, velocity
    seen = np.isin(np.arange(11), track.keys)
    rows[:, 0] = seen
    return rows * seen[:, None]


def _turned(xy: np.ndarray, yaw: float) -> np.ndarray:
    return xy @ np.array([[np.cos(yaw), np.sin(yaw)], [-np.sin(yaw), np.cos(yaw)]])


def _moved_poses(rows: np.ndarray, x: float, y: float, yaw: float) -> np.ndarray:
    out = rows.copy()
    out[..., :2] = _turned(rows[..., :2], yaw) + np.array([x, y])
    out[..., 2] = (rows[..., 2] + yaw + np.pi) % (2 * np.pi) - np.pi
    return out


def _moved_agents(rows: np.ndarray, x: float, y: float, yaw: float) -> np.ndarray:
    out = rows.copy()
    out[..., 1:4] = _moved_poses(rows[..., 1:4], x, y, yaw)
    out[..., 4:] = _turned(rows[..., 4:], yaw)
    return out * rows[..., :1]
