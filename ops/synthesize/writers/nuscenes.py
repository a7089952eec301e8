"""Writes recordings as a nuScenes data set: tables, camera samples, maps and CAN bus files.

The tables hold all scenes, so the whole set is written to a temporary folder and renamed. There is
no lidar and no radar: `num_lidar_pts` is 0 everywhere, and visibility, which nuScenes counts over
six cameras, is left empty as its schema allows.
"""

import json
import os
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from scipy.spatial.transform import Rotation

from ops.synthesize.film.camera import Camera
from ops.synthesize.film.ground import Palette
from ops.synthesize.town.town import Town
from ops.synthesize.traffic.recording import Recording
from ops.synthesize.writers.nuscenes_boxes import ATTRIBUTES, CATEGORIES, add_annotations
from ops.synthesize.writers.nuscenes_map import LOCATION, basemap_mask, map_expansion
from ops.synthesize.writers.nuscenes_shapes import Record, quaternion, rounded, row_tokens, token

VERSION = "v1.0-town-b"  # folder of the tables
JPEG_QUALITY = 90
ROUTE_AHEAD_M = 80  # of the planned route written beyond the end of the drive
VISIBILITIES = ("v0-40", "v40-60", "v60-80", "v80-100")
MASK_FILE = f"maps/{LOCATION}.png"


@dataclass(frozen=True, slots=True)
class DrivenScene:
    """One recorded scene with its images and times; T frames."""

    name: str  # scene-<number>
    recording: Recording
    images: Iterator[tuple[np.ndarray, ...]]  # for each frame one (H, W, 3) uint8 RGB image
    time_us: np.ndarray  # (T,) int64


def write_data_set(
    raw: Path, town: Town, palette: Palette, camera: Camera, scenes: Iterable[DrivenScene]
) -> None:
    """Write the whole set; it replaces `raw` when it is complete."""
    part = raw.with_name(f".{raw.name}.part-{os.getpid()}")
    shutil.rmtree(part, ignore_errors=True)
    try:
        _write_all(part, town, palette, camera, scenes)
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise
    shutil.rmtree(raw, ignore_errors=True)
    os.replace(part, raw)


def _write_all(
    root: Path, town: Town, palette: Palette, camera: Camera, scenes: Iterable[DrivenScene]
) -> None:
    (root / "samples" / camera.name).mkdir(parents=True)
    tables = _static_tables(camera)
    for scene in scenes:
        _write_images(root, scene, camera)
        _add_scene(tables, scene, camera)
        _write_can_bus(root, scene)
    tables["map"] = [
        {
            "token": token("map"),
            "log_tokens": [row["token"] for row in tables["log"]],
            "category": "semantic_prior",
            "filename": MASK_FILE,
        }
    ]
    for name, rows in tables.items():
        _write_json(root / VERSION / f"{name}.json", rows)
    _write_json(root / VERSION / "splits.json", {"test": [row["name"] for row in tables["scene"]]})
    _write_json(root / "maps" / "expansion" / f"{LOCATION}.json", map_expansion(town, palette))
    encoded_ok, encoded = cv2.imencode(".png", basemap_mask(town), [cv2.IMWRITE_PNG_COMPRESSION, 3])
    assert encoded_ok
    (root / MASK_FILE).write_bytes(encoded.tobytes())


def _static_tables(camera: Camera) -> dict[str, list[Record]]:
    """The tables that do not depend on scenes, and the others empty."""
    empty: dict[str, list[Record]] = {
        name: []
        for name in (
            "instance",
            "calibrated_sensor",
            "ego_pose",
            "log",
            "scene",
            "sample",
            "sample_data",
            "sample_annotation",
            "map",
        )
    }
    return empty | {
        "category": [
            {"token": token(name), "name": name, "description": ""} for name in CATEGORIES
        ],
        "attribute": [
            {"token": token(name), "name": name, "description": ""} for name in ATTRIBUTES
        ],
        "visibility": [
            {"token": str(number), "level": level, "description": ""}
            for number, level in enumerate(VISIBILITIES, start=1)
        ],
        "sensor": [{"token": token(camera.name), "channel": camera.name, "modality": "camera"}],
    }


def _add_scene(tables: dict[str, list[Record]], scene: DrivenScene, camera: Camera) -> None:
    """Add the rows of one scene to all tables."""
    name, frames = scene.name, len(scene.time_us)
    samples, images = (
        [token(f"{name}/{kind}/{index}") for index in range(frames)]
        for kind in ("sample", camera.name)
    )
    tags = sorted({tag for frame in scene.recording.tags for tag in frame})
    tables["log"].append(
        {
            "token": token(f"{name}/log"),
            "logfile": f"town-b-{name}",
            "vehicle": "expert",
            "location": LOCATION,
            "date_captured": datetime.fromtimestamp(int(scene.time_us[0]) * 1e-6, UTC).strftime(
                "%Y-%m-%d"
            ),
        }
    )
    tables["scene"].append(
        {
            "token": token(name),
            "log_token": token(f"{name}/log"),
            "nbr_samples": frames,
            "first_sample_token": samples[0],
            "last_sample_token": samples[-1],
            "name": name,
            "description": ", ".join(tags) or "ordinary traffic",
        }
    )
    tables["calibrated_sensor"].append(
        {
            "token": token(f"{name}/{camera.name}"),
            "sensor_token": token(camera.name),
            "translation": rounded(*camera.to_ego[:3, 3]),
            "camera_intrinsic": camera.intrinsics.tolist(),
            "rotation": Rotation.from_matrix(camera.to_ego[:3, :3])
            .as_quat()[[3, 0, 1, 2]]
            .tolist(),
        }
    )
    _add_samples(tables, scene, camera, samples, images)
    add_annotations(tables, name, scene.recording, samples)


def _add_samples(
    tables: dict[str, list[Record]],
    scene: DrivenScene,
    camera: Camera,
    samples: list[str],
    images: list[str],
) -> None:
    """Add samples, ego poses and images; `samples` and `images` are their tokens (T,)."""
    for index, time_us in enumerate(scene.time_us.tolist()):
        x, y, yaw = scene.recording.pose[index, 0]
        tables["sample"].append(
            {**row_tokens(samples, index), "timestamp": time_us, "scene_token": token(scene.name)}
        )
        tables["ego_pose"].append(
            {
                "token": images[index],
                "timestamp": time_us,
                "translation": rounded(x, y, 0.0),
                "rotation": quaternion(yaw),
            }
        )
        tables["sample_data"].append(
            {
                **row_tokens(images, index),
                "sample_token": samples[index],
                "ego_pose_token": images[index],
                "calibrated_sensor_token": token(f"{scene.name}/{camera.name}"),
                "timestamp": time_us,
                "fileformat": "jpg",
                "is_key_frame": True,
                "height": camera.height,
                "width": camera.width,
                "filename": _image_name(scene, camera, index),
            }
        )


def _write_images(root: Path, scene: DrivenScene, camera: Camera) -> None:
    for index, (view,) in enumerate(scene.images):
        encoded_ok, encoded = cv2.imencode(
            ".jpg", view[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]
        )
        assert encoded_ok
        (root / _image_name(scene, camera, index)).write_bytes(encoded.tobytes())


def _write_can_bus(root: Path, scene: DrivenScene) -> None:
    """Write the planned route, which gives the driving command, and one pose message a sample.

    The real cars send fifty pose messages a second.
    """
    recording = scene.recording
    motion = zip(
        scene.time_us.tolist(),
        recording.speed_mps[:, 0],
        recording.accel_mps2[:, 0],
        recording.lateral_mps2[:, 0],
        recording.pose[:, 0],
        strict=True,
    )
    _write_json(
        root / "can_bus" / f"{scene.name}_pose.json",
        [
            {
                "utime": time_us,
                "pos": rounded(pose[0], pose[1], 0.0),
                "orientation": quaternion(pose[2]),
                "vel": rounded(speed, 0.0, 0.0),
                "accel": rounded(accel, lateral, 9.81),
                "rotation_rate": rounded(0.0, 0.0, lateral / speed if speed > 0.5 else 0.0),
            }
            for time_us, speed, accel, lateral, pose in motion
        ],
    )
    # not farther: a route that returns to the same street would be ambiguous
    end = int(recording.travelled_m[-1]) + ROUTE_AHEAD_M
    _write_json(
        root / "can_bus" / f"{scene.name}_route.json",
        [rounded(x, y) for x, y in recording.route.path[:end, :2]],
    )


def _image_name(scene: DrivenScene, camera: Camera, index: int) -> str:
    return f"samples/{camera.name}/{scene.name}__{camera.name}__{scene.time_us[index]}.jpg"


def _write_json(file: Path, content: Any) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(content, separators=(",", ":")))
