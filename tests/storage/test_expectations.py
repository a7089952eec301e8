"""Each data rule passes on valid rows and names the row that breaks it."""

import re

import numpy as np
import pyarrow as pa
import pytest

from storage.expectations import (
    TRAJECTORY_RULES,
    validate_agents,
    validate_relabeled,
    validate_trajectories,
)
from storage.trajectory_table import AGENTS, TRAJECTORIES, CodeLayout, relabeled_schema

ROWS = 24


def straight_drive(**changes) -> pa.Table:
    """A log at a steady 8 m/s along x, 2 Hz, with whole columns replaced by `changes`."""
    speed, time_s = 8.0, np.arange(ROWS) * 0.5
    ahead = speed * np.arange(1, 9) * 0.5
    future = np.stack([ahead, 0 * ahead, 0 * ahead], axis=1).ravel().astype(np.float32)
    columns = {
        "log_id": ["drive"] * ROWS,
        "frame_index": np.arange(ROWS),
        "timestamp_us": (time_s * 1e6).astype(np.int64),
        "split": ["train"] * ROWS,
        "location": [""] * ROWS,
        "x_m": speed * time_s,
        "y_m": np.zeros(ROWS),
        "yaw_rad": np.zeros(ROWS),
        "vx_mps": np.full(ROWS, speed),
        "vy_mps": np.zeros(ROWS),
        "ax_mps2": np.zeros(ROWS),
        "ay_mps2": np.zeros(ROWS),
        "yaw_rate_radps": np.zeros(ROWS),
        "command": np.ones(ROWS, dtype=np.int8),
        "has_image": np.ones(ROWS, dtype=bool),
        "history_xyyaw": [np.zeros(12, dtype=np.float32)] * ROWS,
        "history_valid": [[True] * 4] * ROWS,
        "future_xyyaw": [future] * ROWS,
        "future_valid": [[True] * 8] * ROWS,
        "route_roadblock_ids": [[]] * ROWS,
        "tags": [[]] * ROWS,
    } | changes
    arrays = {field.name: pa.array(columns[field.name], field.type) for field in TRAJECTORIES}
    return pa.table(arrays, schema=TRAJECTORIES)


def changed(column: str, row: int, value) -> pa.Table:
    values = straight_drive()[column].to_pylist()
    values[row] = value
    return straight_drive(**{column: values})


def test_a_valid_drive_passes_every_rule():
    validation = validate_trajectories(straight_drive())
    assert validation.passed and all(result.passed for result in validation.results)
    assert [result.rule.name for result in validation.results] == [
        rule.name for rule in TRAJECTORY_RULES
    ]


@pytest.mark.parametrize(
    ("rule", "column", "value"),
    [
        ("key_is_unique", "frame_index", 6),
        ("pose_is_finite", "ax_mps2", float("nan")),
        ("time_increases", "timestamp_us", 1),
        ("speed_in_range", "vx_mps", 90.0),
        ("pose_agrees_with_speed", "x_m", 500.0),
        ("command_is_known", "command", 9),
        ("future_agrees_with_speed", "future_xyyaw", [30.0] * 24),
        ("heading_is_wrapped", "yaw_rad", 7.0),
        ("acceleration_in_range", "ay_mps2", 15.0),
        ("yaw_rate_in_range", "yaw_rate_radps", 3.0),
        ("jerk_in_range", "ax_mps2", 20.0),
    ],
)
def test_a_broken_row_fails_its_rule_and_is_named(rule, column, value):
    results = {
        result.rule.name: result
        for result in validate_trajectories(changed(column, 7, value)).results
    }
    assert not results[rule].passed
    assert "drive/7" in results[rule].failed_keys or rule == "key_is_unique"


def test_missing_images_and_futures_warn_without_blocking():
    validation = validate_trajectories(
        straight_drive(has_image=[False] * ROWS, future_valid=[[False] * 8] * ROWS)
    )
    failed = {result.rule.name for result in validation.results if not result.passed}
    assert failed == {"rows_have_images", "rows_have_futures"} and validation.passed


def test_codes_out_of_range_and_mixed_codebooks_block():
    base = straight_drive()
    for codes, versions in (
        ([3] * 12, ["a", "b"]),
        ([16] * 12, ["a", "a"]),
        ([-1] * 12, ["a", "a"]),
    ):
        extra = {
            "codes": [codes] * ROWS,
            "codes_valid": [[True] * 12] * ROWS,
            "codebook_version": [versions[i % 2] for i in range(ROWS)],
        }
        table = pa.table({**{name: base[name] for name in base.column_names}, **extra}).cast(
            relabeled_schema(CodeLayout(3, 4, 16))
        )
        assert not validate_relabeled(table, 16).passed


def test_a_track_that_appears_twice_in_a_frame_blocks():
    row = {
        "log_id": "drive",
        "frame_index": 0,
        "track_token": "t",
        "category": 0,
        "x_m": 0.0,
        "y_m": 0.0,
        "z_m": 0.0,
        "yaw_rad": 0.0,
        "vx_mps": 0.0,
        "vy_mps": 0.0,
        "length_m": 4.0,
        "width_m": 2.0,
        "height_m": 1.5,
    }
    assert validate_agents(pa.Table.from_pylist([row], schema=AGENTS)).passed
    assert not validate_agents(pa.Table.from_pylist([row, row], schema=AGENTS)).passed


def test_the_data_docs_open_offline_and_name_the_rules():
    page = validate_trajectories(straight_drive()).html
    assert "speed_mps" in page and "http://" not in page and "https://" not in page
    # elements with an external address are removed, not left with an empty one
    assert re.findall(r"""<(?:link|img|script)[^>]*["']#""", page) == []
