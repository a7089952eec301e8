"""Displacement errors, intervals over logs, and open-loop L2 and collisions on small worlds checked
by hand.
"""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ops.evaluation.boxes import overlap
from ops.evaluation.config import IntervalConfig, OpenLoopConfig
from ops.evaluation.displacement import displacement
from ops.evaluation.intervals import intervals
from ops.evaluation.open_loop import open_loop
from storage.dataset import FrameSet
from storage.errors import ConfigError
from storage.trajectory_table import AGENTS, Category

STRAIGHT = np.stack([np.arange(1, 9) * 5.0, np.zeros(8), np.zeros(8)], axis=1).astype(np.float32)


def frames(count: int = 12, logs: int = 1) -> FrameSet:
    """Straight drives at 10 m/s along the world's x axis, `count` frames a log."""
    total = count * logs
    log = np.repeat(np.array([f"log-{number}" for number in range(logs)], object), count)
    index = np.tile(np.arange(count, dtype=np.int32), logs)
    valid = index[:, None] + np.arange(1, 9) < count
    zeros = np.zeros((total, 2), np.float32)
    return FrameSet(
        log_id=log,
        frame_index=index,
        timestamp_us=index.astype(np.int64) * 500_000,
        images=np.zeros((total, 0, 0, 3), np.uint8),
        has_image=np.ones(total, bool),
        camera=np.zeros((total, 19), np.float32),
        pose_world=np.stack([index * 5.0, np.zeros(total), np.zeros(total)], axis=1),
        velocity=zeros + np.array([10, 0], np.float32),
        acceleration=zeros,
        yaw_rate=zeros[:, 0],
        command=np.ones(total, np.int64),
        history=np.zeros((total, 4, 3), np.float32),
        history_valid=np.ones((total, 4), bool),
        future=np.where(valid[..., None], STRAIGHT, 0).astype(np.float32),
        future_valid=valid,
        codes=np.zeros((total, 12), np.int64),
        codes_valid=np.zeros((total, 12), bool),
        tags=np.array([*[()] * total, None], object)[:-1],
    )


def agent(frame: int, x: float, y: float, category: Category = Category.VEHICLE) -> dict:
    return {
        "log_id": "log-0",
        "frame_index": frame,
        "track_token": "a",
        "category": int(category),
        "x_m": x,
        "y_m": y,
        "z_m": 0.8,
        "yaw_rad": 0.0,
        "vx_mps": 0.0,
        "vy_mps": 0.0,
        "length_m": 4.0,
        "width_m": 2.0,
        "height_m": 1.5,
    }


def test_the_human_plan_has_no_error() -> None:
    error = displacement(STRAIGHT[None, None], STRAIGHT[None], np.ones((1, 8), bool))
    assert error.ade_m.max() == error.fde_m.max() == error.lateral_m.max() == 0.0


def test_a_plan_one_metre_to_the_left_has_lateral_error_one_whatever_the_heading() -> None:
    yaw = 0.7
    turned = STRAIGHT.copy()
    turned[:, 0], turned[:, 1], turned[:, 2] = (
        STRAIGHT[:, 0] * np.cos(yaw),
        STRAIGHT[:, 0] * np.sin(yaw),
        yaw,
    )
    plan = turned + np.array([-np.sin(yaw), np.cos(yaw), 0.0], np.float32)
    error = displacement(plan[None, None], turned[None], np.ones((1, 8), bool))
    assert error.lateral_m[0, 0] == pytest.approx(1.0, abs=1e-5)
    late = displacement(
        (STRAIGHT - [2.0, 0.0, 0.0])[None, None], STRAIGHT[None], np.ones((1, 8), bool)
    )
    assert late.lateral_m[0, 0] == pytest.approx(0.0) and late.ade_m[0, 0] == pytest.approx(2.0)


def test_steps_without_a_human_pose_do_not_count() -> None:
    plan = STRAIGHT.copy()
    plan[4:, 1] = 100.0
    valid = np.arange(8) < 4
    error = displacement(plan[None, None], STRAIGHT[None], valid[None])
    assert error.ade_m[0, 0] == 0.0 and error.ade_valid[0] and not error.fde_valid[0]
    assert not displacement(plan[None, None], STRAIGHT[None], np.zeros((1, 8), bool)).ade_valid[0]


def test_plans_of_other_rows_are_refused() -> None:
    with pytest.raises(ConfigError, match="do not belong together"):
        displacement(STRAIGHT[None, None], np.stack([STRAIGHT, STRAIGHT]), np.ones((2, 8), bool))


def test_an_interval_is_bootstrapped_over_logs_not_scenes() -> None:
    log = np.repeat(np.array(["a", "b"], object), 500)
    values = np.where(log == "a", 0.0, 1.0)[:, None]
    item = intervals(values, np.ones_like(values, bool), log, IntervalConfig())[0]
    assert item is not None and item.mean == 0.5 and item.n == 1000 and item.logs == 2
    # a thousand scenes of two logs say no more than two
    assert item.low == 0.0 and item.high == 1.0


def test_columns_share_their_draws_so_a_constant_difference_has_no_spread() -> None:
    generator = np.random.default_rng(0)
    log = np.repeat(np.array([*"abcdefgh"], object), 5)
    first = generator.normal(size=40)
    item = intervals((first + 0.3 - first)[:, None], np.ones((40, 1), bool), log, IntervalConfig())[
        0
    ]
    assert item is not None and item.low == pytest.approx(0.3) and item.high == pytest.approx(0.3)


def test_invalid_scenes_are_in_no_mean_and_a_column_without_scenes_has_none() -> None:
    log = np.array(["a", "b"], object)
    values, valid = np.array([[1.0, 9.0], [5.0, 9.0]]), np.array([[True, False], [False, False]])
    first, second = intervals(values, valid, log, IntervalConfig())
    assert first is not None and (first.mean, first.n, first.logs) == (1.0, 1, 1) and second is None


def test_l2_at_and_l2_up_to_a_time_are_different_numbers_of_the_same_plan() -> None:
    rows = frames().take(np.array([0]))
    plan = STRAIGHT.copy()
    plan[:, 1] = np.arange(1, 9) * 0.1  # 0.1 m further off each half second
    table = open_loop(
        rows, plan[None, None], ("p",), AGENTS.empty_table(), frames(), OpenLoopConfig()
    ).to_pylist()
    l2 = {
        (row["convention"], row["horizon_s"]): row["l2_m"]
        for row in table
        if row["subset"] == "all"
    }
    assert [l2["at", k] for k in (1, 2, 3)] == pytest.approx([0.2, 0.4, 0.6], abs=1e-6)
    assert [l2["upto", k] for k in (1, 2, 3)] == pytest.approx([0.15, 0.25, 0.35], abs=1e-6)


def test_a_box_on_the_path_is_a_collision_of_that_pose_only() -> None:
    rows = frames().take(np.array([0]))
    ahead = OpenLoopConfig().center_ahead_m
    plan = STRAIGHT.copy()
    # the human passes beside the box, the plan through it
    plan[:, 1] = 6.0
    table = pa.Table.from_pylist([agent(4, 20.0 + ahead, 6.0)], AGENTS)
    collisions = {
        (row["convention"], row["horizon_s"]): row["collision"]
        for row in open_loop(
            rows, plan[None, None], ("p",), table, frames(), OpenLoopConfig()
        ).to_pylist()
        if row["subset"] == "all"
    }
    assert [collisions["at", k] for k in (1, 2, 3)] == [0.0, 1.0, 0.0]
    assert [collisions["upto", k] for k in (1, 2, 3)] == pytest.approx([0.0, 1 / 4, 1 / 6])


def test_a_pose_at_which_the_human_collides_counts_in_no_collision_rate() -> None:
    rows = frames().take(np.array([0]))
    table = pa.Table.from_pylist([agent(4, 20.0, 0.0)], AGENTS)
    result = open_loop(
        rows, STRAIGHT[None, None], ("p",), table, frames(), OpenLoopConfig()
    ).to_pylist()
    at_two = next(
        row
        for row in result
        if (row["convention"], row["horizon_s"], row["subset"]) == ("at", 2, "all")
    )
    assert at_two["collision"] is None and at_two["l2_m"] == 0.0


def test_each_convention_masks_an_incomplete_future_in_its_own_way() -> None:
    # the last frame has number 5: 2.5 s and 2 s of future
    rows = frames(6).take(np.array([0, 1]))
    table = open_loop(
        rows,
        np.stack([STRAIGHT, STRAIGHT])[:, None],
        ("p",),
        AGENTS.empty_table(),
        frames(6),
        OpenLoopConfig(),
    )
    count = {
        (row["convention"], row["horizon_s"]): (row["n_rows"], row["n_expected"])
        for row in table.to_pylist()
        if row["subset"] == "all"
    }
    assert count["at", 2] == (2, 2) and count["at", 3] == (0, 2) and count["upto", 1] == (0, 2)


def test_the_ego_box_turns_with_the_planned_heading() -> None:
    rows = frames().take(np.array([0]))
    across = STRAIGHT.copy()
    # standing across the lane, the box reaches far to the left
    across[:, 2] = np.pi / 2
    table = pa.Table.from_pylist([agent(4, 20.0, 3.8)], AGENTS)
    tables = {
        name: open_loop(
            rows, plan[None, None], ("p",), table, frames(), OpenLoopConfig()
        ).to_pylist()
        for name, plan in (("along", STRAIGHT), ("across", across))
    }
    at_two = {
        name: next(
            row["collision"]
            for row in rows
            if (row["convention"], row["horizon_s"], row["subset"]) == ("at", 2, "all")
        )
        for name, rows in tables.items()
    }
    assert at_two == {"along": 0.0, "across": 1.0}


@settings(max_examples=60, deadline=None)
@given(
    st.tuples(*[st.floats(-6, 6) for _ in range(2)], st.floats(-3, 3)),
    st.tuples(*[st.floats(-6, 6) for _ in range(2)], st.floats(-3, 3)),
    st.tuples(*[st.floats(-50, 50) for _ in range(2)], st.floats(-3, 3)),
)
def test_boxes_overlap_as_polygons_do_and_a_rigid_motion_changes_nothing(
    a: tuple, b: tuple, move: tuple
) -> None:
    from shapely.geometry import Polygon

    from ops.evaluation.boxes import corners

    box_a, box_b = np.array([*a, 4.0, 2.0]), np.array([*b, 3.0, 1.5])
    gap = Polygon(corners(box_a)).distance(Polygon(corners(box_b)))
    area = Polygon(corners(box_a)).intersection(Polygon(corners(box_b))).area
    if gap < 1e-6 and area < 1e-6:
        return  # they only just touch: rounding decides
    assert bool(overlap(box_a, box_b)) == (gap == 0.0)
    cos, sin = np.cos(move[2]), np.sin(move[2])
    turn = np.array([[cos, -sin], [sin, cos]])
    moved = [
        np.concatenate([turn @ box[:2] + move[:2], [box[2] + move[2]], box[3:]])
        for box in (box_a, box_b)
    ]
    assert bool(overlap(*moved)) == bool(overlap(box_a, box_b))
