"""Scoring a file of plans: every plan keeps its row, with a score or the reason why it has none."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ops.pdm.config import METRIC_NAMES
from ops.pdm.prepared import prepare
from ops.pdm.scene.cache import cached_scenes
from ops.pdm.scene.scene import Scene
from ops.pdm.score import score
from ops.pdm.score_file import RESULTS, means_of, score_plans
from storage.errors import ConfigError
from storage.lake import Lake
from tests.worlds.tiny_lake import FRAMES, write_tiny_lake
from tests.worlds.tiny_pdm import straight

SCENES = range(3, FRAMES - 10)


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    return write_tiny_lake(tmp_path_factory.mktemp("lake"))


def row(
    frame: int,
    poses: object = None,
    *,
    log_id: str = "log-a",
    planner: str = "steady",
    dt_s: float = 0.5,
) -> dict:
    flat = straight(8.0)[0].ravel().tolist() if poses is None else poses
    return {"log_id": log_id, "frame_index": frame, "planner": planner, "poses": flat, "dt_s": dt_s}


def rows_of(lake: Lake, *plans: dict, **options: object) -> list[dict]:
    return score_plans(pa.Table.from_pylist(list(plans)), lake, **options).to_pylist()  # type: ignore[arg-type]


def test_a_plan_gets_one_row_a_version_with_the_scores_of_its_scene(
    lake: Lake, tmp_path: Path
) -> None:
    pq.write_table(pa.Table.from_pylist([row(5)]), tmp_path / "plans.parquet")
    table = score_plans(tmp_path / "plans.parquet", lake)
    assert table.schema == RESULTS
    first, second = table.to_pylist()
    scene = cached_scenes(lake, "log-a")[5]
    assert isinstance(scene, Scene)
    for line, version in ((first, "v1"), (second, "v2")):
        ours = score(prepare(scene), straight(8.0), version=version)  # type: ignore[arg-type]
        assert (
            line["metric_version"] == METRIC_NAMES[version]
            and line["scored"]
            and line["reason"] == ""
        )  # type: ignore
        assert line["score"] == ours.score[0] and line["progress_m"] == ours.progress_m[0]
        assert line["split"] == "test" and line["collision_time_s"] is None  # none happened
    assert first["lk"] is None and first["tlc"] is None and second["ec"] is None


def test_plans_of_two_frames_in_a_row_get_the_two_frame_comfort(lake: Lake) -> None:
    swerve = straight(2.0, y=1.0)[0].ravel().tolist()
    rows = rows_of(
        lake,
        row(6),
        row(5),
        row(6, swerve, planner="other"),
        row(5, planner="other"),
        row(9),
        versions=["v2"],
    )
    assert [line["ec"] for line in rows] == [1.0, None, 0.0, None, None]
    # in the order of the file
    assert [line["frame_index"] for line in rows] == [6, 5, 6, 5, 9]


def test_poses_at_a_tenth_of_a_second_are_read_too(lake: Lake) -> None:
    fine = straight(8.0, steps=40, dt_s=0.1)[0].ravel().tolist()
    a, b = rows_of(lake, row(5), row(5, fine, planner="fine", dt_s=0.1), versions=["v1"])
    assert a["score"] == pytest.approx(b["score"], abs=1e-4)


@pytest.mark.parametrize(
    ("plan", "reason"),
    [
        (row(5, [float("nan")] * 24), "NaN"),
        (row(5, [None] * 24), "NaN"),
        (row(5, [0.0] * 23), "three numbers"),
        (row(5, []), "no poses"),
        (row(5, dt_s=0.1), "do not make 4.0 s"),
        (row(5, [0.0] * 21), "do not make 4.0 s"),
        (row(5, dt_s=float("nan")), "do not make 4.0 s"),
        (row(1), "no scene at this frame"),
        (row(999), "no scene at this frame"),
        (row(5, log_id="log-z"), "no log 'log-z'"),
    ],
)
def test_a_plan_that_cannot_be_scored_keeps_its_row_with_the_reason(
    lake: Lake, plan: dict, reason: str
) -> None:
    rows = rows_of(lake, plan, row(5))
    assert len(rows) == 4
    for line in rows[:2]:
        assert not line["scored"] and reason in line["reason"] and line["score"] is None
    assert rows[2]["scored"] and rows[3]["scored"]


def test_scenes_without_a_plan_count_as_expected_when_a_split_is_named(lake: Lake) -> None:
    plans = pa.Table.from_pylist([row(frame) for frame in SCENES])
    table = score_plans(plans, lake, expect_split="test", versions=["v1"])
    (mean,) = means_of(table)
    # log-b is of the split as well
    assert (mean.n_scored, mean.n_expected) == (len(SCENES), 2 * len(SCENES))
    assert {line["reason"] for line in table.to_pylist()} == {
        "",
        "the file has no plan for this scene",
    }
    scores = [line["score"] for line in table.to_pylist() if line["scored"]]
    assert mean.means["score"] == pytest.approx(np.mean(scores))


def test_scenes_that_cannot_be_scored_are_listed_with_their_reason_and_their_split(
    tmp_path: Path,
) -> None:
    lake = write_tiny_lake(tmp_path)
    folder = lake.log("trajectories", "log-c")
    table = pq.read_table(folder / "trajectories.parquet")
    place = table.column_names.index("route_roadblock_ids")
    pathless = table.set_column(
        place, table.schema.field(place), pa.array([[]] * FRAMES, table.schema.field(place).type)
    )
    pq.write_table(pathless, folder / "trajectories.parquet")
    table = score_plans(
        pa.Table.from_pylist([row(5, log_id="log-c")]), lake, expect_split="train", versions=["v2"]
    )
    reasons = [line["reason"] for line in table.to_pylist()]
    assert reasons == ["the frame has no route"] + ["the file has no plan for this scene"] * (
        len(SCENES) - 1
    )
    (mean,) = means_of(table)
    assert (mean.split, mean.n_scored, mean.n_expected, mean.means) == ("train", 0, len(SCENES), {})
    assert set(table["n_expected"].to_pylist()) == {len(SCENES)}


def test_the_first_plan_of_a_planner_at_a_frame_is_scored_and_the_others_say_so(
    lake: Lake,
) -> None:
    swerve = straight(2.0, y=1.0)[0].ravel().tolist()
    rows = rows_of(lake, row(5), row(6), row(6, swerve), row(7), versions=["v2"])
    assert [line["scored"] for line in rows] == [True, True, False, True]
    assert [line["ec"] for line in rows] == [None, 1.0, None, 1.0]
    assert "row 1 of the file" in rows[2]["reason"]


def test_the_evaluations_own_column_of_poses_is_known(lake: Lake) -> None:
    own = pa.Table.from_pylist([row(5)]).select(["log_id", "frame_index", "planner", "poses"])
    renamed = own.rename_columns(["log_id", "frame_index", "planner", "plan_xyyaw"])
    assert score_plans(renamed, lake, versions=["v1"])["scored"].to_pylist() == [True]


def test_a_file_that_holds_no_plans_says_which_columns_are_wanted(lake: Lake) -> None:
    with pytest.raises(ConfigError, match="poses"):
        score_plans(pa.table({"log_id": ["a"]}), lake)
    with pytest.raises(ConfigError, match="v3"):
        score_plans(pa.Table.from_pylist([row(5)]), lake, versions=["v3"])  # type: ignore[list-item]
