"""Files of plans as a stranger may send them: every fault has its reason, and no name in the file
becomes a path.
"""

import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ops.pdm.plan_file import read_plans
from ops.pdm.scene.cache import cached_scenes
from ops.pdm.score_file import score_plans
from storage.errors import ArtifactError, ConfigError
from storage.lake import Lake
from tests.worlds.tiny_lake import write_tiny_lake
from tests.worlds.tiny_pdm import straight

POSES = straight(8.0)[0].ravel().tolist()


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    return write_tiny_lake(tmp_path_factory.mktemp("plans") / "lake")


def row(**changes: object) -> dict:
    good = {"log_id": "log-a", "frame_index": 5, "planner": "p", "poses": POSES, "dt_s": 0.5}
    return good | changes


def results_of(lake: Lake, *rows: dict) -> list[dict]:
    return score_plans(pa.Table.from_pylist(list(rows)), lake, versions=["v1"]).to_pylist()


@pytest.mark.parametrize(
    "name",
    [
        "log-z",
        "../trajectories/log-a",
        "./log-a",
        "log-a/",
        "/etc",
        "..",
        ".",
        "",
        "log-a\0",
        "x" * 5000,
        "log-a\n",
        "<script>alert(1)</script>",
    ],
    ids=lambda name: repr(name[:12]),
)
def test_a_name_that_is_no_log_is_a_reason_and_never_a_path(lake: Lake, name: str) -> None:
    before = sorted(lake.root.parent.rglob("*"))
    (line,) = results_of(lake, row(log_id=name))
    assert not line["scored"] and line["reason"].startswith("there is no log '")
    assert len(line["reason"]) < 120
    assert sorted(lake.root.parent.rglob("*")) == before
    with pytest.raises(ArtifactError, match="there is no log"):
        cached_scenes(lake, name)
    assert sorted(lake.root.parent.rglob("*")) == before


@pytest.mark.parametrize(
    ("plan", "reason"),
    [
        (row(poses=[np.inf] * 24), "NaN or infinity"),
        (row(poses=[-np.inf, *POSES[1:]]), "NaN or infinity"),
        (row(poses=None), "no poses"),
        (row(poses=[0.0] * 3), "do not make 4.0 s"),
        (row(poses=[0.0] * 3000, dt_s=0.004), "more than 400"),
        (row(dt_s=-0.5), "do not make 4.0 s"),
        (row(dt_s=np.inf), "do not make 4.0 s"),
        (row(dt_s=None), "do not make 4.0 s"),
        (row(poses=[1e300] * 24), "m from the ego"),
        (row(poses=[664400.0, 3998000.0, 0.3] * 8), "in the ego frame?"),
        (row(poses=[0.0, 0.0, 1e30] * 8), "a heading"),
        (row(frame_index=-1), "no scene at this frame"),
        (row(frame_index=2**31 - 1), "no scene at this frame"),
    ],
)
def test_a_plan_that_no_car_can_drive_is_a_reason(lake: Lake, plan: dict, reason: str) -> None:
    faulty, good = results_of(lake, plan | {"planner": "faulty"}, row())
    assert not faulty["scored"] and reason in faulty["reason"] and faulty["score"] is None
    assert good["scored"]


def test_the_same_plan_three_times_counts_once(lake: Lake) -> None:
    other = straight(0.0)[0].ravel().tolist()
    lines = results_of(lake, row(), row(), row(poses=other), row(frame_index=6), row(planner="q"))
    assert [line["scored"] for line in lines] == [True, False, False, True, True]
    assert {line["reason"] for line in lines[1:3]} == {
        "row 0 of the file has this planner's plan for this scene"
    }
    (alone,) = results_of(lake, row())
    assert lines[0]["score"] == alone["score"]


def write(file: Path, columns: dict) -> Path:
    pq.write_table(pa.table(columns), file)
    return file


GOOD = {
    "log_id": ["log-a"],
    "frame_index": pa.array([5], pa.int32()),
    "planner": ["p"],
    "poses": pa.array([POSES], pa.list_(pa.float64())),
    "dt_s": [0.5],
}
NOT_UTF8 = pa.Array.from_buffers(
    pa.string(), 1, [None, pa.array([0, 2], pa.int32()).buffers()[1], pa.py_buffer(b"\xff\xfe")]
)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"log_id": GOOD["log_id"]}, "not a file of plans"),
        (GOOD | {"log_id": [None]}, "no log_id"),
        (GOOD | {"frame_index": pa.array([None], pa.int32())}, "no frame_index"),
        (GOOD | {"planner": pa.array([None], pa.string())}, "no planner"),
        (GOOD | {"frame_index": [2**40]}, "other types"),
        (GOOD | {"frame_index": [float("nan")]}, "other types"),
        (GOOD | {"frame_index": ["five"]}, "other types"),
        (GOOD | {"poses": ["0 0 0"]}, "other types"),
        (GOOD | {"poses": [[["a"]]]}, "other types"),
        (GOOD | {"dt_s": ["half"]}, "other types"),
        (GOOD | {"log_id": [{"a": 1}]}, "other types"),
        (GOOD | {"log_id": pa.array([b"\xff"], pa.binary())}, "other types"),
        (GOOD | {"log_id": NOT_UTF8}, "other types|no Parquet"),
        ({name: pa.array(values)[:0] for name, values in GOOD.items()}, "no rows"),
    ],
)
def test_a_file_that_holds_no_plans_is_refused(tmp_path: Path, columns: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read_plans(write(tmp_path / "plans.parquet", columns))


def test_a_file_that_is_no_parquet_is_refused(tmp_path: Path) -> None:
    good = write(tmp_path / "good.parquet", GOOD).read_bytes()
    twice = pa.Table.from_arrays(
        [pa.array(values) for values in GOOD.values()] + [pa.array(["log-b"])],
        names=[*GOOD, "log_id"],
    )
    pq.write_table(twice, tmp_path / "twice.parquet")
    files = {
        "empty": b"",
        "cut": good[: len(good) // 2],
        "text": b"log_id,frame_index\n",
        "flipped": good[:40] + bytes(byte ^ 255 for byte in good[40:200]) + good[200:],
    }
    for name, content in files.items():
        (tmp_path / f"{name}.parquet").write_bytes(content)
    (tmp_path / "folder.parquet").mkdir()
    os.mkfifo(tmp_path / "pipe.parquet")
    for name in (*files, "twice", "folder", "pipe", "missing"):
        with pytest.raises(ConfigError, match=r"no Parquet|other types|no such file"):
            read_plans(tmp_path / f"{name}.parquet")


def test_columns_that_are_no_part_of_a_plan_are_not_read_and_folders_mean_nothing(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "planner=other"  # a name that means a column to some readers
    folder.mkdir()
    plans = read_plans(write(folder / "plans.parquet", GOOD | {"note": ["x"]}))
    assert [plan.planner for plan in plans] == ["p"]


def test_scenes_are_scored_without_the_cache_where_it_cannot_be_written(tmp_path: Path) -> None:
    lake = write_tiny_lake(tmp_path / "lake")
    lake.scenes.write_text("a file in the place of the folder")
    (line,) = results_of(lake, row())
    assert line["scored"] and lake.scenes.read_text() == "a file in the place of the folder"


def test_a_lake_without_logs_is_named(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"no log to score plans on[\s\S]*--lake"):
        results_of(Lake(tmp_path / "nothing"), row())


@pytest.mark.parametrize("processes", [0, -1, 10**6])
def test_a_number_of_processes_that_cannot_be_is_refused(lake: Lake, processes: int) -> None:
    with pytest.raises(ConfigError, match=r"--processes 2"):
        score_plans(pa.Table.from_pylist([row()]), lake, processes=processes)
