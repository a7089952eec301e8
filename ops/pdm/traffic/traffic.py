"""The other road users and the red lights over time: as logged, or as PDM-Closed forecasts them.

Source: docs/metrics.md, "Inputs of a scene" and "PDM-Closed"; devkit
planning/metric_caching/metric_cache_processor.py `_interpolate_gt_observation`,
pdm_planner/observation/pdm_observation.py, traffic_agents_policies/log_replay_traffic_agents.py.
F frames, A tracks, L red lights.
"""

from typing import Any, NamedTuple

import numpy as np

from ops.pdm.rules.engine import kernel
from ops.pdm.rules.geometry import box_corners, boxes_touch, ego_box, ego_center
from ops.pdm.rules.quirks import DEVKIT, Quirks
from ops.pdm.rules.vehicle import KEY_STEP_S, STEP_S
from ops.pdm.scene.scene import Scene
from storage.trajectory_table import Category, MapLayer

FORECAST_STRIDE = 2  # steps of 0.1 s between two frames of the forecast
FORECAST_FRAMES = 26  # 0 .. 5 s
_FORECAST_RADIUS_M = 100.0
_FORECAST_LIMIT = {Category.VEHICLE: 50, Category.PEDESTRIAN: 25, Category.BICYCLE: 10}
_FORECAST_LIMIT_STATIC = 50


class Traffic(NamedTuple):
    """Boxes and red lights over time; only arrays and one number, so that compiled code takes it as
    one argument.
    """

    present: np.ndarray  # (F, A) bool
    pose: np.ndarray  # (F, A, 3) box centre x, y, heading, world
    facing: np.ndarray  # (F, A, 2) cosine and sine of the heading
    corners: np.ndarray  # (F, A, 4, 2) corners of the boxes
    half: np.ndarray  # (A, 2) half length and half width, m
    radius: np.ndarray  # (A,) half diagonal, m
    speed: np.ndarray  # (F, A) that the rules use in each frame, m/s; 0 for static objects
    moves: np.ndarray  # (A,) bool: vehicle, pedestrian or bicycle
    # (A, 4) bounds of all boxes of a track: lowest x, lowest y, highest x, highest y
    sweep: np.ndarray
    ignored: np.ndarray  # (A,) bool: left out (overlaps the ego at the start of a forecast)
    light_xy: np.ndarray  # (V, 2) vertices of the connectors with a light
    light_start: np.ndarray  # (L + 1,) first vertex of each
    light_bounds: np.ndarray  # (L, 4) lowest x, lowest y, highest x, highest y
    red: np.ndarray  # (F, L) bool
    stride: int  # simulation steps a frame


@kernel
def _touches(box, others):
    """(A,) bool: which of the boxes (A, 4, 2) share a point with a box."""
    out = np.empty(len(others), dtype=np.bool_)
    for a in range(len(others)):
        out[a] = boxes_touch(box, others[a])
    return out


def touches_ego(scene: Scene, boxes: np.ndarray) -> np.ndarray:
    """(A,) bool: which of the boxes (A, 4, 2) share a point with the ego box now."""
    return _touches(ego_box(scene.ego), boxes)


def logged_traffic(
    scene: Scene, key_frames: int, *, drop_overlapping: bool, lights: bool, quirks: Quirks = DEVKIT
) -> Traffic:
    """The logged tracks at 10 Hz over the first `key_frames` key frames.

    `drop_overlapping` leaves out tracks that touch the ego at the start (v2's log replay), `lights`
    adds the red lights of the route (v2).
    """
    present, pose, velocity = interpolated(scene.agents[:key_frames], quirks)
    speed = np.hypot(velocity[..., 0], velocity[..., 1])
    if quirks.speed_of_first_sighting:
        speed = np.broadcast_to(
            speed[present.argmax(axis=0), np.arange(present.shape[1])], present.shape
        )
    traffic = traffic_of(scene, present, pose, speed, np.arange(pose.shape[1]))
    keep = traffic.present.any(axis=0)
    if drop_overlapping:
        keep &= ~(traffic.present[0] & touches_ego(scene, traffic.corners[0]))
    if not keep.all():
        traffic = _select(traffic, keep)
    return with_logged_lights(scene, traffic) if lights else traffic


def with_logged_lights(scene: Scene, traffic: Traffic) -> Traffic:
    """Add the red lights of the route as logged: a key frame's state holds until the next one."""
    frames = np.arange(len(traffic.present))
    return _with_lights(scene, traffic, scene.light_red[frames // round(KEY_STEP_S / STEP_S)])


def forecast_traffic(scene: Scene) -> Traffic:
    """The forecast of PDM-Closed: constant velocity from now on, every 0.2 s for 5 s; red lights
    stay red.

    Tracks move along their heading, or against it where their velocity opposes it. Those that touch
    the ego now are ignored.
    """
    now = scene.agents[0]
    chosen = _nearest(scene, now)
    heading, velocity = now[chosen, 3], now[chosen, 4:6]
    speed = np.hypot(velocity[:, 0], velocity[:, 1]) * _moves(scene.agent_category[chosen])
    turn = heading - np.arctan2(velocity[:, 1], velocity[:, 0])
    course = np.where(
        np.abs(np.arctan2(np.sin(turn), np.cos(turn))) < np.pi / 2, heading, heading + np.pi
    )
    step = np.stack([np.cos(course) * speed, np.sin(course) * speed], axis=1)
    pose = np.repeat(now[None, chosen, 1:4], FORECAST_FRAMES, axis=0)
    pose[..., :2] += (np.arange(FORECAST_FRAMES) * FORECAST_STRIDE * STEP_S)[:, None, None] * step
    present = np.ones(pose.shape[:2], dtype=bool)
    traffic = traffic_of(scene, present, pose, np.broadcast_to(speed, present.shape), chosen)
    traffic = traffic._replace(
        ignored=touches_ego(scene, traffic.corners[0]), stride=FORECAST_STRIDE
    )
    return _with_lights(scene, traffic, np.repeat(scene.light_red[:1], FORECAST_FRAMES, axis=0))


def _moves(category: np.ndarray) -> np.ndarray:
    """Bool: vehicles, pedestrians and bicycles (the devkit's AGENT_TYPES); the rest is static."""
    return category <= Category.BICYCLE


def _nearest(scene: Scene, now: np.ndarray) -> np.ndarray:
    """Indices of the tracks that PDM-Closed considers: within 100 m, the nearest of each kind up to
    its limit, static objects first.
    """
    distance = np.hypot(*(now[:, 1:3] - ego_center(scene.ego)).T)
    seen = (now[:, 0] > 0) & (distance <= _FORECAST_RADIUS_M)
    groups = [(~_moves(scene.agent_category), _FORECAST_LIMIT_STATIC)]
    groups += [(scene.agent_category == kind, most) for kind, most in _FORECAST_LIMIT.items()]
    members = [(np.flatnonzero(group & seen), most) for group, most in groups]
    return np.concatenate([rows[np.argsort(distance[rows])][:most] for rows, most in members])


def interpolated(
    key: np.ndarray, quirks: Quirks = DEVKIT
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Key frames (K, A, 6) at 2 Hz -> present (F, A), pose (F, A, 3) and velocity (F, A, 2) at 10
    Hz.

    Linear between sightings, also across gaps; absent before the first and after the last. A track
    with a single sighting is present, unmoved, in every frame.
    """
    frames = round((len(key) - 1) * KEY_STEP_S / STEP_S) + 1
    time, key_time = np.arange(frames) * STEP_S, np.arange(len(key)) * KEY_STEP_S
    present, values = np.zeros((frames, key.shape[1]), bool), np.zeros((frames, key.shape[1], 5))
    seen = key[..., 0] > 0
    complete = seen.all(axis=0)
    if complete.any():
        later = np.clip(np.searchsorted(key_time, time), 1, len(key) - 1)
        part = (time - key_time[later - 1]) / (key_time[later] - key_time[later - 1])
        part = part[:, None, None]
        track = key[:, complete, 1:].copy()
        track[..., 2] = np.unwrap(track[..., 2], axis=0)
        values[:, complete] = track[later - 1] + (track[later] - track[later - 1]) * part
        present[:, complete] = True
    for a in np.flatnonzero(seen.any(axis=0) & ~complete):
        rows = np.flatnonzero(seen[:, a])
        track = key[rows, a, 1:].copy()
        track[:, 2] = np.unwrap(track[:, 2])
        values[:, a] = np.stack(
            [np.interp(time, key_time[rows], track[:, k]) for k in range(5)], axis=1
        )
        everywhere = len(rows) == 1 and quirks.single_sighting_everywhere
        present[:, a] = everywhere | ((time >= key_time[rows[0]]) & (time <= key_time[rows[-1]]))
    values[..., 2] = np.arctan2(np.sin(values[..., 2]), np.cos(values[..., 2]))
    return present, values[..., :3], values[..., 3:]


def traffic_of(
    scene: Scene, present: np.ndarray, pose: np.ndarray, speed: np.ndarray, chosen: np.ndarray
) -> Traffic:
    """Traffic without lights from the tracks `chosen` of a scene."""
    pose, half = np.ascontiguousarray(pose), scene.agent_lwh[chosen, :2] / 2
    corners, moves = box_corners(pose, half), _moves(scene.agent_category[chosen])
    radius = np.hypot(half[:, 0], half[:, 1])
    low = (
        np.where(present[..., None], pose[..., :2], np.inf).min(axis=0, initial=np.inf)
        - radius[:, None]
    )
    high = (
        np.where(present[..., None], pose[..., :2], -np.inf).max(axis=0, initial=-np.inf)
        + radius[:, None]
    )
    facing = np.stack([np.cos(pose[..., 2]), np.sin(pose[..., 2])], axis=-1)
    return Traffic(
        present,
        pose,
        facing,
        corners,
        half,
        radius,
        np.ascontiguousarray(speed * moves),
        moves,
        np.concatenate([low, high], axis=1),
        np.zeros(len(chosen), bool),
        np.zeros((0, 2)),
        np.zeros(1, np.int64),
        np.zeros((0, 4)),
        np.zeros((len(present), 0), bool),
        1,
    )


def _select(traffic: Traffic, keep: np.ndarray) -> Traffic:
    """The traffic with only the tracks of a mask (A,)."""
    over_time = ("present", "pose", "facing", "corners", "speed")
    kept: dict[str, Any] = {name: getattr(traffic, name)[:, keep] for name in over_time}
    kept |= {
        name: getattr(traffic, name)[keep]
        for name in ("half", "radius", "moves", "sweep", "ignored")
    }
    kept = {name: np.ascontiguousarray(value) for name, value in kept.items()}
    return traffic._replace(**kept)


def _with_lights(scene: Scene, traffic: Traffic, red: np.ndarray) -> Traffic:
    """Add the lights of the route's connectors that are ever red; `red` is (F, lights of the
    scene).
    """
    ever_red = red.any(axis=0) & np.isin(scene.light_token, scene.route_lane_token)
    connectors = np.flatnonzero(scene.map_layer == MapLayer.LANE_CONNECTOR)
    polygon_of = dict(zip(scene.map_token[connectors].tolist(), connectors.tolist(), strict=True))
    lights = [i for i in np.flatnonzero(ever_red) if scene.light_token[i] in polygon_of]
    if not lights:
        return traffic
    polygons = [polygon_of[scene.light_token[i]] for i in lights]
    rings = [scene.map_xy[scene.map_start[m] : scene.map_start[m + 1]] for m in polygons]
    start = np.concatenate([[0], np.cumsum([len(ring) for ring in rings])]).astype(np.int64)
    bounds = np.array([[*ring.min(axis=0), *ring.max(axis=0)] for ring in rings])
    return traffic._replace(
        light_xy=np.concatenate(rings),
        light_start=start,
        light_bounds=bounds,
        red=np.ascontiguousarray(red[:, lights]),
    )
