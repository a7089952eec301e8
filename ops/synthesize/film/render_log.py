"""Renders the camera images of a recording: model instances and lamps of each frame, weather."""

from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache

import numpy as np

from ops.synthesize.film.camera import Camera
from ops.synthesize.film.ground import Palette, paint_ground
from ops.synthesize.film.mesh_batch import MeshBatch, make_mesh_batch
from ops.synthesize.film.props import (
    CAR_COLOURS,
    Instances,
    colours,
    concatenate_instances,
    place_props,
)
from ops.synthesize.film.render import Light, Renderer, ShadowCasters, make_shadow_casters
from ops.synthesize.film.shapes import VEHICLE_KINDS, Role
from ops.synthesize.town.signals import AMBER, GREEN, RED
from ops.synthesize.town.town import Town, TownConfig
from ops.synthesize.traffic.events import CYCLIST, HAZARD
from ops.synthesize.traffic.recording import CONE_SIZE_M, Recording
from ops.synthesize.traffic.traffic import REAR_SHARE

SIGHT_M = 115.0  # moving instances and signals farther away are not drawn
LAMP_ON = {Role.RED: (255, 40, 30), Role.AMBER: (255, 176, 32), Role.GREEN: (40, 255, 130)}
CLOTHES = np.array(
    [
        (180, 40, 44),
        (36, 66, 138),
        (228, 196, 60),
        (44, 110, 76),
        (230, 226, 218),
        (120, 60, 120),
        (226, 120, 40),
    ],
    float,
)


_UP = (0.0, 0.0, 1.0)
WEATHERS = {
    "clear": Light(
        sun=_UP,
        ambient=0.62,
        direct=0.50,
        tint=(1.0, 0.99, 0.96),
        zenith=(92, 142, 206),
        horizon=(198, 214, 226),
        haze_m=420.0,
        shadow=0.42,
    ),
    "overcast": Light(
        sun=_UP,
        ambient=0.80,
        direct=0.10,
        tint=(0.94, 0.96, 1.0),
        zenith=(150, 158, 168),
        horizon=(204, 208, 212),
        haze_m=260.0,
        shadow=0.16,
    ),
    "haze": Light(
        sun=_UP,
        ambient=0.80,
        direct=0.14,
        tint=(1.0, 1.0, 1.0),
        zenith=(176, 182, 186),
        horizon=(208, 210, 208),
        haze_m=95.0,
        shadow=0.14,
        lamps=True,
    ),
    "evening": Light(
        sun=_UP,
        ambient=0.56,
        direct=0.52,
        tint=(1.0, 0.86, 0.68),
        zenith=(88, 108, 156),
        horizon=(244, 196, 148),
        haze_m=300.0,
        shadow=0.40,
        lamps=True,
    ),
}


def weather(rng: np.random.Generator) -> Light:
    """A random weather: clear, overcast, haze, or evening with a low sun."""
    kind = str(rng.choice(("clear", "overcast", "haze", "evening"), p=(0.42, 0.26, 0.16, 0.16)))
    bearing = rng.uniform(0, 2 * np.pi)
    elevation = {
        "clear": rng.uniform(0.7, 1.1),
        "overcast": 1.2,
        "haze": 0.9,
        "evening": rng.uniform(0.30, 0.42),
    }[kind]
    sun = (
        float(np.cos(bearing) * np.cos(elevation)),
        float(np.sin(bearing) * np.cos(elevation)),
        float(np.sin(elevation)),
    )
    return replace(WEATHERS[kind], sun=sun)


def render_log(
    town: Town,
    recording: Recording,
    cameras: list[Camera],
    palette: Palette,
    light: Light,
    rng: np.random.Generator,
) -> Iterator[tuple[np.ndarray, ...]]:
    """For each frame of the recording one image (H, W, 3) uint8 RGB per camera."""
    static, signals, casters = _static_scene(town.config, palette)
    seed = int(rng.integers(1 << 30))
    renderers = [
        Renderer(camera, paint_ground(town.config, palette), static, casters, light, seed)
        for camera in cameras
    ]
    paint = CAR_COLOURS[rng.integers(0, len(CAR_COLOURS), len(recording.kind))]
    clothes = CLOTHES[rng.integers(0, len(CLOTHES), recording.walker_xy.shape[1])]
    trousers = CLOTHES[rng.integers(0, 2, recording.walker_xy.shape[1])] * 0.5
    row_of = {junction: row for row, junction in enumerate(town.junctions)}
    rows = np.array([row_of[int(junction)] for junction in signals.light[:, 0]])
    cones = _cones(recording)
    for frame in range(len(recording.time_s)):
        ego_xy = recording.pose[frame, 0, :2]
        vehicles, (people, stride) = (
            _vehicles(recording, frame, paint, light),
            _pedestrians(recording, frame, clothes, trousers),
        )
        in_sight = _is_in_sight(signals, ego_xy)
        lamps = _lit_signals(signals.take(in_sight), rows[in_sight], recording.signals[frame])
        instances = concatenate_instances([vehicles, people, lamps, cones])
        swing = np.concatenate(
            [np.zeros(len(vehicles.model)), stride, np.zeros(len(lamps.model) + len(cones.model))]
        )
        in_sight = _is_in_sight(instances, ego_xy)
        instances = instances.take(in_sight)
        moving, shadows = (
            [make_mesh_batch(instances, swing[in_sight])],
            make_shadow_casters(instances),
        )
        yield tuple(
            renderer.render(recording.pose[frame, 0], moving, shadows) for renderer in renderers
        )


def _is_in_sight(instances: Instances, ego_xy: np.ndarray) -> np.ndarray:
    away = instances.position[:, :2] - ego_xy
    return np.hypot(away[:, 0], away[:, 1]) < SIGHT_M


@lru_cache(maxsize=2)
def _static_scene(
    config: TownConfig, palette: Palette
) -> tuple[MeshBatch, Instances, ShadowCasters]:
    """Static quads, signals, and shadow casters of a town; cached for the process."""
    instances = place_props(config, palette)
    is_signal = instances.model == "signal"
    return (
        make_mesh_batch(instances.take(~is_signal)),
        instances.take(is_signal),
        make_shadow_casters(instances),
    )


def _vehicles(recording: Recording, frame: int, paint: np.ndarray, light: Light) -> Instances:
    """The vehicles of a frame but the ego; `paint` (V, 3) are their colours."""
    pose, size, kind = recording.pose[frame, 1:], recording.size_m[1:], recording.kind[1:]
    middle = (
        size[:, :1]
        * (0.5 - REAR_SHARE)
        * np.stack([np.cos(pose[:, 2]), np.sin(pose[:, 2])], axis=1)
    )
    colour = np.tile(colours(), (len(pose), 1, 1))
    colour[:, Role.BODY] = paint[1:]
    colour[kind == 3, Role.EXTRA] = (60, 84, 130)
    accel, speed = recording.accel_mps2[frame, 1:], recording.speed_mps[frame, 1:]
    braking = (accel < -0.45) | (speed < 0.3)
    colour[braking, Role.BRAKE] = (255, 34, 26)
    blink = (recording.time_s[frame] * 2.0) % 1.0 < 0.75
    turning = recording.blinker[frame, 1:]
    if blink:
        colour[turning > 0, Role.LEFT] = (255, 170, 30)
        colour[(turning < 0) | (turning == HAZARD), Role.RIGHT] = (255, 170, 30)
    if light.lamps:
        colour[:, Role.HEAD] = (255, 250, 225)
        colour[~braking, Role.BRAKE] = (168, 20, 18)
    colour[kind == CYCLIST, Role.EXTRA] = (206, 160, 128)
    colour[kind == CYCLIST, Role.RIGHT] = (40, 90, 160)
    names = np.array((*VEHICLE_KINDS, "cyclist"), object)[kind]
    return Instances(
        names,
        np.column_stack([pose[:, :2] + middle, np.zeros(len(pose))]),
        pose[:, 2],
        size,
        colour,
        np.zeros((len(pose), 2), int),
    )


def _pedestrians(
    recording: Recording, frame: int, clothes: np.ndarray, trousers: np.ndarray
) -> tuple[Instances, np.ndarray]:
    """The pedestrians of a frame, and their strides (P,) in [-1, 1]."""
    xy, velocity = recording.walker_xy[frame], recording.walker_velocity[frame]
    count = len(xy)
    colour = np.tile(colours(EXTRA=(206, 160, 128)), (count, 1, 1))
    colour[:, Role.BODY], colour[:, Role.TRIM] = clothes, trousers
    walked = np.hypot(*(xy - recording.walker_xy[0]).T) + np.arange(count)
    stride = np.sin(walked * 2 * np.pi / 1.5) * (np.hypot(*velocity.T) > 0)
    size = (
        np.tile((0.42, 0.56, 1.75), (count, 1))
        * (1 + 0.05 * np.sin(np.arange(count) * 7.0))[:, None]
    )
    return Instances(
        np.full(count, "person", object),
        np.column_stack([xy, np.zeros(count)]),
        recording.walker_yaw_rad,
        size,
        colour,
        np.zeros((count, 2), int),
    ), stride


def _cones(recording: Recording) -> Instances:
    pose, count = recording.cone_pose, len(recording.cone_pose)
    colour = np.tile(colours(BODY=(236, 96, 28), TRIM=(240, 240, 240)), (count, 1, 1))
    return Instances(
        np.full(count, "cone", object),
        np.column_stack([pose[:, :2], np.zeros(count)]),
        pose[:, 2],
        np.tile(CONE_SIZE_M, (count, 1)),
        colour,
        np.zeros((count, 2), int),
    )


def _lit_signals(signals: Instances, rows: np.ndarray, states: np.ndarray) -> Instances:
    """Signals (N,) with the lamp of their state lit; `rows` (N,) index `states` (J, 2)."""
    state = states[rows, signals.light[:, 1]]
    colour = signals.colour.copy()
    for value, role in ((GREEN, Role.GREEN), (AMBER, Role.AMBER), (RED, Role.RED)):
        colour[state == value, role] = LAMP_ON[role]
    return Instances(
        signals.model, signals.position, signals.yaw_rad, signals.size_m, colour, signals.light
    )
