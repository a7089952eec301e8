"""Rows of nuScenes' annotation tables: instances and their boxes."""

import numpy as np

from ops.synthesize.traffic.events import CYCLIST
from ops.synthesize.traffic.recording import Recording, RoadUsers, road_users
from ops.synthesize.writers.nuscenes_shapes import Record, quaternion, rounded, row_tokens, token

SIGHT_M = 80.0  # objects farther away are not annotated
TRUCK = 3  # row of spawn.KIND_SIZES
MOVING_MPS = 0.2  # slower objects count as standing
CATEGORIES = (
    "vehicle.car",
    "vehicle.truck",
    "vehicle.bicycle",
    "human.pedestrian.adult",
    "movable_object.trafficcone",
)
ATTRIBUTES = (
    "vehicle.moving",
    "vehicle.stopped",
    "vehicle.parked",
    "cycle.with_rider",
    "pedestrian.moving",
    "pedestrian.standing",
)


def add_annotations(
    tables: dict[str, list[Record]], scene: str, recording: Recording, samples: list[str]
) -> None:
    """Add one instance for each object that comes near the ego, and its boxes in the order of time.

    `samples`: tokens (T,).
    """
    rows: dict[str, list[Record]] = {}
    category: dict[str, str] = {}
    for index, sample in enumerate(samples):
        users = road_users(recording, index)
        near = np.hypot(*(users.xy - recording.pose[index, 0, :2]).T) < SIGHT_M
        for row in np.flatnonzero(near):
            name = str(users.name[row])
            category[name] = _category(recording, users, int(row))
            rows.setdefault(name, []).append(_box(users, int(row), sample))
    for name, boxes in rows.items():
        tokens = [token(f"{scene}/{name}/{box['sample_token']}") for box in boxes]
        instance = token(f"{scene}/{name}")
        tables["instance"].append(
            {
                "token": instance,
                "category_token": token(category[name]),
                "nbr_annotations": len(boxes),
                "first_annotation_token": tokens[0],
                "last_annotation_token": tokens[-1],
            }
        )
        tables["sample_annotation"] += [
            {**row_tokens(tokens, index), "instance_token": instance, **box}
            for index, box in enumerate(boxes)
        ]


def _box(users: RoadUsers, row: int, sample: str) -> Record:
    length, width, height = users.size_m[row]
    return {
        "sample_token": sample,
        "visibility_token": "",
        "attribute_tokens": _attributes(users, row),
        "translation": rounded(*users.xy[row], height / 2),
        "size": rounded(width, length, height),
        "rotation": quaternion(users.yaw_rad[row]),
        "num_lidar_pts": 0,
        "num_radar_pts": 0,
    }


def _category(recording: Recording, users: RoadUsers, row: int) -> str:
    group, number = str(users.name[row]).split("/")
    if group != "car":
        return {
            "walker": "human.pedestrian.adult",
            "parked": "vehicle.car",
            "cone": "movable_object.trafficcone",
        }[group]
    kind = recording.kind[1 + int(number)]
    return (
        "vehicle.bicycle"
        if kind == CYCLIST
        else "vehicle.truck"
        if kind == TRUCK
        else "vehicle.car"
    )


def _attributes(users: RoadUsers, row: int) -> list[str]:
    group = str(users.name[row]).split("/")[0]
    moving = bool(np.hypot(*users.velocity[row]) > MOVING_MPS)
    if group == "cone":
        return []
    if group == "walker":
        return [token("pedestrian.moving" if moving else "pedestrian.standing")]
    if users.category[row] == "bicycle":
        return [token("cycle.with_rider")]
    return [
        token(
            "vehicle.parked"
            if group == "parked"
            else "vehicle.moving"
            if moving
            else "vehicle.stopped"
        )
    ]
