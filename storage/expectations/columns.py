"""The columns that the rules test, derived from the tables of a lake.

Each function returns a data frame with one row per row of its table and a `log_id` column.
"""

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from storage.metrics_table import MEASURES
from storage.trajectory_table import STEP_S, MapLayer, code_layout

if TYPE_CHECKING:
    import pandas as pd

_ERRORS = ("ade_m", "fde_m", "lateral_m")
_UNBOUNDED = (*_ERRORS, "progress_m")
_WITH_BASELINE = (MapLayer.LANE, MapLayer.LANE_CONNECTOR)


def trajectory_columns(table: pa.Table) -> "pd.DataFrame":
    """The table's scalar columns and quantities derived from each row and the row before.

    In the first row of a log the differences have values that pass every rule.
    """
    table = table.sort_by([("log_id", "ascending"), ("frame_index", "ascending")])
    scalars = [field.name for field in table.schema if not pa.types.is_nested(field.type)]
    frame = table.select(scalars).to_pandas()
    first = np.r_[True, frame["log_id"].to_numpy()[1:] != frame["log_id"].to_numpy()[:-1]][
        : len(frame)
    ]

    def step(values: np.ndarray, at_first: float) -> np.ndarray:
        return np.where(first, at_first, np.diff(values, prepend=values[:1]))

    dt_s = step(frame["timestamp_us"].to_numpy() * 1e-6, STEP_S)
    safe_dt_s = np.where(dt_s > 0, dt_s, STEP_S)
    speed = np.hypot(frame["vx_mps"], frame["vy_mps"]).to_numpy()
    moved = (
        np.hypot(step(frame["x_m"].to_numpy(), 0.0), step(frame["y_m"].to_numpy(), 0.0)) / safe_dt_s
    )
    between = np.where(first, 0.0, moved - (speed + np.roll(speed, 1)) / 2)
    future_N24, valid_N8 = listed(table, "future_xyyaw", 24), listed(table, "future_valid", 8)
    middle = speed + frame["ax_mps2"].to_numpy() * STEP_S / 2
    future_error = np.where(
        valid_N8[:, 0], np.abs(np.hypot(future_N24[:, 0], future_N24[:, 1]) - middle * STEP_S), 0.0
    )
    motion = frame[["x_m", "y_m", "yaw_rad", "vx_mps", "vy_mps", "ax_mps2", "ay_mps2"]].to_numpy()
    jerk = (
        np.hypot(step(frame["ax_mps2"].to_numpy(), 0.0), step(frame["ay_mps2"].to_numpy(), 0.0))
        / safe_dt_s
    )
    return frame.assign(
        dt_s=dt_s,
        finite=np.isfinite(motion).all(axis=1),
        speed_mps=speed,
        jump_mps=np.abs(between),
        acceleration_mps2=np.hypot(frame["ax_mps2"], frame["ay_mps2"]),
        jerk_mps3=jerk,
        numbers_finite=_finite_numbers(table),
        future_error_m=future_error,
        has_future=valid_N8.all(axis=1),
    )


def agent_columns(table: pa.Table, known: pa.Table | None = None) -> "pd.DataFrame":
    """The agents with their speed, whether all their numbers are finite, and whether their frame is
    one of `known` (log_id, frame_index).
    """
    frame = table.to_pandas()
    numbers = [field.name for field in table.schema if pa.types.is_floating(field.type)]
    return frame.assign(
        speed_mps=np.hypot(frame["vx_mps"], frame["vy_mps"]),
        finite=np.isfinite(frame[numbers].to_numpy()).all(axis=1),
        frame_known=_is_known(table, known),
    )


def light_columns(table: pa.Table, known: pa.Table | None = None) -> "pd.DataFrame":
    """The traffic lights; see agent_columns for `known`."""
    frame = table.to_pandas()
    return frame.assign(
        named=frame["lane_connector_id"].str.len().gt(0), frame_known=_is_known(table, known)
    )


def map_columns(table: pa.Table) -> "pd.DataFrame":
    """The map objects of logs, with a column `log_id` in the table; an unknown speed limit is 0."""
    frame = table.select(["log_id", "layer", "token"]).to_pandas()
    corners, polygon_finite = _list_state(table["polygon_xy"])
    points, baseline_finite = _list_state(table["baseline_xyyaw"])
    needed = np.isin(frame["layer"], [int(layer) for layer in _WITH_BASELINE])
    return frame.assign(
        polygon_sound=polygon_finite & (corners >= 6) & (corners % 2 == 0),
        baseline_sound=baseline_finite & (points % 3 == 0) & ((points >= 6) | ~needed),
        limit_mps=pc.fill_null(table["speed_limit_mps"], 0.0).to_numpy(),
    )


def relabeled_columns(table: pa.Table, num_codes: int) -> "pd.DataFrame":
    """The smallest code of each row, by how much its largest is above the codebook's last, and
    whether its codebook is that of the first row.
    """
    codes_NS = listed(table, "codes", code_layout(table).slots)
    frame = table.select(["log_id", "frame_index", "codebook_version"]).to_pandas()
    return frame.assign(
        code_min=codes_NS.min(axis=1),
        code_excess=np.maximum(codes_NS.max(axis=1).astype(float) - (num_codes - 1), 0.0),
        same_codebook=frame["codebook_version"] == frame["codebook_version"].iloc[:1].max(),
    )


def score_columns(table: pa.Table) -> "pd.DataFrame":
    """The scenes' scores: how far outside 0 ... 1 the worst is, whether the errors are numbers and
    a scene without scores has its reason, and how many planners lack the scene.
    """
    frame = table.select(["log_id", "frame_index", "planner", "scored", "reason"]).to_pandas()
    outside, sound = np.zeros(len(frame)), np.ones(len(frame), bool)
    for name in MEASURES:
        there = pc.is_valid(table[name]).to_numpy()
        values = pc.fill_null(table[name], 0.0).to_numpy()
        if name not in _UNBOUNDED:  # NaN stays NaN, which breaks the rule
            outside = np.maximum(outside, np.maximum(-values, values - 1.0))
        else:
            sound &= ~there | (np.isfinite(values) & ((values >= 0) | (name not in _ERRORS)))
    both = (pc.is_valid(table["pdms"]).to_numpy()) & (pc.is_valid(table["epdms"]).to_numpy())
    planners = frame.groupby(["log_id", "frame_index"])["planner"].transform("nunique")
    return frame.assign(
        outside=outside,
        error_sound=sound,
        explained=np.where(frame["scored"], both, frame["reason"].str.len() > 0),
        planners_missing=frame["planner"].nunique() - planners,
    )


def plan_columns(table: pa.Table) -> "pd.DataFrame":
    """The plans, and whether all their numbers are finite."""
    numbers = listed(table, "plan_xyyaw", table.schema.field("plan_xyyaw").type.list_size)
    frame = table.select(["log_id", "frame_index", "planner"]).to_pandas()
    return frame.assign(finite=np.isfinite(numbers).all(axis=1))


def listed(table: pa.Table, name: str, width: int) -> np.ndarray:
    """A column of fixed-size lists as an array (rows, width)."""
    return (
        table[name]
        .combine_chunks()
        .flatten()
        .to_numpy(zero_copy_only=False)
        .reshape(len(table), width)
    )


def _finite_numbers(table: pa.Table) -> np.ndarray:
    """Whether all floating numbers of each row are finite, also those in lists of fixed size.

    Neither Great Expectations, which takes NaN for a missing value, nor the statistics of Parquet,
    which leave NaN out, find them.
    """
    finite = np.ones(len(table), bool)
    for field in table.schema:
        if pa.types.is_floating(field.type):
            finite &= np.isfinite(table[field.name].to_numpy())
        elif pa.types.is_fixed_size_list(field.type) and pa.types.is_floating(
            field.type.value_type
        ):
            finite &= np.isfinite(listed(table, field.name, field.type.list_size)).all(axis=1)
    return finite


def _list_state(column: pa.ChunkedArray) -> tuple[np.ndarray, np.ndarray]:
    """Length of each list, and whether all its numbers are finite."""
    lengths = pc.list_value_length(column).to_numpy()
    flat = pc.list_flatten(column).to_numpy()
    bad_before = np.r_[0, np.cumsum(~np.isfinite(flat))]
    ends = np.cumsum(lengths)
    return lengths, bad_before[ends] == bad_before[ends - lengths]


def _is_known(table: pa.Table, known: pa.Table | None) -> np.ndarray:
    """Whether (log_id, frame_index) of each row is in `known`; None: taken as known."""
    if known is None:
        return np.ones(len(table), bool)
    key = ["log_id", "frame_index"]
    rows = table.select(key).append_column("row", pa.array(np.arange(len(table))))
    found = rows.join(known.select(key), keys=key, join_type="left semi")["row"].to_numpy()
    result = np.zeros(len(table), bool)
    result[found] = True
    return result
