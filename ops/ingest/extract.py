"""Extracts the tables of one raw log: trajectories, agents, lights, map.

Legend: T rows of the log, K steps of history or future. Poses are (x, y, heading).
"""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from ops.ingest.config import ExtractConfig
from storage.errors import SourceError
from storage.sources.checked import checked
from storage.sources.contract import Agents, MapObject, RawLog, Signals
from storage.sources.rotations import wrapped
from storage.trajectory_table import (
    FUTURE_STEPS,
    HISTORY_STEPS,
    STEP_S,
    TABLES,
    pairs_in_time,
    write_table,
)


@dataclass(frozen=True, slots=True)
class ExtractSummary:
    """Counts of the extracted rows, for the log's metadata."""

    log_id: str
    rows: int
    span_s: float
    path_m: float  # length of the driven path
    max_speed_mps: float
    full_history: int  # rows with all 4 steps of history
    full_future: int  # rows with all 8 steps of future
    agents: int  # rows of the agents table
    map_objects: int
    red_lights: int  # rows of the lights table that are red
    notes: tuple[str, ...]


def extract(log: RawLog, out: Path, config: ExtractConfig) -> ExtractSummary:
    """Write the four tables of `log` under `out`.

    Raises SourceError for a log shorter than `min_span_s`, and what the reader raises.
    """
    log = checked(log)
    signals = log.signals()
    time_s = (signals.timestamp_us - signals.timestamp_us[0]) * 1e-6
    if time_s[-1] < config.min_span_s - config.edge_tolerance_s:
        raise SourceError(
            "the log is shorter than one window",
            where=f"log {log.log_id}",
            expected=f"at least {config.min_span_s} s",
            found=f"{time_s[-1]:.2f} s, {len(time_s)} frames",
            do="join it with its neighbours, or leave it out",
        )
    trajectories = _trajectories(log, signals, config)
    of_the_town, agents = log.map_objects(), log.agents()
    objects = near_path(of_the_town, signals.pose_world[:, :2], config.map_margin_m)
    tables = {
        "trajectories": trajectories,
        "agents": _agents(log.log_id, agents),
        "lights": _lights(log),
        "map": _map(objects, log.location),
    }
    out.mkdir(parents=True, exist_ok=True)
    for name, table in tables.items():
        write_table(table, out / f"{name}.parquet", TABLES[name])
    return ExtractSummary(
        log.log_id,
        len(time_s),
        float(time_s[-1]),
        float(np.hypot(*np.diff(signals.pose_world[:, :2], axis=0).T).sum()),
        float(np.hypot(*signals.velocity_ego.T).max()),
        _full(trajectories, "history"),
        _full(trajectories, "future"),
        len(tables["agents"]),
        len(objects),
        int(np.sum(tables["lights"]["is_red"].to_numpy())),
        (*signals.notes, *agents.notes, *_shapeless(of_the_town), *_without_pairs(signals)),
    )


def poses_at(
    time_s: np.ndarray,
    pose_world: np.ndarray,
    query_s: np.ndarray,
    *,
    max_gap_s: float,
    tolerance_s: float,
) -> tuple[np.ndarray, np.ndarray]:
    """Poses (..., 3) at the times `query_s` (...), linear between frames, and valid mask (...).

    Headings are interpolated the short way round. A pose is not valid if it lies more than
    `tolerance_s` outside the log, or between two frames more than `max_gap_s` apart.
    """
    left = np.clip(np.searchsorted(time_s, query_s, side="right") - 1, 0, len(time_s) - 2)
    step_s = time_s[left + 1] - time_s[left]
    weight = ((query_s - time_s[left]) / step_s)[..., None]
    unrolled = np.column_stack([pose_world[:, :2], np.unwrap(pose_world[:, 2])])
    on_frame = np.isclose(weight[..., 0], 0.0) | np.isclose(weight[..., 0], 1.0)
    inside = (query_s >= time_s[0] - tolerance_s) & (query_s <= time_s[-1] + tolerance_s)
    valid = inside & ((step_s <= max_gap_s) | on_frame)
    return unrolled[left] + weight * (unrolled[left + 1] - unrolled[left]), valid


def to_ego(pose_world: np.ndarray, others_world: np.ndarray) -> np.ndarray:
    """World poses (T, K, 3) in the ego frames of the poses (T, 3), headings in [-pi, pi)."""
    dx, dy = np.moveaxis(others_world[..., :2] - pose_world[:, None, :2], -1, 0)
    cos, sin = np.cos(pose_world[:, None, 2]), np.sin(pose_world[:, None, 2])
    yaw = wrapped(others_world[..., 2] - pose_world[:, None, 2])
    return np.stack([cos * dx + sin * dy, cos * dy - sin * dx, yaw], axis=-1)


def yaw_rate_of(time_s: np.ndarray, yaw_rad: np.ndarray, max_gap_s: float) -> np.ndarray:
    """Yaw rate (T,) in rad/s: mean slope to the frames before and after, weighted by time.

    Frames more than `max_gap_s` away do not count; 0 if neither does.
    """
    step_s, turn = np.diff(time_s), np.diff(np.unwrap(yaw_rad))
    step_s, turn = np.where(step_s <= max_gap_s, (step_s, turn), 0.0)
    near_s = np.append(0.0, step_s) + np.append(step_s, 0.0)
    return (np.append(0.0, turn) + np.append(turn, 0.0)) / np.where(near_s > 0, near_s, 1.0)


def near_path(objects: list[MapObject], path_xy: np.ndarray, margin_m: float) -> list[MapObject]:
    """Map objects whose polygon, else centre line, is within `margin_m` of the path (n, 2)."""
    import shapely

    if not objects:
        return []
    shapes = np.full(len(objects), None, dtype=object)
    areas = np.array([len(item.polygon_xy) > 2 for item in objects])
    lines = np.array([len(item.baseline_xyyaw) > 1 for item in objects]) & ~areas
    for rows, make, line_of in (
        (areas, shapely.linearrings, lambda item: item.polygon_xy),
        (lines, shapely.linestrings, lambda item: item.baseline_xyyaw[:, :2]),
    ):
        if rows.any():
            parts = [line_of(objects[row]) for row in np.flatnonzero(rows)]
            owner = np.repeat(np.arange(len(parts)), [len(part) for part in parts])
            shapes[rows] = make(np.concatenate(parts), indices=owner)
    shapes[areas] = shapely.polygons(shapes[areas])
    path = shapely.LineString(np.concatenate([path_xy, path_xy[-1:]]))
    shapely.prepare(path)
    return [objects[row] for row in np.flatnonzero(shapely.dwithin(path, shapes, margin_m))]


def _trajectories(log: RawLog, signals: Signals, config: ExtractConfig) -> pa.Table:
    rows = len(signals.frame_index)
    time_s = (signals.timestamp_us - signals.timestamp_us[0]) * 1e-6
    offsets = {
        "history": STEP_S * np.arange(-HISTORY_STEPS, 0),
        "future": STEP_S * np.arange(1, FUTURE_STEPS + 1),
    }
    steps = {}
    for name, offset_s in offsets.items():
        poses, valid = poses_at(
            time_s,
            signals.pose_world,
            time_s[:, None] + offset_s,
            max_gap_s=config.max_gap_s,
            tolerance_s=config.edge_tolerance_s,
        )
        local = np.where(valid[..., None], to_ego(signals.pose_world, poses), 0.0).astype(
            np.float32
        )
        steps[f"{name}_xyyaw"] = _fixed(local.reshape(rows, -1))
        steps[f"{name}_valid"] = _fixed(valid)
    return pa.table(
        {
            "log_id": [log.log_id] * rows,
            "frame_index": signals.frame_index,
            "timestamp_us": signals.timestamp_us,
            "split": [log.split] * rows,
            "location": [log.location] * rows,
            "x_m": signals.pose_world[:, 0],
            "y_m": signals.pose_world[:, 1],
            "yaw_rad": wrapped(signals.pose_world[:, 2]),
            "vx_mps": signals.velocity_ego[:, 0],
            "vy_mps": signals.velocity_ego[:, 1],
            "ax_mps2": signals.acceleration_ego[:, 0],
            "ay_mps2": signals.acceleration_ego[:, 1],
            "yaw_rate_radps": yaw_rate_of(time_s, signals.pose_world[:, 2], config.max_gap_s),
            "command": signals.command,
            "has_image": signals.has_image,
            **steps,
            "route_roadblock_ids": pa.array(signals.route_roadblock_ids, pa.list_(pa.string())),
            "tags": pa.array(signals.tags, pa.list_(pa.string())),
        },
        schema=TABLES["trajectories"],
    )


def _shapeless(objects: list[MapObject]) -> list[str]:
    """What of a town's map is left out, as a note: objects with neither area nor centre line."""
    left_out = Counter(
        item.layer.name.lower()
        for item in objects
        if len(item.polygon_xy) < 3 and len(item.baseline_xyyaw) < 2
    )
    if not left_out:
        return []
    counts = ", ".join(f"{count} {layer}" for layer, count in sorted(left_out.items()))
    return [f"map objects with neither an area nor a centre line are left out: {counts}"]


def _without_pairs(signals: Signals) -> list[str]:
    """A note if no two images of the log are one step apart: it has no latent actions."""
    if signals.has_image[pairs_in_time(signals.timestamp_us, STEP_S)].all(axis=1).any():
        return []
    time_us = signals.timestamp_us[signals.has_image]
    spacing_s = float(np.median(np.diff(time_us))) * 1e-6 if len(time_us) > 1 else 0.0
    return [
        f"no two of its {len(time_us)} images are {STEP_S} s apart (they are {spacing_s:.2f} s "
        f"apart): the log gives the codebook nothing and gets no latent actions"
    ]


def _agents(log_id: str, agents: Agents) -> pa.Table:
    x, y, z = agents.center_world.reshape(-1, 3).T
    vx, vy = agents.velocity_world.reshape(-1, 2).T
    length, width, height = agents.size_lwh.reshape(-1, 3).T
    return pa.table(
        {
            "log_id": [log_id] * len(x),
            "frame_index": agents.frame_index,
            "track_token": agents.track_token.tolist(),
            "category": agents.category,
            "x_m": x,
            "y_m": y,
            "z_m": z,
            "yaw_rad": wrapped(agents.yaw_rad),
            "vx_mps": vx,
            "vy_mps": vy,
            "length_m": length,
            "width_m": width,
            "height_m": height,
        },
        schema=TABLES["agents"],
    )


def _lights(log: RawLog) -> pa.Table:
    lights = log.lights()
    return pa.table(
        {
            "log_id": [log.log_id] * len(lights.frame_index),
            "frame_index": lights.frame_index,
            "lane_connector_id": lights.lane_connector_id.tolist(),
            "is_red": lights.is_red,
        },
        schema=TABLES["lights"],
    )


def _map(objects: list[MapObject], location: str) -> pa.Table:
    return pa.table(
        {
            "location": [location] * len(objects),
            "layer": [int(item.layer) for item in objects],
            "token": [item.token for item in objects],
            "polygon_xy": [item.polygon_xy.ravel() for item in objects],
            "baseline_xyyaw": [item.baseline_xyyaw.ravel() for item in objects],
            "speed_limit_mps": [item.speed_limit_mps for item in objects],
            "roadblock_id": [item.roadblock_id for item in objects],
            "predecessors": [list(item.predecessors) for item in objects],
            "successors": [list(item.successors) for item in objects],
            "left_neighbor": [item.left_neighbor for item in objects],
            "right_neighbor": [item.right_neighbor for item in objects],
        },
        schema=TABLES["map"],
    )


def _fixed(values: np.ndarray) -> pa.FixedSizeListArray:
    return pa.FixedSizeListArray.from_arrays(pa.array(values.ravel()), values.shape[1])


def _full(table: pa.Table, name: str) -> int:
    steps = FUTURE_STEPS if name == "future" else HISTORY_STEPS
    flat = table[f"{name}_valid"].combine_chunks().flatten().to_numpy(zero_copy_only=False)
    return int(flat.reshape(-1, steps).all(axis=1).sum())
