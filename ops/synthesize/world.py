"""The logs of the synthetic world: their ids and splits, and writing one of them.

The configuration and the log_id determine every byte of a log, so logs can be made alone, in any
order and in parallel.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from ops.synthesize.config import WorldConfig
from ops.synthesize.film.camera import Camera
from ops.synthesize.film.ground import Palette
from ops.synthesize.film.props import parked_cars
from ops.synthesize.film.render import Light
from ops.synthesize.film.render_log import render_log, weather
from ops.synthesize.town.build_town import build_town
from ops.synthesize.town.town import Town, TownConfig
from ops.synthesize.traffic.expert import SHORTEST_EVENT_S, DriveConfig, drive
from ops.synthesize.traffic.recording import Recording
from ops.synthesize.writers.nuplan import write_map
from ops.synthesize.writers.openscene import CAMERA_YAWS_DEG, CAMERAS, write_log
from storage.errors import ConfigError, unknown_name

SPLITS = ("train", "val", "test")
PALETTE = Palette()
_FIRST_DAY_US = 1_622_505_600_000_000  # logs start from this time on, one every 15 minutes


def world_log_ids(config: WorldConfig) -> list[tuple[str, str]]:
    """(log_id, split) of every log, in order. Raises ConfigError for an invalid configuration."""
    if config.town != "A":
        raise unknown_name("town", config.town, ["A"])
    if config.seconds * config.hz < 2 or 10.0 % config.hz:
        raise ConfigError(
            "the world cannot be recorded with this configuration",
            expected="at least two frames, and 10 a multiple of hz",
            found=f"seconds={config.seconds}, hz={config.hz}",
        )
    if config.event_rate > 0 and config.seconds < SHORTEST_EVENT_S:
        raise ConfigError(
            "the logs are too short for rare events",
            expected=f"seconds of at least {SHORTEST_EVENT_S:g}",
            found=f"seconds={config.seconds:g}, event_rate={config.event_rate:g}",
            do="choose longer logs, or no rare events: event_rate=0",
        )
    for name in config.cameras:
        if name not in CAMERAS:
            raise unknown_name("camera", name, CAMERAS)
    if config.cameras[:1] != CAMERAS[:1] or len(set(config.cameras)) < len(config.cameras):
        raise ConfigError(
            "the cameras must be listed with the front camera first, and every camera once",
            found=config.cameras,
            expected=f"{CAMERAS[0]}, then others",
            do=f"choose for example cameras=('{CAMERAS[0]}', 'CAM_L0', 'CAM_R0')",
        )
    counts = (config.train_logs, config.val_logs, config.test_logs)
    return [
        (f"{config.town}-{split}-{number:04d}", split)
        for split, count in zip(SPLITS, counts, strict=True)
        for number in range(count)
    ]


@dataclass(frozen=True, slots=True)
class DrivenLog:
    """One log before it is rendered."""

    town: Town
    recording: Recording
    cameras: list[Camera]  # the front camera first
    light: Light
    jitter_us: np.ndarray  # (T,) added to the frames' times
    rng: np.random.Generator  # in the state in which rendering starts


def drive_log(config: WorldConfig, log_id: str) -> DrivenLog:
    """Drive one log. Raises ConfigError for a log_id that is not in the configuration."""
    splits = dict(world_log_ids(config))
    if log_id not in splits:
        raise unknown_name("log", log_id, splits)
    town_config = TownConfig(seed=config.seed)
    town = build_town(town_config)
    rng = np.random.default_rng(
        [config.seed, int(hashlib.sha256(log_id.encode()).hexdigest()[:12], 16)]
    )
    drive_config = DriveConfig(
        frames=round(config.seconds * config.hz),
        hz=config.hz,
        event_rate=config.event_rate,
        east=splits[log_id] == "test" and _number(log_id) % 2 == 1,
    )
    recording = drive(town, parked_cars(town_config, PALETTE), drive_config, rng)
    cameras = [
        Camera(name, config.image_width, config.image_height, yaw_rad=float(np.deg2rad(yaw_deg)))
        for name, yaw_deg in zip(CAMERAS, CAMERA_YAWS_DEG, strict=True)
        if name in config.cameras
    ]
    jitter_us = rng.integers(-400, 400, len(recording.time_s))
    return DrivenLog(town, recording, cameras, weather(rng), jitter_us, rng)


def synthesize_log(raw: Path, config: WorldConfig, log_id: str) -> None:
    """Write one log below `raw` in OpenScene's layout, and the town's map if it is missing.

    Raises ConfigError for a log_id that is not in the configuration.
    """
    cv2.setNumThreads(1)
    log, split = drive_log(config, log_id), log_id.split("-")[1]
    images = render_log(log.town, log.recording, log.cameras, PALETTE, log.light, log.rng)
    start_us = _FIRST_DAY_US + 900_000_000 * (1000 * SPLITS.index(split) + _number(log_id))
    write_map(raw, log.town)
    write_log(
        raw, split, log_id, log.town, log.recording, log.cameras, images, start_us, log.jitter_us
    )


def _number(log_id: str) -> int:
    return int(log_id.rsplit("-", 1)[1])
