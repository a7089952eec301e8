"""Writes a recording as an OpenScene / NAVSIM log: one pickle of frames and a folder of JPEGs.

The pickle holds plain Python and numpy only, with exactly the fields of OpenScene's frames; `tags`
(rare events) is an addition that official readers ignore. All eight cameras have a calibration, as
in real logs; only rendered cameras have images.
"""

import hashlib
import os
import pickle
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from ops.synthesize.film.camera import Camera
from ops.synthesize.town import curves
from ops.synthesize.town.signals import RED
from ops.synthesize.town.town import Town, Turn
from ops.synthesize.traffic.recording import Recording, road_users
from ops.synthesize.writers.nuplan import LOCATION
from ops.synthesize.writers.nuplan_layers import ORIGIN_M

CAMERAS = ("CAM_F0", "CAM_L0", "CAM_R0", "CAM_L1", "CAM_R1", "CAM_L2", "CAM_R2", "CAM_B0")
CAMERA_YAWS_DEG = (0.0, 55.0, -55.0, 110.0, -110.0, 145.0, -145.0, 180.0)
JPEG_QUALITY = 90
SIGHT_M = 120.0  # agents and lights farther away are not annotated
COMMAND_REACH_M = 20.0  # NAVSIM: the command follows from the route 20 m ahead ...
COMMAND_OFFSET_M = 2.0  # ... and at least this much to a side
NOTICE_S = 4.0  # a turn at a junction is commanded this long before it begins


def write_log(
    raw: Path,
    split: str,
    log_id: str,
    town: Town,
    recording: Recording,
    cameras: list[Camera],
    images: Iterable[tuple[np.ndarray, ...]],
    start_us: int,
    jitter_us: np.ndarray,
) -> None:
    """Write the images, then the pickle; each is renamed into place when it is complete.

    `images` yields for each frame one (H, W, 3) uint8 RGB image per camera. `jitter_us` (T,) is
    added to the frame times.
    """
    blobs = raw / "sensor_blobs" / split
    part = blobs / f".{log_id}.part-{os.getpid()}"
    shutil.rmtree(part, ignore_errors=True)
    tokens = [
        hashlib.sha256(f"{log_id}/{index}".encode()).hexdigest()[:16]
        for index in range(len(recording.time_s))
    ]
    for camera in cameras:
        (part / camera.name).mkdir(parents=True)
    for token, views in zip(tokens, images, strict=True):
        for camera, view in zip(cameras, views, strict=True):
            encoded_ok, encoded = cv2.imencode(
                ".jpg", view[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]
            )
            assert encoded_ok
            (part / camera.name / f"{token}.jpg").write_bytes(encoded.tobytes())
    times_us = start_us + np.round(recording.time_s * 1e6).astype(np.int64) + jitter_us
    mounts, lights = _mounts(cameras), _signalled_connectors(town)
    frames = [
        _frame(town, recording, index, log_id, tokens, int(times_us[index]), mounts, lights)
        for index in range(len(tokens))
    ]
    final = blobs / log_id
    shutil.rmtree(final, ignore_errors=True)
    os.replace(part, final)
    file = raw / "navsim_logs" / split / f"{log_id}.pkl"
    file.parent.mkdir(parents=True, exist_ok=True)
    part_file = file.with_name(f".{log_id}.part-{os.getpid()}")
    part_file.write_bytes(pickle.dumps(frames, protocol=4))
    os.replace(part_file, file)


def driving_command(town: Town, recording: Recording, index: int) -> np.ndarray:
    """One-hot (4,) int: left, straight, right, unknown.

    A turn of the route is commanded NOTICE_S before its junction, as by a navigation system;
    elsewhere NAVSIM's rule holds: the side on which the route's centre line lies 20 m ahead, if by
    at least 2 m.
    """
    ego_m, route = float(recording.travelled_m[index]), recording.route
    notice_m = max(COMMAND_REACH_M, NOTICE_S * float(recording.speed_mps[index, 0]))
    turn = 0
    for lane_id, start in zip(route.lane_ids, route.lane_start_m, strict=True):
        lane = town.lanes[lane_id]
        if (
            lane.is_connector
            and start - notice_m < ego_m < start + curves.arc_length(lane.path)[-1] - 4.0
        ):
            turn = int(lane.turn)
            break
    else:
        ahead = route.path[int(min(ego_m + COMMAND_REACH_M, route.length_m)), :2]
        pose = recording.pose[index, 0]
        away = ahead - pose[:2]
        side = away[1] * np.cos(pose[2]) - away[0] * np.sin(pose[2])
        turn = int(np.sign(side)) if abs(side) >= COMMAND_OFFSET_M else 0
    return np.eye(4, dtype=np.int64)[{Turn.LEFT: 0, Turn.STRAIGHT: 1, Turn.RIGHT: 2}[Turn(turn)]]


def _frame(
    town: Town,
    recording: Recording,
    index: int,
    log_id: str,
    tokens: list[str],
    time_us: int,
    mounts: list[Camera],
    lights: tuple[np.ndarray, ...],
) -> dict[str, Any]:
    translation, rotation, to_global = _ego_to_global(recording.pose[index, 0])
    motion = (recording.speed_mps, recording.accel_mps2, recording.lateral_mps2)
    speed, accel, lateral = (float(values[index, 0]) for values in motion)
    yaw_rate = lateral / speed if speed > 0.5 else 0.0
    gravity = 9.81
    return {
        "token": tokens[index],
        "frame_idx": index,
        "timestamp": time_us,
        "log_name": log_id,
        "log_token": _token(log_id),
        "scene_name": f"{log_id}-scene",
        "scene_token": _token(f"{log_id}-scene"),
        "vehicle_name": "expert",
        "map_location": LOCATION,
        "roadblock_ids": _route_blocks(town, recording, index),
        "can_bus": np.array(
            [
                *translation,
                *rotation,
                accel,
                lateral,
                gravity,
                speed,
                *[0.0] * 4,
                yaw_rate,
                0.0,
                0.0,
            ]
        ),
        "lidar_path": f"{log_id}/MergedPointCloud/{tokens[index]}.pcd",
        "lidar2ego_translation": np.zeros(3),
        "lidar2ego_rotation": np.array([1.0, 0.0, 0.0, 0.0]),
        "lidar2ego": np.eye(4),
        "ego2global_translation": translation,
        "ego2global_rotation": rotation,
        "ego2global": to_global,
        "lidar2global": to_global.copy(),
        "ego_dynamic_state": [speed, 0.0, accel, lateral],
        "traffic_lights": _traffic_lights(lights, recording, index),
        "driving_command": driving_command(town, recording, index),
        "cams": _calibration(log_id, tokens[index], mounts),
        "anns": _annotations(log_id, recording, index),
        "sample_prev": tokens[index - 1] if index else None,
        "sample_next": tokens[index + 1] if index + 1 < len(tokens) else None,
        "occ_gt_final_path": None,
        "flow_gt_final_path": None,
        "tags": list(recording.tags[index]),
    }


def _ego_to_global(pose: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Translation (3,), quaternion (4,) w x y z, and matrix (4, 4) of an ego pose (3,)."""
    translation = np.array([*(pose[:2] + ORIGIN_M), 0.0])
    rotation = np.array([np.cos(pose[2] / 2), 0.0, 0.0, np.sin(pose[2] / 2)])
    matrix = np.eye(4)
    matrix[:2, :2] = [[np.cos(pose[2]), -np.sin(pose[2])], [np.sin(pose[2]), np.cos(pose[2])]]
    matrix[:3, 3] = translation
    return translation, rotation, matrix


def _token(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _route_blocks(town: Town, recording: Recording, index: int) -> list[str]:
    """Ids of the route's roadblocks and connectors from the ego on, in order."""
    current = (
        int(
            np.searchsorted(
                recording.route.lane_start_m, recording.travelled_m[index], side="right"
            )
        )
        - 1
    )
    return [str(town.lanes[lane].roadblock_id) for lane in recording.route.lane_ids[current:]]


def _signalled_connectors(town: Town) -> tuple[np.ndarray, ...]:
    """All signalled connectors: lane id (C,), row of the junction among the town's (C,), axis (C,),
    and the junction's centre (C, 2).
    """
    row = {junction: number for number, junction in enumerate(town.junctions)}
    lanes = [
        lane
        for lane in town.lanes.values()
        if lane.is_connector and town.junctions[lane.junction_id].signalled
    ]
    return (
        np.array([lane.lane_id for lane in lanes], int),
        np.array([row[lane.junction_id] for lane in lanes], int),
        np.array([lane.arm % 2 for lane in lanes], int),
        np.array([town.junctions[lane.junction_id].center for lane in lanes]).reshape(-1, 2),
    )


def _traffic_lights(
    lights: tuple[np.ndarray, ...], recording: Recording, index: int
) -> list[tuple[int, bool]]:
    """(connector id, is red) of every signalled connector in sight; amber counts as not red, as in
    real logs.
    """
    lane, row, axis, center = lights
    away = center - recording.pose[index, 0, :2]
    near = np.hypot(away[:, 0], away[:, 1]) < SIGHT_M
    is_red = recording.signals[index, row[near], axis[near]] == RED
    return list(zip(lane[near].tolist(), is_red.tolist(), strict=True))


def _annotations(log_id: str, recording: Recording, index: int) -> dict[str, Any]:
    """Boxes and velocities of the other road users in the ego frame."""
    ego, users = recording.pose[index, 0], road_users(recording, index)
    cos, sin = np.cos(ego[2]), np.sin(ego[2])
    turn = np.array([[cos, sin], [-sin, cos]])
    local, moving = (users.xy - ego[:2]) @ turn.T, users.velocity @ turn.T
    near = np.hypot(*local.T) < SIGHT_M
    boxes = np.column_stack(
        [local, users.size_m[:, 2] / 2, users.size_m, curves.wrap(users.yaw_rad - ego[2])]
    )
    tokens = [_token(f"{log_id}/{name}") for name in users.name[near]]
    return {
        "gt_boxes": boxes[near],
        "gt_names": users.category[near],
        "gt_velocity_3d": np.column_stack([moving, np.zeros(len(moving))])[near],
        "instance_tokens": tokens,
        "track_tokens": list(tokens),
    }


def _mounts(cameras: list[Camera]) -> list[Camera]:
    """All eight cameras; those that are not rendered have the optics of the first."""
    rendered = {camera.name: camera for camera in cameras}
    first = cameras[0]
    return [
        rendered.get(name)
        or Camera(
            name,
            first.width,
            first.height,
            first.focal_share,
            first.position_m,
            np.radians(yaw),
            first.pitch_rad,
        )
        for name, yaw in zip(CAMERAS, CAMERA_YAWS_DEG, strict=True)
    ]


def _calibration(log_id: str, token: str, mounts: list[Camera]) -> dict[str, dict[str, Any]]:
    return {
        name: {
            "data_path": f"{log_id}/{name}/{token}.jpg",
            "sensor2lidar_rotation": mount.to_ego[:3, :3].copy(),
            "sensor2lidar_translation": mount.to_ego[:3, 3].copy(),
            "cam_intrinsic": mount.intrinsics.copy(),
            "distortion": np.zeros(5),
        }
        for name, mount in zip(CAMERAS, mounts, strict=True)
    }
