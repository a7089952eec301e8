"""Writes tiny logs in the OpenScene format: a car that drives along a straight two-lane road.

Written from the published format alone, independently of the writer in `ops/synthesize/writers`, so
that reader and writer check each other.
"""

import json
import pickle
import sqlite3
from pathlib import Path
from typing import Any

import numpy as np
import shapely

# camera axes in the ego frame
FRONT_TO_EGO = np.array([[0.0, 0.0, 1.0], [-1.0, 0.0, 0.0], [0.0, -1.0, 0.0]])
LOCATION, MAP_VERSION = "us-ma-boston", "9.12.1817"


def yaw_quaternion(yaw_rad: float) -> np.ndarray:
    """Unit quaternion w, x, y, z of a turn about z."""
    return np.array([np.cos(yaw_rad / 2), 0.0, 0.0, np.sin(yaw_rad / 2)])


def frame_dict(
    log_id: str,
    index: int,
    *,
    hz: float = 2.0,
    speed_mps: float = 5.0,
    yaw_rad: float = 0.3,
    start_xy: tuple[float, float] = (5.0, -2.0),
) -> dict[str, Any]:
    """One frame of a car at constant speed and heading with one other vehicle 10 m ahead."""
    time_s = index / hz
    xy = np.array(start_xy) + speed_mps * time_s * np.array([np.cos(yaw_rad), np.sin(yaw_rad)])
    token = f"{index:016x}"
    return {
        "token": token,
        "frame_idx": index,
        "timestamp": 1_600_000_000_000_000 + round(time_s * 1e6),
        "log_name": log_id,
        "log_token": "l",
        "scene_token": "s",
        "scene_name": "log-0001-scene-0001",
        "map_location": LOCATION,
        "roadblock_ids": ["10", "12"],
        "vehicle_name": "toy",
        "ego2global_translation": np.array([*xy, 0.0]),
        "ego2global_rotation": yaw_quaternion(yaw_rad),
        "ego_dynamic_state": [speed_mps, 0.0, 0.0, 0.0],
        "driving_command": np.array([0, 1, 0, 0]),
        "traffic_lights": [(30, index % 2 == 0)],
        "lidar2ego": np.eye(4),
        "lidar_path": "",
        "cams": {
            "CAM_F0": {
                "data_path": f"{log_id}/CAM_F0/{token}.jpg",
                "sensor2lidar_rotation": FRONT_TO_EGO,
                "sensor2lidar_translation": np.array([1.5, 0.0, 1.6]),
                "cam_intrinsic": np.array([[60.0, 0.0, 31.5], [0.0, 60.0, 17.5], [0.0, 0.0, 1.0]]),
                "distortion": np.zeros(5),
            }
        },
        "anns": {
            "gt_boxes": np.array([[10.0, 0.0, 0.8, 4.5, 2.0, 1.6, 0.1]]),
            "gt_names": np.array(["vehicle"]),
            "gt_velocity_3d": np.array([[speed_mps, 0.0, 0.0]]),
            "instance_tokens": ["i"],
            "track_tokens": ["car"],
        },
        "sample_prev": None,
        "sample_next": None,
    }


def write_log(
    raw: Path,
    log_id: str = "log_a",
    *,
    split: str = "train",
    frames: int = 24,
    size_hw: tuple[int, int] = (36, 64),
    **motion: Any,
) -> list[dict[str, Any]]:
    """Write one log with its images and the town's map; returns its frames."""
    out = [frame_dict(log_id, index, **motion) for index in range(frames)]
    write_frames_file(raw, log_id, split, out)
    for index, frame in enumerate(out):
        write_image(
            raw / "sensor_blobs" / split / frame["cams"]["CAM_F0"]["data_path"], index, size_hw
        )
    write_map(raw / "maps")
    return out


def write_frames_file(raw: Path, log_id: str, split: str, frames: Any) -> Path:
    """Write (or overwrite) the pickle of one log."""
    file = raw / "navsim_logs" / split / f"{log_id}.pkl"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(pickle.dumps(frames))
    return file


def write_image(file: Path, seed: int, size_hw: tuple[int, int] = (36, 64)) -> None:
    """A smooth picture that differs from frame to frame."""
    import cv2

    file.parent.mkdir(parents=True, exist_ok=True)
    height, width = size_hw
    y, x = np.mgrid[:height, :width]
    blue = np.full_like(x, 60 + 3 * seed % 100)
    image = np.stack([128 + 100 * np.sin((x + 3 * seed) / 9), 4 * y + 20, blue], axis=-1)
    assert cv2.imwrite(str(file), np.clip(image, 0, 255).astype(np.uint8))


def write_map(maps: Path, *, on_the_equator: bool = False) -> Path:
    """A road of two lanes (10: lanes 20 left, 21 right), a junction with connectors 30 and 31, a
    road 11 behind.

    In metres as they are, or `on_the_equator`: in degrees around 3 E, 0 N, the centre of UTM zone
    31.
    """
    file = maps / LOCATION / MAP_VERSION / "map.gpkg"
    file.parent.mkdir(parents=True, exist_ok=True)
    (maps / "nuplan-maps-v1.0.json").write_text(
        json.dumps({LOCATION: {"version": MAP_VERSION, "layers": {}}})
    )
    file.unlink(missing_ok=True)
    box, line = shapely.box, shapely.LineString
    tables: dict[str, tuple[str, list[tuple]]] = {
        "lanes_polygons": (
            "lane_fid, lane_group_fid, lane_index, speed_limit_mps",
            [
                (20, box(0, 0, 100, 4), 20, 10, 1, 13.0),
                (21, box(0, -4, 100, 0), 21, 10, 2, None),
                (22, box(120, 0, 220, 4), 22, 11, 1, 13.0),
                (23, box(120, -4, 220, 0), 23, 11, 2, 13.0),
            ],
        ),
        "lane_connectors": (
            "exit_lane_fid, entry_lane_fid, lane_group_connector_fid, intersection_fid, "
            "speed_limit_mps",
            [
                (30, line([(100, 2), (120, 2)]), 20, 22, 12, 40, 10.0),
                (31, line([(100, -2), (120, -2)]), 21, 23, 12, 40, 10.0),
            ],
        ),
        "gen_lane_connectors_scaled_width_polygons": (
            "lane_connector_fid",
            [(1, box(100, 0, 120, 4), 30), (2, box(100, -4, 120, 0), 31)],
        ),
        "lane_groups_polygons": ("", [(10, box(0, -4, 100, 4)), (11, box(120, -4, 220, 4))]),
        "lane_group_connectors": (
            "from_lane_group_fid, to_lane_group_fid, intersection_fid",
            [(12, box(100, -4, 120, 4), 10, 11, 40)],
        ),
        "intersections": ("", [(40, box(98, -10, 122, 10))]),
        "baseline_paths": (
            "lane_fid, lane_connector_fid",
            [
                (1, line([(0, 2), (50, 2), (100, 2)]), 20, None),
                (2, line([(0, -2), (100, -2)]), 21, None),
                (3, line([(120, 2), (220, 2)]), 22, None),
                (4, line([(120, -2), (220, -2)]), 23, None),
                (5, line([(100, 2), (120, 2)]), None, 30),
                (6, line([(100, -2), (120, -2)]), None, 31),
            ],
        ),
        "stop_polygons": ("", [(50, box(96, -4, 98, 0))]),
        "crosswalks": (
            "",
            [(60, shapely.MultiPolygon([box(90, -6, 93, 6), box(150, -6, 153, 6)]))],
        ),
        "carpark_areas": ("", [(70, box(5000, 5000, 5010, 5010))]),
    }
    with sqlite3.connect(file) as database:
        database.execute(
            "create table gpkg_geometry_columns (table_name text, column_name text, srs_id integer)"
        )
        database.execute("create table meta (key text, value text)")
        database.execute("insert into meta values ('projectedCoordSystem', 'EPSG:32631')")
        for name, (columns, rows) in tables.items():
            extra = f", {columns}" if columns else ""
            database.execute(f"create table {name} (fid integer primary key, geom blob{extra})")
            database.execute(
                "insert into gpkg_geometry_columns values (?, 'geom', ?)",
                (name, 4326 if on_the_equator else 32631),
            )
            marks = ", ".join("?" * (2 + (columns.count(",") + 1 if columns else 0)))
            database.executemany(
                f"insert into {name} values ({marks})",
                [
                    (fid, _geopackage_blob(_degrees(shape) if on_the_equator else shape), *rest)
                    for fid, shape, *rest in rows
                ],
            )
    return file


def _degrees(shape: Any) -> Any:
    """Metres to degrees near the equator, by the length of a degree there (WGS 84)."""
    return shapely.transform(
        shape, lambda xy: np.array([3.0, 0.0]) + xy / np.array([111_319.491, 110_574.276])
    )


def _geopackage_blob(shape: Any) -> bytes:
    """A GeoPackage geometry: magic, version, flags (little endian, xy envelope), SRS, xy envelope
    and WKB.
    """
    x0, y0, x1, y1 = shape.bounds
    return (
        b"GP\x00\x03"
        + np.int32(0).tobytes()
        + np.array([x0, x1, y0, y1], "<f8").tobytes()
        + shapely.to_wkb(shape)
    )
