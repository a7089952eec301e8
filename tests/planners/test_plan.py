"""Planners by name, the rules among them, and how long each takes."""

from dataclasses import fields, replace

import numpy as np
import pytest

from ops.evaluation.planners import PLANNERS, open_planner, open_planners
from ops.planners import baselines
from ops.planners.latency import measure_latency
from storage.dataset import FrameSet
from storage.errors import ArtifactError, ConfigError
from storage.metrics_table import LATENCY
from tests.worlds.tiny_vla import made, tiny_frames

SIGHTED = ("planner_alone", "student_no_teacher", "vla", "student")


@pytest.fixture(scope="module")
def planners():
    return open_planners(made().vla, made().student)


def test_every_planner_answers_by_name(planners):
    assert tuple(planners) == PLANNERS
    for name, planner in planners.items():
        plans = planner.plan(made().val)
        assert plans.shape == (24, 8, 3) and np.isfinite(plans).all(), name
        assert planner.plan(made().val.take(np.arange(0))).shape == (0, 8, 3), name


def test_no_planner_can_see_the_future_or_the_codes(planners):
    rows, noise = made().val, np.random.default_rng(3)
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


def test_only_the_sighted_planners_look_at_the_image(planners):
    blank = replace(made().val, images=np.zeros_like(made().val.images))
    for name, planner in planners.items():
        assert np.array_equal(planner.plan(blank), planner.plan(made().val)) == (
            name not in SIGHTED
        ), name


def test_a_plan_does_not_depend_on_the_rows_beside_it(planners):
    for name, planner in planners.items():
        alone = planner.plan(made().val.take(np.array([7])))
        assert np.allclose(alone[0], planner.plan(made().val)[7], atol=2e-2), name


def test_the_parameters_are_counted(planners):
    count = {name: planner.parameters for name, planner in planners.items()}
    assert count["stopped"] == count["constant_velocity"] == 0
    assert count["student"] == count["student_no_teacher"] > count["planner_alone"] > 0
    assert count["vla"] > count["planner_alone"]


def test_an_unknown_name_is_answered_with_the_nearest_one():
    with pytest.raises(ConfigError, match="did you mean 'student'"):
        open_planner("studnet", made().vla, made().student)


def test_a_missing_artefact_is_named(tmp_path):
    for name in ("vla", "student", "ego_status_mlp"):
        with pytest.raises(ArtifactError):
            open_planner(name, tmp_path, tmp_path)


def one_row(**values) -> FrameSet:
    return replace(tiny_frames(1, 1), **values)


def test_the_rules_do_what_their_names_say():
    row = one_row(velocity=np.array([[3.0, 4.0]], np.float32))
    assert not baselines.stopped(row).any()
    assert np.allclose(baselines.constant_velocity(row)[0, :, 0], 2.5 * np.arange(1, 9))
    history = np.zeros((1, 4, 3), np.float32)
    history[0, -1] = [-2.0, 0.0, -0.1]  # it turned by 0.1 rad in the last half second: 0.2 rad/s
    arc = baselines.constant_turn_rate(replace(row, history=history))[0]
    radius = 5.0 / 0.2
    assert np.allclose(arc[:, 2], 0.1 * np.arange(1, 9), atol=1e-6)
    assert np.allclose(np.hypot(arc[:, 0], arc[:, 1] - radius), radius, atol=1e-4)


def test_without_a_past_the_turn_rate_is_zero():
    row = one_row(history_valid=np.zeros((1, 4), bool), history=np.ones((1, 4, 3), np.float32))
    assert np.array_equal(baselines.constant_turn_rate(row), baselines.constant_velocity(row))


def test_the_human_needs_a_whole_future():
    rows = tiny_frames(1, 3)
    assert np.array_equal(baselines.human(rows), rows.future)
    rows.future_valid[1, 6] = False
    with pytest.raises(ConfigError, match="log0 1"):
        baselines.human(rows)


def test_latency_is_a_row_a_planner_in_the_tables_schema(planners):
    table = measure_latency(
        {name: planners[name] for name in ("vla", "student", "stopped")},
        made().val,
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


def test_a_frame_set_is_built_with_every_field():
    assert {item.name for item in fields(FrameSet)} == set(FrameSet.__slots__)
