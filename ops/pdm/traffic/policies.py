"""Simulated traffic of EPDMS: vehicles at constant velocity, or reacting to the plan (IDM).

Source: docs/metrics.md, "The human filter and traffic"; devkit traffic_agents_policies,
pdm_planner/observation/navsim_idm, nuplan planning/simulation/observation/idm. Vehicles seen now
are simulated for 4 s; all other road users move as logged, and vehicles that appear later are left
out. The reference cases hold no such traffic, so unlike the rest of the score this is not compared
with the devkit. Reacting vehicles (intelligent driver model) follow the centre line of their lane
and stop at its end. The devkit would extend their path and stop them at red lights, but its
observation never receives the lights. The shapes of the cars change at every step, so this is the
one part of the score that is not compiled. F = 41 frames, A tracks, C cars.
"""

from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np
import shapely

from ops.pdm.rules.geometry import ego_box
from ops.pdm.rules.quirks import DEVKIT, Quirks
from ops.pdm.rules.vehicle import (
    HALF_LENGTH_M,
    HALF_WIDTH_M,
    POSES,
    REAR_AXLE_TO_CENTER_M,
    STEP_S,
    State,
)
from ops.pdm.scene.scene import Scene
from ops.pdm.traffic.traffic import Traffic, interpolated, traffic_of, with_logged_lights
from storage.errors import ConfigError
from storage.trajectory_table import Category, MapLayer

TrafficPolicy = Literal["log_replay", "constant_velocity", "idm"]
POLICIES: tuple[TrafficPolicy, ...] = ("log_replay", "constant_velocity", "idm")
_KEY_FRAMES = 9
_TARGET_MPS, _GAP_M, _HEADWAY_S, _ACC, _DEC, _EXPONENT = 10.0, 1.0, 1.5, 1.0, 2.0, 4
_SNAP_M = 3.0  # vehicles farther than this from a centre line do not react
_RADIUS_M = 100.0  # vehicles farther than this from the ego are removed
_PARKED_MPS = 0.1


@dataclass(slots=True)
class _Car:
    """A reacting vehicle on a path."""

    track: int
    path: np.ndarray  # (n, 3) centre line
    along: np.ndarray  # (n,) distance from its start
    length: float
    width: float
    target_mps: float
    station: float  # distance along the path; beyond its end the car stays there
    speed: float
    # that the others react to: its box and the strip it covers in the next 1.5 s
    shape: shapely.Geometry

    def pose(self) -> np.ndarray:
        """(3,) pose on the path."""
        return np.array([np.interp(self.station, self.along, self.path[:, k]) for k in range(3)])

    def part(self, start: float, stop: float) -> shapely.Geometry:
        """The strip of the car's width between two stations of the path."""
        start, stop = np.clip([start, stop], 0.0, self.along[-1])
        # at the end of the path its last segment
        start = start if start < stop else self.along[-2]
        inner = self.path[(self.along > start) & (self.along < stop), :2]
        ends = [
            [np.interp(station, self.along, self.path[:, k]) for k in range(2)]
            for station in (start, stop)
        ]
        line = np.concatenate([ends[:1], inner, ends[1:]])
        return shapely.LineString(line).buffer(self.width / 2, cap_style="flat")


def simulated_traffic(
    scene: Scene, policy: TrafficPolicy, states: np.ndarray, quirks: Quirks = DEVKIT
) -> Traffic:
    """Traffic of 4 s around an ego with the simulated states (41, 11).

    Raises ConfigError for reacting traffic at a scene without centre lines of lanes.
    """
    present, pose, velocity = interpolated(scene.agents[:_KEY_FRAMES])
    vehicle, now = scene.agent_category == Category.VEHICLE, scene.agents[0, :, 0] > 0
    # the current frame holds only the tracks seen in it
    present[0] = now
    present[1:, vehicle] = now[vehicle]
    present, pose = present.copy(), pose.copy()
    cars = np.flatnonzero(vehicle & now)
    pose[:, cars] = scene.agents[0, cars, 1:4]
    if policy == "constant_velocity":
        pose[:, cars, :2] += (np.arange(POSES) * STEP_S)[:, None, None] * scene.agents[0, cars, 4:6]
    else:
        shift_m = 0.0 if quirks.idm_takes_rear_axle_for_center else REAR_AXLE_TO_CENTER_M
        ahead = np.stack([np.cos(states[:, State.YAW]), np.sin(states[:, State.YAW])], axis=1)
        states = states.copy()
        states[:, :2] += shift_m * ahead
        _react(scene, states, cars, present, pose)
    keep = np.flatnonzero(present.any(axis=0))
    present = np.ascontiguousarray(present[:, keep])
    first = velocity[present.argmax(axis=0), keep]  # speeds count as when first seen
    speed = np.broadcast_to(np.hypot(first[:, 0], first[:, 1]), present.shape)
    return with_logged_lights(scene, traffic_of(scene, present, pose[:, keep], speed, keep))


def _react(
    scene: Scene, states: np.ndarray, vehicles: np.ndarray, present: np.ndarray, pose: np.ndarray
) -> None:
    """Fill `present` (F, A) and `pose` (F, A, 3) of the vehicles from the second frame on. `states`
    (41, 11) are the ego's as the vehicles see it.
    """
    cars, parked = _cars(scene, vehicles)
    present[1:, vehicles] = False
    for step in range(1, POSES):
        ego = states[step - 1]
        cars = [car for car in cars if np.hypot(*(car.pose()[:2] - ego[:2])) <= _RADIUS_M]
        for car in cars:
            _advance(car, cars, ego)
        boxes = [_box(car.pose(), car.length, car.width) for car in cars]
        for car in cars:
            present[step, car.track], pose[step, car.track] = True, car.pose()
        for track, box in parked.items():
            present[step, track] = not shapely.intersects(box, boxes).any()


def _advance(car: _Car, cars: list[_Car], ego: np.ndarray) -> None:
    """One step of the intelligent driver model behind the nearest obstacle on the car's path."""
    ego_shape = _box(ego[[State.X, State.Y, State.YAW]], 2 * HALF_LENGTH_M, 2 * HALF_WIDTH_M)
    others = [other for other in cars if other is not car]
    shapes = np.array([ego_shape, *(other.shape for other in others)])
    met = np.flatnonzero(shapely.intersects(car.part(car.station, car.along[-1]), shapes))
    yaw = car.pose()[2]
    if len(met):
        distance = shapely.distance(car.shape, shapes[met])
        nearest, gap = int(met[distance.argmin()]), float(distance.min())
        if nearest == 0:
            speed, turn = float(np.hypot(ego[State.VX], ego[State.VY])), ego[State.YAW] - yaw
        else:
            speed, turn = others[nearest - 1].speed, others[nearest - 1].pose()[2] - yaw
        lead_speed = speed * float(np.cos(turn))
    else:  # free road: the end of the path is a wall
        gap, lead_speed = float(car.along[-1] - car.station) - car.length / 2, 0.0
    desired_gap = (
        _GAP_M
        + car.speed * _HEADWAY_S
        + car.speed * (car.speed - lead_speed) / (2 * np.sqrt(_ACC * _DEC))
    )
    rate = _ACC * (
        1 - (car.speed / car.target_mps) ** _EXPONENT - (desired_gap / max(gap, _GAP_M)) ** 2
    )
    car.station += STEP_S * car.speed
    car.speed = max(car.speed + STEP_S * float(np.clip(rate, -_DEC, _ACC)), 0.0)
    ahead = car.part(
        car.station - car.length / 2, car.station + car.length / 2 + car.speed * _HEADWAY_S
    )
    car.shape = shapely.union(ahead, _box(car.pose(), car.length, car.width))


def _cars(scene: Scene, vehicles: np.ndarray) -> tuple[list[_Car], dict[int, shapely.Geometry]]:
    """The reacting vehicles, each on its lane, and the boxes of parked ones beside the lanes, by
    track.

    A vehicle that would overlap the ego or another one on its lane is left out, and so is a moving
    one that is on no lane.
    """
    if len(scene.path_start) != len(scene.map_token) + 1:
        raise ConfigError(
            "the scene holds no centre lines of lanes",
            where=scene.where,
            do="build it with scene_from_tables, or score with traffic='log_replay'",
        )
    polygons = np.array([shapely.Polygon(scene.map_xy[a:b]) for a, b in pairwise(scene.map_start)])
    occupied = [shapely.polygons(ego_box(scene.ego))]
    cars: list[_Car] = []
    parked: dict[int, shapely.Geometry] = {}
    target_mps = _TARGET_MPS
    for track in vehicles:
        now, (length, width) = scene.agents[0, track], scene.agent_lwh[track, :2]
        inside = shapely.contains(polygons, shapely.Point(now[1], now[2]))
        path, on_road = _path(scene, inside, now)
        car = None if path is None else _snapped(scene, int(track), path)
        near = car is not None and np.hypot(*(car.pose()[:2] - now[1:3])) <= _SNAP_M
        if car is not None and path is not None and near:
            if not shapely.intersects(car.shape, occupied).any():
                # as in the devkit, a lane without a limit uses that of the vehicle before
                target_mps = float(scene.path_limit_mps[path]) or target_mps
                car.target_mps = target_mps
                occupied.append(car.shape)
                cars.append(car)
        elif car is not None or (np.hypot(now[4], now[5]) < _PARKED_MPS and not on_road):
            parked[int(track)] = _box(now[1:4], length, width)
    return cars, parked


def _snapped(scene: Scene, track: int, polygon: int) -> _Car:
    """A vehicle projected onto the centre line of a polygon."""
    now, (length, width) = scene.agents[0, track], scene.agent_lwh[track, :2]
    path = scene.path_xyyaw[scene.path_start[polygon] : scene.path_start[polygon + 1]].copy()
    path[:, 2] = np.unwrap(path[:, 2])
    along = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(path[:, :2], axis=0).T))])
    station = float(shapely.LineString(path[:, :2]).project(shapely.Point(now[1], now[2])))
    speed = float(np.hypot(now[4], now[5]))
    car = _Car(
        track,
        path,
        along,
        float(length),
        float(width),
        _TARGET_MPS,
        station,
        speed,
        shapely.Point(),
    )
    car.shape = _box(car.pose(), length, width)
    return car


def _path(scene: Scene, inside: np.ndarray, now: np.ndarray) -> tuple[int | None, bool]:
    """Polygon whose centre line a vehicle follows, and whether it is in a lane or an intersection.

    The polygon is one of the lanes that contain it, or in an intersection one of the connectors. Of
    several it is the one with the nearest heading; as in the devkit, headings are compared without
    unwrapping.
    """
    in_lane = inside & (scene.map_layer == MapLayer.LANE)
    at_intersection = bool((inside & (scene.map_layer == MapLayer.INTERSECTION)).any())
    candidates = (
        in_lane
        if in_lane.any()
        else inside & (scene.map_layer == MapLayer.LANE_CONNECTOR) & at_intersection
    )
    smallest, chosen = np.inf, None
    for polygon in np.flatnonzero(candidates & (np.diff(scene.path_start) > 1)):
        line = scene.path_xyyaw[scene.path_start[polygon] : scene.path_start[polygon + 1]]
        nearest = np.hypot(line[:, 0] - now[1], line[:, 1] - now[2]).argmin()
        difference = abs(line[nearest, 2] - now[3])
        if difference < smallest:
            smallest, chosen = difference, int(polygon)
    return chosen, bool(in_lane.any()) or at_intersection


def _box(pose: np.ndarray, length: float, width: float) -> shapely.Polygon:
    """A box around a centre pose (3,)."""
    c, s = np.cos(pose[2]), np.sin(pose[2])
    along, across = np.array([c, s]) * length / 2, np.array([-s, c]) * width / 2
    corners = [along + across, across - along, -along - across, along - across]
    return shapely.Polygon(np.asarray(pose[:2]) + corners)
