"""nuScenes' open-loop L2 error and collision rate, in both conventions in use.

Published tables use two definitions of "at k seconds", which differ by a factor of nearly two. Both
are computed here from the same plans:
  at      error and collision of the pose k s ahead alone (UniAD); poses without a recorded human
          pose are masked one by one
  upto    mean over the poses up to and including k s (ST-P3, VAD); only rows whose human future is
          complete to 3 s
In both, a pose at which the human's own box touches a recorded box counts in no collision rate, and
boxes are oriented rectangles; the ego's is rotated by the planned heading (the public code does not
rotate it). UniAD's public code divides by all samples, so a masked pose counts as an error or a
collision of zero; here it is in neither the sum nor the count. Legend: N rows, P planners, T = 6
steps of 0.5 s, B boxes.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ops.evaluation.boxes import overlap
from ops.evaluation.config import OpenLoopConfig
from ops.evaluation.intervals import Interval, intervals
from storage.dataset import FrameSet
from storage.grouping import rows_by_log
from storage.metrics_table import ZERO_SHOT_FILE
from storage.trajectory_table import STEP_S

STEPS = 6  # 3 s
HORIZONS_S = (1, 2, 3)
CONVENTIONS = ("at", "upto")

OPEN_LOOP = pa.schema(
    [
        pa.field("planner", pa.string(), False),
        pa.field("convention", pa.string(), False),  # at | upto, see above
        pa.field("subset", pa.string(), False),  # all | straight | turning
        pa.field("horizon_s", pa.int8(), False),
        pa.field("l2_m", pa.float64(), True),
        pa.field("l2_low_m", pa.float64(), True),
        pa.field("l2_high_m", pa.float64(), True),
        pa.field("collision", pa.float64(), True),  # share of poses in 0 ... 1
        pa.field("collision_low", pa.float64(), True),
        pa.field("collision_high", pa.float64(), True),
        pa.field("n_rows", pa.int32(), False),  # rows in l2_m
        pa.field("n_collision", pa.int32(), False),  # rows in collision
        pa.field("n_expected", pa.int32(), False),  # rows of the subset
    ]
)


def open_loop(
    rows: FrameSet,
    plans_NP83: np.ndarray,
    planners: tuple[str, ...],
    agents: pa.Table,
    frames: FrameSet,
    config: OpenLoopConfig,
) -> pa.Table:
    """L2 and collision rate of P plans for each of N rows: one row of OPEN_LOOP per planner,
    convention, subset and horizon.

    `agents` is the agents table of the rows' logs and `frames` all frames of these logs (for the
    times of the boxes).
    """
    plans = plans_NP83[:, :, :STEPS].astype(np.float64)
    future = rows.future[:, None, :STEPS].astype(np.float64)
    valid_NT = rows.future_valid[:, :STEPS]
    l2_NPT = np.hypot(*np.moveaxis(plans[..., :2] - future[..., :2], -1, 0))
    hit_NQT = _collisions(rows, np.concatenate([plans, future], axis=1), agents, frames, config)
    hit_NPT = hit_NQT[:, :-1]
    free_NT = valid_NT & ~hit_NQT[:, -1]
    turning = np.abs(rows.future[:, STEPS - 1, 1]) >= config.turning_offset_m
    whole = valid_NT.all(axis=1)
    known = valid_NT[:, STEPS - 1]
    subsets = {
        "all": np.ones(len(rows), bool),
        "straight": known & ~turning,
        "turning": known & turning,
    }
    out = []
    for convention in CONVENTIONS:
        mask_NT = valid_NT if convention == "at" else valid_NT & whole[:, None]
        for horizon in HORIZONS_S:
            last = round(horizon / STEP_S) - 1
            span = slice(last, last + 1) if convention == "at" else slice(0, last + 1)
            l2, l2_valid = _mean_over_steps(l2_NPT[..., span], mask_NT[:, None, span])
            hit, hit_valid = _mean_over_steps(
                hit_NPT[..., span].astype(float), (mask_NT & free_NT)[:, None, span]
            )
            for subset, member in subsets.items():
                keep = member[:, None]
                l2_mean = intervals(l2, l2_valid & keep, rows.log_id, config.interval)
                hit_mean = intervals(hit, hit_valid & keep, rows.log_id, config.interval)
                for planner, a, b in zip(planners, l2_mean, hit_mean, strict=True):
                    out.append(
                        {
                            "planner": planner,
                            "convention": convention,
                            "subset": subset,
                            "horizon_s": horizon,
                            **_measures(a, b),
                            "n_expected": int(member.sum()),
                        }
                    )
    return pa.Table.from_pylist(out, OPEN_LOOP)


def read_open_loop(folder: Path) -> pa.Table | None:
    """The zero-shot table in the folder of an evaluation; None if it has none."""
    file = folder / ZERO_SHOT_FILE
    return pq.read_table(file, schema=OPEN_LOOP) if file.exists() else None


def open_loop_rows(
    table: pa.Table, conventions: Sequence[str] = CONVENTIONS
) -> list[dict[str, Any]]:
    """One row per planner for display: L2 in metres, collisions in %, and the number of rows n;
    `@k` is `at` k s, `<=k` is `upto` k s.
    """
    signs = {"at": "@", "upto": "<="}
    cells = {
        (row["planner"], row["convention"], row["horizon_s"]): row
        for row in table.to_pylist()
        if row["subset"] == "all"
    }
    out = []
    for planner in dict.fromkeys(table["planner"].to_pylist()):
        line: dict[str, Any] = {"planner": planner}
        for convention in conventions:
            sign = signs[convention]
            horizons = [cells[planner, convention, horizon] for horizon in HORIZONS_S]
            line |= {f"L2{sign}{row['horizon_s']}": row["l2_m"] for row in horizons}
            line |= {
                f"col{sign}{row['horizon_s']}": None
                if row["collision"] is None
                else 100 * row["collision"]
                for row in horizons
            }
            line[f"n{sign}{HORIZONS_S[-1]}"] = horizons[-1]["n_rows"]
        out.append(line)
    return out


def _measures(l2: Interval | None, collision: Interval | None) -> dict[str, Any]:
    """The columns of OPEN_LOOP that hold the two measures; None where no row has a value."""
    return {
        "l2_m": l2 and l2.mean,
        "l2_low_m": l2 and l2.low,
        "l2_high_m": l2 and l2.high,
        "collision": collision and collision.mean,
        "collision_low": collision and collision.low,
        "collision_high": collision and collision.high,
        "n_rows": l2.n if l2 else 0,
        "n_collision": collision.n if collision else 0,
    }


def _mean_over_steps(values_NPT: np.ndarray, mask_N1T: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean (N, P) over the unmasked steps, and where there is at least one."""
    count_N1 = mask_N1T.sum(axis=2)
    mean_NP = np.where(mask_N1T, values_NPT, 0.0).sum(axis=2) / np.maximum(count_N1, 1)
    return mean_NP, np.broadcast_to(count_N1 > 0, mean_NP.shape)


def _collisions(
    rows: FrameSet,
    plans_NP63: np.ndarray,
    agents: pa.Table,
    frames: FrameSet,
    config: OpenLoopConfig,
) -> np.ndarray:
    """(N, P, 6) bool: the ego box at that pose overlaps a box recorded at that time."""
    hit_NPT = np.zeros(plans_NP63.shape[:3], bool)
    ego_NPT5 = _ego_boxes_world(rows, plans_NP63, config)
    kept = agents.filter(
        pa.array(np.isin(agents["category"].to_numpy(), np.array(config.categories)))
    )
    box_B5 = np.stack(
        [kept[name].to_numpy() for name in ("x_m", "y_m", "yaw_rad", "length_m", "width_m")], axis=1
    )
    box_log, box_frame = kept["log_id"].to_numpy(), kept["frame_index"].to_numpy()
    wanted_NT = rows.timestamp_us[:, None] + (np.arange(1, STEPS + 1) * STEP_S * 1e6).astype(
        np.int64
    )
    frames_of, boxes_of = rows_by_log(frames.log_id), rows_by_log(box_log)
    for log, log_rows in rows_by_log(rows.log_id).items():
        in_log, own = frames_of[log], boxes_of.get(log, np.zeros(0, np.int64))
        time_us, index = frames.timestamp_us[in_log], frames.frame_index[in_log]
        boxes, at = box_B5[own], box_frame[own]
        near = np.abs(wanted_NT[log_rows][:, :, None] - time_us).argmin(axis=2)
        matched = np.abs(wanted_NT[log_rows] - time_us[near]) <= config.time_tolerance_s * 1e6
        row, step, box = np.nonzero(matched[:, :, None] & (index[near][:, :, None] == at))
        pair, planner = np.nonzero(overlap(ego_NPT5[log_rows[row], :, step], boxes[box][:, None]))
        hit_NPT[log_rows[row[pair]], planner, step[pair]] = True
    return hit_NPT


def _ego_boxes_world(rows: FrameSet, plans_NPT3: np.ndarray, config: OpenLoopConfig) -> np.ndarray:
    """Ego boxes along the plans in the world frame, (N, P, T, 5): centre x, y, heading, length,
    width.
    """
    x, y, yaw = (rows.pose_world[:, None, None, axis] for axis in range(3))
    ahead = config.center_ahead_m
    local_x = plans_NPT3[..., 0] + ahead * np.cos(plans_NPT3[..., 2])
    local_y = plans_NPT3[..., 1] + ahead * np.sin(plans_NPT3[..., 2])
    box = [
        x + local_x * np.cos(yaw) - local_y * np.sin(yaw),
        y + local_x * np.sin(yaw) + local_y * np.cos(yaw),
        plans_NPT3[..., 2] + yaw,
    ]
    return np.stack(
        [*box, np.full_like(local_x, config.length_m), np.full_like(local_x, config.width_m)],
        axis=-1,
    )
