"""Writes recordings as a nuScenes data set: 13 tables, front-camera samples, basemap mask, map expansion, CAN bus files.

The tables hold all scenes, so a set is written in one go beside its place and renamed into it. There is no lidar and no radar:
`num_lidar_pts` is 0 everywhere, and visibility, which nuScenes counts over six cameras, is left empty as its schema allows.
"""

import hashlib
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

from ops.synthesize.camera import Camera
from ops.synthesize.events import CYCLIST
from ops.synthesize.ground import Palette
from ops.synthesize.nuscenes_map_writer import LOCATION, basemap_mask, map_expansion
from ops.synthesize.nuscenes_shapes import Record, rounded
from ops.synthesize.recording import Recording, RoadUsers, road_users
from ops.synthesize.town import Town

VERSION = "v1.0-town-b"         # folder of the tables
JPEG_QUALITY = 90
SIGHT_M = 80.0                  # things beyond are not annotated
TRUCK = 3                       # kind of spawn.KIND_SIZES
MOVING_MPS = 0.2                # slower things stand
CATEGORIES = ("vehicle.car", "vehicle.truck", "vehicle.bicycle", "human.pedestrian.adult", "movable_object.trafficcone")
ATTRIBUTES = ("vehicle.moving", "vehicle.stopped", "vehicle.parked", "cycle.with_rider", "pedestrian.moving",
              "pedestrian.standing")
VISIBILITIES = ("v0-40", "v40-60", "v60-80", "v80-100")
MASK_FILE = f"maps/{LOCATION}.png"


@dataclass(frozen=True, slots=True)
class Scene:
    """One recorded scene with what is needed to write it; T frames."""

    name: str                               # scene-<number>
    recording: Recording
    images: Iterator[tuple[np.ndarray, ...]]    # for each frame one (H, W, 3) uint8 RGB image
    time_us: np.ndarray                     # (T,) int64


def write_data_set(raw: Path, town: Town, palette: Palette, camera: Camera, scenes: Iterable[Scene]) -> None:
    """Write the whole set; it appears at `raw` when it is complete and takes the place of what lay there."""
    aside = raw.with_name(f".{raw.name}.part-{os.getpid()}")
    shutil.rmtree(aside, ignore_errors=True)
    try:
        _write_all(aside, town, palette, camera, scenes)
    except BaseException:
        shutil.rmtree(aside, ignore_errors=True)
        raise
    shutil.rmtree(raw, ignore_errors=True)
    os.replace(aside, raw)


def _write_all(aside: Path, town: Town, palette: Palette, camera: Camera, scenes: Iterable[Scene]) -> None:
    (aside / "samples" / camera.name).mkdir(parents=True)
    tables = _still_tables(camera)
    for scene in scenes:
        _write_images(aside, scene, camera)
        _add_scene(tables, scene, camera)
        _write_can_bus(aside, scene)
    tables["map"] = [{"token": _token("map"), "log_tokens": [row["token"] for row in tables["log"]],
                      "category": "semantic_prior", "filename": MASK_FILE}]
    for name, rows in tables.items():
        _write_json(aside / VERSION / f"{name}.json", rows)
    _write_json(aside / VERSION / "splits.json", {"test": [row["name"] for row in tables["scene"]]})
    _write_json(aside / "maps" / "expansion" / f"{LOCATION}.json", map_expansion(town, palette))
    done, encoded = cv2.imencode(".png", basemap_mask(town), [cv2.IMWRITE_PNG_COMPRESSION, 3])
    assert done
    (aside / MASK_FILE).write_bytes(encoded.tobytes())


def _still_tables(camera: Camera) -> dict[str, list[Record]]:
    """The tables with what does not depend on scenes filled in, the others empty."""
    empty: dict[str, list[Record]] = {name: [] for name in (
        "instance", "calibrated_sensor", "ego_pose", "log", "scene", "sample", "sample_data", "sample_annotation", "map")}
    return empty | {
        "category": [{"token": _token(name), "name": name, "description": ""} for name in CATEGORIES],
        "attribute": [{"token": _token(name), "name": name, "description": ""} for name in ATTRIBUTES],
        "visibility": [{"token": str(number), "level": level, "description": ""}
                       for number, level in enumerate(VISIBILITIES, start=1)],
        "sensor": [{"token": _token(camera.name), "channel": camera.name, "modality": "camera"}]}


def _add_scene(tables: dict[str, list[Record]], scene: Scene, camera: Camera) -> None:
    """Rows of one scene: log, calibration, samples with their images and poses, instances and annotations."""
    name, frames = scene.name, len(scene.time_us)
    samples, images = ([_token(f"{name}/{kind}/{index}") for index in range(frames)] for kind in ("sample", camera.name))
    tags = sorted({tag for frame in scene.recording.tags for tag in frame})
    tables["log"].append({
        "token": _token(f"{name}/log"), "logfile": f"town-b-{name}", "vehicle": "expert", "location": LOCATION,
        "date_captured": datetime.fromtimestamp(int(scene.time_us[0]) * 1e-6, UTC).strftime("%Y-%m-%d")})
    tables["scene"].append({
        "token": _token(name), "log_token": _token(f"{name}/log"), "nbr_samples": frames, "first_sample_token": samples[0],
        "last_sample_token": samples[-1], "name": name, "description": ", ".join(tags) or "ordinary traffic"})
    tables["calibrated_sensor"].append({
        "token": _token(f"{name}/{camera.name}"), "sensor_token": _token(camera.name),
        "translation": rounded(*camera.to_ego[:3, 3]), "camera_intrinsic": camera.intrinsics.tolist(),
        "rotation": Rotation.from_matrix(camera.to_ego[:3, :3]).as_quat()[[3, 0, 1, 2]].tolist()})
    for index, time_us in enumerate(scene.time_us.tolist()):
        x, y, yaw = scene.recording.pose[index, 0]
        tables["sample"].append({**_linked(samples, index), "timestamp": time_us, "scene_token": _token(name)})
        tables["ego_pose"].append({"token": images[index], "timestamp": time_us, "translation": rounded(x, y, 0.0),
                                   "rotation": _quaternion(yaw)})
        tables["sample_data"].append({
            **_linked(images, index), "sample_token": samples[index], "ego_pose_token": images[index],
            "calibrated_sensor_token": _token(f"{name}/{camera.name}"), "timestamp": time_us, "fileformat": "jpg",
            "is_key_frame": True, "height": camera.height, "width": camera.width, "filename": _image_name(scene, camera, index)})
    _add_annotations(tables, scene, samples)


def _add_annotations(tables: dict[str, list[Record]], scene: Scene, samples: list[str]) -> None:
    """One instance for each thing that comes near the ego, and its boxes in the order of time."""
    rows: dict[str, list[Record]] = {}
    category: dict[str, str] = {}
    for index, sample in enumerate(samples):
        users = road_users(scene.recording, index)
        near = np.hypot(*(users.xy - scene.recording.pose[index, 0, :2]).T) < SIGHT_M
        for row in np.flatnonzero(near):
            name = str(users.name[row])
            category[name] = _category(scene.recording, users, int(row))
            rows.setdefault(name, []).append(_box(users, int(row), sample))
    for name, boxes in rows.items():
        tokens = [_token(f"{scene.name}/{name}/{box['sample_token']}") for box in boxes]
        instance = _token(f"{scene.name}/{name}")
        tables["instance"].append({
            "token": instance, "category_token": _token(category[name]), "nbr_annotations": len(boxes),
            "first_annotation_token": tokens[0], "last_annotation_token": tokens[-1]})
        tables["sample_annotation"] += [{**_linked(tokens, place), "instance_token": instance, **box}
                                        for place, box in enumerate(boxes)]


def _box(users: RoadUsers, row: int, sample: str) -> Record:
    length, width, height = users.size_m[row]
    return {"sample_token": sample, "visibility_token": "", "attribute_tokens": _attributes(users, row),
            "translation": rounded(*users.xy[row], height / 2), "size": rounded(width, length, height),
            "rotation": _quaternion(users.yaw_rad[row]), "num_lidar_pts": 0, "num_radar_pts": 0}


def _category(recording: Recording, users: RoadUsers, row: int) -> str:
    group, number = str(users.name[row]).split("/")
    if group != "car":
        return {"walker": "human.pedestrian.adult", "parked": "vehicle.car", "cone": "movable_object.trafficcone"}[group]
    kind = recording.kind[1 + int(number)]
    return "vehicle.bicycle" if kind == CYCLIST else "vehicle.truck" if kind == TRUCK else "vehicle.car"


def _attributes(users: RoadUsers, row: int) -> list[str]:
    group = str(users.name[row]).split("/")[0]
    moving = bool(np.hypot(*users.velocity[row]) > MOVING_MPS)
    if group == "cone":
        return []
    if group == "walker":
        return [_token("pedestrian.moving" if moving else "pedestrian.standing")]
    if users.category[row] == "bicycle":
        return [_token("cycle.with_rider")]
    return [_token("vehicle.parked" if group == "parked" else "vehicle.moving" if moving else "vehicle.stopped")]


def _write_images(root: Path, scene: Scene, camera: Camera) -> None:
    for index, (view,) in enumerate(scene.images):
        done, encoded = cv2.imencode(".jpg", view[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
        assert done
        (root / _image_name(scene, camera, index)).write_bytes(encoded.tobytes())


def _write_can_bus(root: Path, scene: Scene) -> None:
    """The planned route, which the command follows from, and one message of motion a sample (the cars send fifty a second)."""
    recording = scene.recording
    motion = zip(scene.time_us.tolist(), recording.speed_mps[:, 0], recording.accel_mps2[:, 0], recording.lateral_mps2[:, 0],
                 recording.pose[:, 0], strict=True)
    _write_json(root / "can_bus" / f"{scene.name}_pose.json", [
        {"utime": time_us, "pos": rounded(pose[0], pose[1], 0.0), "orientation": _quaternion(pose[2]),
         "vel": rounded(speed, 0.0, 0.0), "accel": rounded(accel, lateral, 9.81),
         "rotation_rate": rounded(0.0, 0.0, lateral / speed if speed > 0.5 else 0.0)}
        for time_us, speed, accel, lateral, pose in motion])
    _write_json(root / "can_bus" / f"{scene.name}_route.json", [rounded(x, y) for x, y in recording.route.path[:, :2]])


def _image_name(scene: Scene, camera: Camera, index: int) -> str:
    return f"samples/{camera.name}/{scene.name}__{camera.name}__{scene.time_us[index]}.jpg"


def _linked(tokens: list[str], index: int) -> Record:
    return {"token": tokens[index], "prev": tokens[index - 1] if index else "",
            "next": tokens[index + 1] if index + 1 < len(tokens) else ""}


def _quaternion(yaw_rad: float) -> list[float]:
    """w, x, y, z of a heading."""
    return [round(float(np.cos(yaw_rad / 2)), 9), 0.0, 0.0, round(float(np.sin(yaw_rad / 2)), 9)]


def _token(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _write_json(file: Path, content: Any) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(content, separators=(",", ":")))
