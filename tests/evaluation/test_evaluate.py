"""The evaluation: one row per scene and planner, no scene lost silently, scores that recompute from
their sub-scores, correct means.

The plans are really scored, on a straight road where the outcome of each plan is known.
"""

import json
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as pcsv
import pytest

from ops.evaluation.config import EvaluationConfig, IntervalConfig
from ops.evaluation.evaluate import EvaluationSummary, all_plans, evaluate
from ops.evaluation.scene_scores import recompute
from ops.evaluation.score_table import read_score_table
from ops.evaluation.summarize import differences_table, find_interval, score_cube, summary_table
from ops.pdm.config import ScenesConfig
from ops.pdm.log_scorer import open_log
from ops.pdm.scene.from_tables import scene_frames
from ops.pdm.score_rows import TRAINING_COLUMNS, PlanScorer, scene_rows, score_scenes
from storage.dataset import FrameSet, read_dataset
from storage.errors import ArtifactError, ConfigError
from storage.lake import Lake
from storage.metrics_table import SCORES, V2_PARTS, read_metrics
from storage.trajectory_table import TRAJECTORIES, read_table, write_table
from tests.worlds.tiny_lake import FRAMES, HEIGHT, WIDTH, write_tiny_lake

HERE = EvaluationConfig(scenes=ScenesConfig(processes=1), interval=IntervalConfig(resamples=200))


@dataclass(frozen=True, slots=True)
class Shifted:
    """Plans the human's path, shifted to the left by `left_m` metres or, with `by_image`, by the
    brightness of the image.
    """

    left_m: float = 0.0
    pace: float = 1.0  # of the human's progress
    by_image: bool = False

    def plan(self, rows: FrameSet) -> np.ndarray:
        plans = rows.future.astype(np.float64) * [self.pace, 1.0, 1.0]
        plans[..., 1] += rows.images.mean(axis=(1, 2, 3))[:, None] if self.by_image else self.left_m
        return plans


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    return write_tiny_lake(tmp_path_factory.mktemp("lake"))


@pytest.fixture(scope="module")
def rows(lake: Lake) -> FrameSet:
    return read_dataset(lake, "test", size_hw=(HEIGHT // 3, WIDTH // 3))


@pytest.fixture(scope="module")
def evaluated(
    lake: Lake, rows: FrameSet, tmp_path_factory: pytest.TempPathFactory
) -> tuple[EvaluationSummary, Path]:
    out = tmp_path_factory.mktemp("evaluation")
    planners = {
        "stopped": Shifted(pace=0.0),
        "ego_status_mlp": Shifted(left_m=30.0),
        "student": Shifted(left_m=0.2),
    }
    return evaluate(rows, planners, lake, out, HERE, seeds={"student": 7}), out


def test_the_scenes_of_a_log_are_those_of_the_score(lake: Lake, rows: FrameSet) -> None:
    chosen = scene_rows(rows)
    for log in ("log-a", "log-b"):
        expected = scene_frames(read_table(lake.log("trajectories", log), "trajectories"))
        assert (
            rows.frame_index[chosen[rows.log_id[chosen] == log]].tolist()
            == expected.tolist()
            == [*range(3, 14)]
        )
    gap = rows.take(rows.frame_index != 8)  # a frame is missing: no scene may reach across
    assert gap.frame_index[scene_rows(gap)].tolist() == [12, 13] * 2


def test_every_expected_scene_gives_one_row_a_planner(
    evaluated: tuple[EvaluationSummary, Path],
) -> None:
    summary, out = evaluated
    scores = read_metrics(out, "scores")
    planners = [
        "human",
        "stopped",
        "ego_status_mlp",
        "student",
        "student_blank",
        "student_shuffled",
        "pdm_closed",
    ]
    assert (
        score_cube(scores).planners == tuple(planners)
        and len(scores) == 22 * 7
        and scores.schema.equals(SCORES)
    )
    assert (summary.n_expected, summary.n_scored, summary.n_logs, summary.unscored) == (
        22,
        22,
        2,
        (),
    )
    assert set(zip(scores["planner"].to_pylist(), scores["seed"].to_pylist(), strict=True)) >= {
        ("student", 7),
        ("human", None),
    }


def test_good_and_bad_plans_get_high_and_low_scores(
    evaluated: tuple[EvaluationSummary, Path],
) -> None:
    summary, _ = evaluated

    def mean(planner: str, measure: str) -> float:
        interval = find_interval(summary.summary, planner=planner, measure=measure, subset="all")
        assert interval is not None
        return interval.mean

    assert mean("human", "pdms") > 0.95 and mean("human", "ade_m") == 0.0
    assert mean("pdm_closed", "ep") > 0.99
    assert mean("stopped", "ep") < 0.4 and mean("stopped", "pdms") < mean("student", "pdms")
    # 30 m off the road
    assert mean("ego_status_mlp", "dac") == 0.0 == mean("ego_status_mlp", "pdms")
    assert mean("ego_status_mlp", "lateral_m") == pytest.approx(30.0) and mean(
        "student", "ade_m"
    ) == pytest.approx(0.2)


def test_scores_recompute_from_their_sub_scores_and_a_changed_sub_score_is_detected(
    evaluated: tuple[EvaluationSummary, Path],
) -> None:
    scores = read_metrics(evaluated[1], "scores")
    assert recompute(scores).keys == () and recompute(scores).rows == len(scores)
    for name in ("ttc", "ec_v2"):
        column = [
            value if row != 5 or value is None else 1.0 - value
            for row, value in enumerate(scores[name].to_pylist())
        ]
        changed = scores.set_column(
            scores.column_names.index(name), SCORES.field(name), pa.array(column, pa.float64())
        )
        expected = changed[name][5] != scores[name][5]
        assert bool(recompute(changed).keys) == expected
    nothing = scores.set_column(
        scores.column_names.index("nc"), SCORES.field("nc"), pa.nulls(len(scores), pa.float64())
    )
    assert len(recompute(nothing).keys) == 20 and recompute(nothing).worst == np.inf


def test_extended_comfort_needs_the_previous_frame(
    evaluated: tuple[EvaluationSummary, Path],
) -> None:
    scores = read_metrics(evaluated[1], "scores").to_pylist()
    assert {row["frame_index"] for row in scores if row["ec_v2"] is None} == {3}
    assert all(row[name] is not None for row in scores for name in V2_PARTS if name != "ec_v2")


def test_tables_are_written_as_parquet_csv_and_text(
    evaluated: tuple[EvaluationSummary, Path],
) -> None:
    summary, out = evaluated
    assert sorted(file.name for file in out.iterdir()) == sorted(
        [
            *(
                f"{name}.{kind}"
                for name in ("scores", "summary", "differences", "latency")
                for kind in ("parquet", "csv")
            ),
            "plans.parquet",
            "summary.json",
        ]
    )
    text = pcsv.read_csv(out / "scores.csv")
    assert len(text) == 22 * 7 and text["tags"].to_pylist().count("cut_in") == 9 * 7
    plans = read_metrics(out, "plans")
    assert len(plans) == 22 * 7 and len(plans["plan_xyyaw"][0]) == 24
    assert json.loads((out / "summary.json").read_text())["n_scored"] == summary.n_scored


def test_a_scene_has_the_events_of_its_4_seconds(
    evaluated: tuple[EvaluationSummary, Path],
) -> None:
    scores = read_metrics(evaluated[1], "scores").to_pylist()
    tagged = {(row["log_id"], row["frame_index"]) for row in scores if row["tags"]}
    # active in frames 8 to 11; 4 s are 8 frames
    assert tagged == {("log-b", frame) for frame in range(3, 12)}
    interval = find_interval(
        evaluated[0].summary, planner="human", measure="pdms", subset="tag:cut_in"
    )
    assert interval is not None and interval.n == 9


def test_a_scene_that_cannot_be_scored_keeps_its_row_and_its_reason(tmp_path: Path) -> None:
    lake = write_tiny_lake(tmp_path / "lake")
    file = lake.log("trajectories", "log-b") / "trajectories.parquet"
    table = read_table(file.parent, "trajectories")
    routes = [[] if frame == 6 else ["block"] for frame in range(FRAMES)]
    at = table.column_names.index("route_roadblock_ids")
    write_table(
        table.set_column(at, "route_roadblock_ids", pa.array(routes, pa.list_(pa.string()))),
        file,
        TRAJECTORIES,
    )
    summary = evaluate(
        read_dataset(lake, "test"), {"stopped": Shifted(pace=0.0)}, lake, tmp_path / "out", HERE
    )
    assert (summary.n_expected, summary.n_scored) == (22, 21)
    assert [(item.log_id, item.frame_index, item.planner) for item in summary.unscored] == [
        ("log-b", 6, "")
    ]
    assert "no route" in summary.unscored[0].reason
    human = find_interval(summary.summary, planner="human", measure="pdms", subset="all")
    assert human is not None and human.n == 21
    assert set(
        summary.summary.filter(pa.compute.field("subset") == "all")["n_expected"].to_pylist()
    ) == {22}
    scores = read_metrics(tmp_path / "out", "scores").to_pylist()
    lost = [row for row in scores if not row["scored"]]
    assert len(lost) == 3 and all(
        row["pdms"] is None and "no route" in row["reason"] for row in lost
    )


def test_a_plan_with_nan_is_unscored_for_its_planner_alone(
    lake: Lake, rows: FrameSet, tmp_path: Path
) -> None:
    @dataclass
    class Broken:
        def plan(self, scenes: FrameSet) -> np.ndarray:
            plans = scenes.future.astype(np.float64)
            plans[2, 3, 0] = np.nan
            return plans

    summary = evaluate(rows, {"broken": Broken()}, lake, tmp_path, HERE)
    assert summary.n_scored == 21 and [
        (item.planner, item.reason) for item in summary.unscored
    ] == [("broken", "the plan holds NaN or infinity")]
    interval = find_interval(summary.summary, planner="human", measure="pdms", subset="all")
    assert interval is not None and interval.n == 22
    table = read_score_table(tmp_path)
    assert table.unscored == {"broken": 1}
    scores = read_metrics(tmp_path, "scores").to_pylist()
    by_frame = {
        row["frame_index"]: row
        for row in scores
        if row["planner"] == "broken" and row["log_id"] == "log-a"
    }
    human = {
        row["frame_index"]: row
        for row in scores
        if row["planner"] == "human" and row["log_id"] == "log-a"
    }
    # frame 5 is the one with NaN: nothing there, and frame 6 has no plan before it to compare with
    assert by_frame[5]["pdms"] is None and by_frame[5]["ec_v2"] is None
    assert by_frame[6]["ec_v2"] is None and by_frame[7]["ec_v2"] == human[7]["ec_v2"] == 1.0
    assert all(by_frame[frame]["epdms"] == human[frame]["epdms"] for frame in (4, 7, 8))


def test_a_training_target_of_a_plan_with_nan_is_an_error_that_names_it(
    lake: Lake, rows: FrameSet
) -> None:
    chosen = rows.take(scene_rows(rows)[:4])
    plans = np.stack([Shifted().plan(chosen), Shifted(left_m=1.0).plan(chosen)], axis=1)
    plans[2:, 1, 3, 0] = np.nan
    with (
        PlanScorer(lake, processes=1) as scorer,
        pytest.raises(ConfigError, match="log log-a, frame 5, plan 1 of 2") as caught,
    ):
        scorer(chosen, plans)
    assert caught.value.what == "a plan holds NaN or infinity"
    assert "2 such plans in 2 of 4 rows" in str(caught.value)
    assert "finite" in str(caught.value.expected) and "weights" in str(caught.value.do)


def test_blank_images_are_black_and_shuffled_ones_come_from_another_log(rows: FrameSet) -> None:
    scenes = rows.take(scene_rows(rows))
    marked = replace(
        scenes,
        images=np.broadcast_to(
            np.where(scenes.log_id == "log-a", 10, 20).astype(np.uint8)[:, None, None, None],
            scenes.images.shape,
        ),
    )
    plans = all_plans(
        marked,
        {"student": Shifted(by_image=True), "stopped": Shifted(pace=0.0)},
        EvaluationConfig(),
    )
    left = {name: plan[:, 0, 1] for name, plan in plans.items()}
    assert set(left) == {"human", "student", "stopped", "student_blank", "student_shuffled"}
    assert (left["student_blank"] == 0).all() and set(left["student"]) == {10, 20}
    assert (left["student_shuffled"] + left["student"] == 30).all()


def test_a_shuffled_image_comes_with_the_calibration_of_its_camera(rows: FrameSet) -> None:
    scenes = rows.take(scene_rows(rows))
    number = np.arange(1, len(scenes) + 1)
    camera = scenes.camera.copy()
    camera[:, 0] = number
    images = np.broadcast_to(
        number.astype(np.uint8)[:, None, None, None], scenes.images.shape
    ).copy()
    seen: list[FrameSet] = []

    class Watching:
        def plan(self, frames: FrameSet) -> np.ndarray:
            seen.append(frames)
            return frames.future

    marked = replace(scenes, images=images, camera=camera)
    all_plans(marked, {"student": Watching()}, EvaluationConfig())
    original, blank, shuffled = seen
    assert (shuffled.images[:, 0, 0, 0] != number).all()
    assert np.array_equal(shuffled.camera[:, 0], shuffled.images[:, 0, 0, 0])
    for name in ("velocity", "command", "log_id", "future"):  # the rest is the row's own
        assert np.array_equal(getattr(shuffled, name), getattr(original, name)), name
    assert np.array_equal(blank.camera, camera) and not blank.images.any()


def test_every_second_scene_of_each_log_can_be_scored(
    lake: Lake, rows: FrameSet, tmp_path: Path
) -> None:
    evaluate(rows, {}, lake, tmp_path, replace(HERE, stride=2))
    cube = score_cube(read_metrics(tmp_path, "scores"))
    assert cube.frame_index.tolist() == [*range(3, 14, 2)] * 2


def test_a_planner_of_a_wrong_shape_and_logs_without_scenes_are_refused(
    lake: Lake, rows: FrameSet, tmp_path: Path
) -> None:
    class Short:
        def plan(self, scenes: FrameSet) -> np.ndarray:
            return scenes.future[:, :6]

    with pytest.raises(ConfigError, match="planner 'short' returned plans of a wrong shape"):
        evaluate(rows, {"short": Short()}, lake, tmp_path, HERE)
    with pytest.raises(ConfigError, match="no scene to score"):
        evaluate(rows.take(rows.frame_index < 9), {}, lake, tmp_path, HERE)
    with pytest.raises(ArtifactError, match="no evaluation here"):
        read_metrics(tmp_path, "scores")


def test_training_targets_are_the_scores_and_unscorable_rows_are_nan(
    lake: Lake, rows: FrameSet
) -> None:
    chosen = rows.take(np.r_[scene_rows(rows)[:3], 0])  # row 0 has no past
    plans = np.stack([Shifted().plan(chosen), Shifted(left_m=30.0).plan(chosen)], axis=1)
    with PlanScorer(lake, processes=1) as scorer:
        targets = scorer(chosen, plans)
    assert (
        targets.shape == (4, 2, len(TRAINING_COLUMNS))
        and np.isnan(targets[3]).all()
        and np.isfinite(targets[:3]).all()
    )
    parts = dict(zip(TRAINING_COLUMNS, np.moveaxis(targets[:3], -1, 0), strict=True))
    assert (parts["dac"] == [1.0, 0.0]).all()
    assert (parts["score"][:, 1] == 0).all() and (parts["score"][:, 0] > 0.9).all()
    prepared = [
        open_log(lake, str(log)).prepared(int(frame))
        for log, frame in zip(chosen.log_id, chosen.frame_index, strict=True)
    ]
    assert [isinstance(item, str) for item in prepared] == [False, False, False, True]


def test_worker_processes_give_the_same_scores(lake: Lake, rows: FrameSet) -> None:
    chosen = rows.take(scene_rows(rows)[::5])
    plans = Shifted(left_m=0.5).plan(chosen)[:, None]
    alone, shared = (
        score_scenes(lake, chosen, plans, ScenesConfig(processes=count, rows_a_process=2))
        for count in (1, 2)
    )
    np.testing.assert_array_equal(alone.values_NPM, shared.values_NPM)
    np.testing.assert_array_equal(alone.pdm_closed_N83, shared.pdm_closed_N83)


def test_means_and_differences_are_those_of_the_scenes_where_both_are_known() -> None:
    def row(
        log: str, frame: int, planner: str, pdms: float | None, tags: tuple[str, ...] = ()
    ) -> dict:
        return {
            "log_id": log,
            "frame_index": frame,
            "split": "test",
            "planner": planner,
            "metric_version": "PDMS",
            "scored": pdms is not None,
            "reason": "",
            "pdms": pdms,
            "speed_mps": 1.0,
            "command": 1,
            "tags": list(tags),
        }

    scores = pa.Table.from_pylist(
        [
            row("a", 1, "x", 1.0),
            row("a", 1, "y", 0.5),
            row("a", 2, "x", 1.0, ("cut_in",)),
            row("a", 2, "y", 0.0, ("cut_in",)),
            row("b", 1, "x", 0.0),
            row("b", 1, "y", None),
        ],
        SCORES,
    )
    table = summary_table(scores, IntervalConfig(resamples=50))
    x, y = (find_interval(table, planner=name, subset="all", measure="pdms") for name in "xy")
    assert x is not None and y is not None and (x.mean, x.n, x.logs) == (pytest.approx(2 / 3), 3, 2)
    assert (y.mean, y.n, y.logs) == (0.25, 2, 1)
    rare = find_interval(table, planner="x", subset="rare", measure="pdms")
    assert rare is not None and (rare.mean, rare.n) == (1.0, 1)
    assert find_interval(table, planner="x", subset="all", measure="epdms") is None
    differences = differences_table(
        scores, [("x", "y"), ("x", "nobody")], IntervalConfig(resamples=50)
    )
    both = find_interval(differences, planner="x", control="y", subset="all", measure="pdms")
    assert (
        both is not None
        and (both.mean, both.n) == (0.75, 2)
        and set(differences["control"].to_pylist()) == {"y"}
    )
