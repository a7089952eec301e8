"""Planners by name, the baselines among them, and their latency."""

from dataclasses import fields, replace

import numpy as np
import pytest

from ops.evaluation.planners import PLANNERS, open_planner, open_planners
from ops.planners import baselines
from ops.planners.latency import measure_latency
from storage.dataset import FrameSet
from storage.errors import ArtifactError, ConfigError
from storage.metrics_table import LATENCY
from tests.worlds.tiny_vla import tiny_frames, trained_artifacts

CAMERA_PLANNERS = ("planner_alone", "student_no_teacher", "vla", "student")


@pytest.fixture(scope="module")
def planners():
    return open_planners(trained_artifacts().vla, trained_artifacts().student)


def test_every_planner_opens_by_name_and_plans(planners):
    assert tuple(planners) == PLANNERS
    for name, planner in planners.items():
        plans = planner.plan(trained_artifacts().val)
        assert plans.shape == (24, 8, 3) and np.isfinite(plans).all(), name
        assert planner.plan(trained_artifacts().val.take(np.arange(0))).shape == (0, 8, 3), name


def test_no_planner_uses_the_future_the_codes_or_the_world_pose(planners):
    rows, noise = trained_artifacts().val, np.random.default_rng(3)
    other = replace(
        rows,
        future=noise.normal(size=rows.future.shape).astype(np.float32),
        codes=noise.integers(0, 16, rows.codes.shape),
        codes_valid=~rows.codes_valid,
        yaw_rate=noise.normal(size=len(rows)).astype(np.float32),
        pose_world=noise.normal(size=(len(rows), 3)),
    )
    for name, planner in planners.items():
        assert np.array_equal(planner.plan(other), planner.plan(rows)), name


def test_only_planners_with_a_camera_depend_on_the_image(planners):
    blank = replace(trained_artifacts().val, images=np.zeros_like(trained_artifacts().val.images))
    for name, planner in planners.items():
        assert np.array_equal(planner.plan(blank), planner.plan(trained_artifacts().val)) == (
            name not in CAMERA_PLANNERS
        ), name


def test_a_plan_does_not_depend_on_the_other_rows_of_the_batch(planners):
    for name, planner in planners.items():
        alone = planner.plan(trained_artifacts().val.take(np.array([7])))
        assert np.allclose(alone[0], planner.plan(trained_artifacts().val)[7], atol=2e-2), name


def test_parameters_are_counted(planners):
    count = {name: planner.parameters for name, planner in planners.items()}
    assert count["stopped"] == count["constant_velocity"] == 0
    assert count["student"] == count["student_no_teacher"] > count["planner_alone"] > 0
    assert count["vla"] > count["planner_alone"]


def test_an_unknown_planner_name_is_an_error_that_suggests_the_nearest_one():
    with pytest.raises(ConfigError, match="did you mean 'student'"):
        open_planner("studnet", trained_artifacts().vla, trained_artifacts().student)


def test_a_missing_artefact_is_an_error(tmp_path):
    for name in ("vla", "student", "ego_status_mlp"):
        with pytest.raises(ArtifactError):
            open_planner(name, tmp_path, tmp_path)


def one_row(**values) -> FrameSet:
    return replace(tiny_frames(1, 1), **values)


def test_the_rules_plan_by_their_definitions():
    row = one_row(velocity=np.array([[3.0, 4.0]], np.float32))
    assert not baselines.stopped(row).any()
    assert np.allclose(baselines.constant_velocity(row)[0, :, 0], 2.5 * np.arange(1, 9))
    history = np.zeros((1, 4, 3), np.float32)
    history[0, -1] = [-2.0, 0.0, -0.1]  # a turn of 0.1 rad in the last 0.5 s: 0.2 rad/s
    arc = baselines.constant_turn_rate(replace(row, history=history))[0]
    radius = 5.0 / 0.2
    assert np.allclose(arc[:, 2], 0.1 * np.arange(1, 9), atol=1e-6)
    assert np.allclose(np.hypot(arc[:, 0], arc[:, 1] - radius), radius, atol=1e-4)


def test_without_a_history_the_turn_rate_is_zero():
    row = one_row(history_valid=np.zeros((1, 4), bool), history=np.ones((1, 4, 3), np.float32))
    assert np.array_equal(baselines.constant_turn_rate(row), baselines.constant_velocity(row))


def test_the_human_plan_needs_a_complete_future():
    rows = tiny_frames(1, 3)
    assert np.array_equal(baselines.human(rows), rows.future)
    rows.future_valid[1, 6] = False
    with pytest.raises(ConfigError, match="log0 1"):
        baselines.human(rows)


def test_latency_has_one_row_per_planner_in_the_schema_of_its_table(planners):
    table = measure_latency(
        {name: planners[name] for name in ("vla", "student", "stopped")},
        trained_artifacts().val,
        calls=5,
        turn=2,
    )
    assert table.schema.equals(LATENCY) and table["planner"].to_pylist() == [
        "vla",
        "student",
        "stopped",
    ]
    rows = {row["planner"]: row for row in table.to_pylist()}
    assert all(
        row["p95_ms"] >= row["p50_ms"] > 0 and row["calls"] == 5 and row["threads"] == 1
        for row in rows.values()
    )
    assert rows["stopped"]["parameters"] == 0 < rows["student"]["parameters"]


def test_frame_set_has_a_slot_for_every_field():
    assert {item.name for item in fields(FrameSet)} == set(FrameSet.__slots__)
