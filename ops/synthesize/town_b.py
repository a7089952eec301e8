"""Town B of the synthetic world, for zero-shot evaluation: writes its scenes in nuScenes' format.

It differs from town A in colours, camera height, focal length, image size and street layout, and is
never trained on. The configuration determines every byte.
"""

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from ops.synthesize.config import TownBConfig
from ops.synthesize.film.camera import Camera
from ops.synthesize.film.ground import Palette
from ops.synthesize.film.props import parked_cars
from ops.synthesize.film.render_log import render_log, weather
from ops.synthesize.town.build_town import build_town
from ops.synthesize.town.town import TownConfig
from ops.synthesize.traffic.expert import DriveConfig, drive
from ops.synthesize.writers.nuscenes import DrivenScene, write_data_set
from storage.errors import ConfigError

HZ = 2.0  # samples a second, as in nuScenes
FIRST_SCENE = 9001  # numbers of nuScenes' published scenes end at 1110
PALETTE = Palette(
    asphalt=(112, 106, 100),
    junction=(106, 100, 95),
    bay=(92, 94, 102),
    kerb=(214, 206, 178),
    pavement=(178, 148, 126),
    grass=(132, 124, 70),
    paint=(240, 240, 236),
    middle=(236, 236, 230),
)
_FIRST_DAY_US = 1_654_041_600_000_000  # scenes start from this time on, one every 15 minutes


def scene_names(config: TownBConfig) -> list[str]:
    """Names of all scenes, in order. Raises ConfigError for a configuration without drives."""
    if config.scenes < 1 or config.seconds * HZ < 2 or config.blocks < 2:
        raise ConfigError(
            "town B cannot be recorded with this configuration",
            expected="at least two blocks, one scene, and two samples in each",
            found=f"blocks={config.blocks}, scenes={config.scenes}, seconds={config.seconds}",
        )
    return [f"scene-{FIRST_SCENE + number}" for number in range(config.scenes)]


def town_config_b(config: TownBConfig) -> TownConfig:
    """The street layout: longer blocks than in town A, and arms closer to the grid's axes."""
    return TownConfig(
        seed=config.seed,
        columns=config.blocks + 1,
        rows=config.blocks + 1,
        spacing_m=132.0,
        jitter_m=15.0,
        rotation_rad=(0.08, 0.26),
        bulge_m=17.0,
        wide_columns=(1,),
        wide_rows=(2,),
        wide_median_m=3.6,
        minor_median_m=0.9,
        minor_median_share=0.3,
        minor_speed_mps=12.0,
        wide_speed_mps=15.0,
    )


def synthesize_town_b(raw: Path, config: TownBConfig) -> None:
    """Write the data set to `raw`, which appears when it is complete.

    Raises ConfigError for a configuration without drives.
    """
    names = scene_names(config)
    cv2.setNumThreads(1)
    camera = Camera(
        "CAM_FRONT",
        config.image_width,
        config.image_height,
        config.focal_share,
        config.camera_m,
        pitch_rad=config.pitch_rad,
    )
    write_data_set(
        raw, build_town(town_config_b(config)), PALETTE, camera, _scenes(config, names, camera)
    )


def _scenes(config: TownBConfig, names: list[str], camera: Camera) -> Iterator[DrivenScene]:
    town_config = town_config_b(config)
    town, parked = build_town(town_config), parked_cars(town_config, PALETTE)
    drive_config = DriveConfig(
        frames=round(config.seconds * HZ), hz=HZ, event_rate=config.event_rate
    )
    for number, name in enumerate(names):
        rng = np.random.default_rng([config.seed, 404, number])
        recording = drive(town, parked, drive_config, rng)
        start_us = _FIRST_DAY_US + 900_000_000 * number
        time_us = (
            start_us
            + np.round(recording.time_s * 1e6).astype(np.int64)
            + rng.integers(-400, 400, len(recording.time_s))
        )
        yield DrivenScene(
            name,
            recording,
            render_log(town, recording, [camera], PALETTE, weather(rng), rng),
            time_us,
        )
