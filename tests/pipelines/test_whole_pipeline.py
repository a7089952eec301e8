"""The whole pipeline at scale smoke, run once from the command line, and what follows from it."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import dagster as dg
import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from assets.chain.asset_specs import ASSET_SPECS
from ops.evaluation.score_table import read_score_table
from ops.ingest.inventory import read_inventory
from ops.report.offline import outside_of
from ops.synthesize.world import synthesize_log
from pipelines.cli import main
from pipelines.definitions import definitions
from pipelines.environment import RunTarget
from pipelines.history import open_history
from pipelines.presets import preset
from pipelines.resources import pipeline_resource
from storage.artifact import read_lineage
from storage.asset_names import INGEST_ASSETS, PER_LOG_ASSETS
from storage.dataset import read_relabeled
from storage.frame_store import frame_info, read_frames
from storage.lake import Lake
from storage.promotion import promoted_student
from storage.trajectory_table import read_table
from tests.worlds.lineage import logs_behind

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    """The root of a checkout in which the pipeline has run once; the working directory of every
    test here.
    """
    folder = tmp_path_factory.mktemp("checkout")
    for name in ("dagster.yaml", "workspace.yaml", "pyproject.toml"):
        shutil.copy(ROOT / name, folder / name)
    before = Path.cwd()
    os.chdir(folder)
    assert main(["run", "--scale", "smoke"]) == 0
    yield folder
    os.chdir(before)


@pytest.fixture(scope="module")
def lake(checkout):
    """The lake that was made."""
    return Lake(checkout / "lake" / "smoke")


def run_ids(checkout) -> list[str]:
    """Runs in the history that the UI shows."""
    with open_history("lake/smoke") as instance:
        return [run.run_id for run in instance.get_runs()]


def test_every_asset_is_made_with_its_lineage_and_the_report_opens_offline(lake):
    for asset in ASSET_SPECS:
        if asset not in PER_LOG_ASSETS:
            assert read_lineage(lake.asset(asset)).version
    page = (lake.asset("report") / "report.html").read_text()
    assert "student" in page and outside_of(page) == []


def test_a_second_run_does_no_work_and_says_so(checkout, capsys):
    before = run_ids(checkout)
    assert main(["run", "--scale", "smoke"]) == 0
    out = capsys.readouterr().out
    assert "nothing to do" in out and "student" in out and "report.html" in out
    assert run_ids(checkout) == before


def test_one_frame_can_be_followed_through_every_asset(lake):
    scores = pq.read_table(lake.asset("evaluation") / "scores.parquet")
    log, frame = scores["log_id"][0].as_py(), scores["frame_index"][0].as_py()

    info = frame_info(lake.log("frames", log)).cameras[0]
    table = read_table(lake.log("trajectories", log), "trajectories")
    row = table.filter(pc.field("frame_index") == frame).to_pylist()[0]
    labelled = read_relabeled(lake, log).filter(pc.field("frame_index") == frame).to_pylist()
    scored = scores.filter((pc.field("log_id") == log) & (pc.field("frame_index") == frame))
    plans = pq.read_table(
        lake.asset("evaluation") / "plans.parquet",
        filters=[("log_id", "=", log), ("frame_index", "=", frame)],
    )

    image = read_frames(lake.log("frames", log), np.array([frame]))[0]
    assert image.dtype == np.uint8 and image.std() > 5
    assert info.timestamp_us[list(info.frame_index).index(frame)] == row["timestamp_us"]
    assert len(labelled) == 1 and labelled[0]["x_m"] == row["x_m"]
    assert len(labelled[0]["codes"]) == 16 and all(labelled[0]["codes_valid"])
    assert labelled[0]["codebook_version"] == read_lineage(lake.asset("codebook")).version
    assert {"human", "student", "vla", "planner_alone", "constant_velocity"} <= set(
        scored["planner"].to_pylist()
    )
    human = plans.filter(pc.field("planner") == "human")["plan_xyyaw"][0].as_py()
    np.testing.assert_allclose(human, row["future_xyyaw"], atol=1e-5)


def test_a_student_that_beats_constant_velocity_is_promoted_by_its_evaluation(lake):
    scores = read_score_table(lake.asset("evaluation"))
    pdms = {name: scores.mean(name).mean for name in ("student", "constant_velocity")}
    passed = pdms["student"] > pdms["constant_velocity"]
    assert promoted_student(lake) == (lake.asset("student").resolve() if passed else None)


def test_the_student_descends_from_the_logs_of_train_and_val_alone(lake):
    logs = lake.log_ids("raw_logs")
    split_of = {log: read_inventory(lake.log("raw_logs", log)).split for log in logs}
    seen = {log for log, split in split_of.items() if split != "test"}
    assert set(logs_behind(lake, "student")) == seen < set(split_of)
    assert set(logs_behind(lake, "evaluation")) == set(split_of)


def test_the_evaluation_also_covers_a_town_that_no_training_asset_has_seen(lake):
    table = pq.read_table(lake.asset("evaluation") / "zero_shot.parquet")
    assert {"stopped", "ego_status_mlp", "student", "student_blank", "vla_shuffled"} <= set(
        table["planner"].to_pylist()
    )
    assert (
        read_lineage(lake.asset("evaluation")).parents["zero_shot"]
        == read_lineage(lake.asset("zero_shot")).version
    )
    other = Lake(lake.asset("zero_shot")).log_ids("trajectories")
    assert other and not set(other) & set(lake.log_ids("trajectories"))
    assert "zero_shot" not in read_lineage(lake.asset("student")).parents


def test_the_data_version_of_each_asset_is_its_artefacts_and_nothing_is_stale(checkout, lake):
    from dagster._core.definitions.data_version import CachingStaleStatusResolver, StaleStatus
    from dagster._core.loader import LoadingContextForTest

    graph = definitions(
        pipeline_resource(RunTarget("smoke", "openscene", "", "lake/smoke"))
    ).resolve_asset_graph()
    with open_history("lake/smoke") as instance:
        resolver = CachingStaleStatusResolver(instance, graph, LoadingContextForTest(instance))
        for asset in ASSET_SPECS:
            if asset in INGEST_ASSETS:
                continue
            record = instance.get_latest_data_version_record(dg.AssetKey(asset))
            assert asset == "relabeled" or (
                record.asset_materialization.tags["dagster/data_version"]
                == read_lineage(lake.asset(asset)).version
            )
            assert resolver.get_status(dg.AssetKey(asset)) is StaleStatus.FRESH, (
                asset,
                [cause.reason for cause in resolver.get_stale_causes(dg.AssetKey(asset))],
            )


def test_every_asset_shows_a_picture_or_a_table_that_is_small(checkout):
    with open_history("lake/smoke") as instance:
        for asset in ASSET_SPECS:
            records = instance.fetch_materializations(dg.AssetKey(asset), limit=100).records
            metadata = [
                value
                for record in records
                for value in record.asset_materialization.metadata.values()
            ]
            shown = [
                value
                for value in metadata
                if isinstance(value, dg.TableMetadataValue) or "data:image/" in str(value.value)
            ]
            assert shown, asset
            assert all(len(str(value.value)) < 100_200 for value in metadata), asset


def test_dagster_materializes_the_student_as_its_manual_says(checkout, lake):
    before = read_lineage(lake.asset("student"))
    environment = os.environ | {"PATH": f"{BIN}:{os.environ['PATH']}", "LATENTVLA_SCALE": "smoke"}
    process = subprocess.run(
        ["dagster", "asset", "materialize", "--select", "student"],
        cwd=checkout,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 0, process.stderr[-2000:]
    assert "student is current" in process.stderr + process.stdout
    assert read_lineage(lake.asset("student")) == before


def test_a_training_asset_refuses_inputs_that_failed_their_checks_or_were_not_checked(
    checkout, lake
):
    checks = lake.log("relabeled", "A-train-0000") / "checks.json"
    text = checks.read_text()
    job = definitions(pipeline_resource(RunTarget("smoke", "openscene", "", "lake/smoke")))
    try:
        for changed, named in (
            (json.dumps(json.loads(text) | {"codes_in_range": False}), "codes_in_range"),
            ("{}", "has not been checked"),
        ):
            checks.write_text(changed)
            with open_history("lake/smoke") as instance:
                result = job.resolve_job_def("training").execute_in_process(
                    instance=instance,
                    asset_selection=[dg.AssetKey("student")],
                    raise_on_error=False,
                )
            errors = [
                str(event.step_failure_data.error) for event in result.get_step_failure_events()
            ]
            assert not result.success and any(named in error for error in errors), errors
    finally:
        checks.write_text(text)


def test_a_new_test_log_leaves_everything_that_was_trained_current(
    checkout, lake, tmp_path, capsys
):
    other = tmp_path / "lake"
    shutil.copytree(lake.root, other, symlinks=True)
    world = preset("smoke").world
    synthesize_log(other / "raw", replace(world, test_logs=world.test_logs + 1), "A-test-0002")
    words = ["run", "--scale", "smoke", "--lake", str(other), "--until", "student"]
    assert main(words) == 0
    out = capsys.readouterr().out
    assert [word for word in ASSET_SPECS if f"\n  {word} " in out] == [
        "raw_logs",
        "frames",
        "trajectories",
        "relabeled",
    ]
    assert read_lineage(Lake(other).asset("student")) == read_lineage(lake.asset("student"))
    assert main(["status", "--scale", "smoke", "--lake", str(other)]) == 0
    states = {line.split()[0]: line for line in capsys.readouterr().out.splitlines()[1:]}
    assert "10 of 10 logs current" in states["relabeled"] and " current, " in states["vla"]
    assert " stale, " in states["evaluation"] and " stale, " in states["report"]


def test_a_run_killed_in_the_middle_of_the_codebook_resumes_and_gives_the_same_codebook(
    checkout, lake, tmp_path
):
    other = Lake(tmp_path / "lake")
    for name in ("raw", *INGEST_ASSETS):
        shutil.copytree(lake.root / name, other.root / name, symlinks=True)
    words = [
        BIN / "latentvla",
        "run",
        "--scale",
        "smoke",
        "--lake",
        other.root,
        "--until",
        "codebook",
    ]
    first = subprocess.Popen(
        words,
        cwd=checkout,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    kept = next(iter(wait_for(lambda: list(other.runs.glob("codebook-*-ego/state.pt")), first)))
    os.killpg(first.pid, signal.SIGKILL)
    first.wait()
    assert not other.asset("codebook").exists() and kept.exists()

    second = subprocess.run(words, cwd=checkout, capture_output=True, text=True, check=False)
    assert second.returncode == 0, second.stdout
    history = (other.asset("codebook") / "history_ego.jsonl").read_text().splitlines()
    steps = [json.loads(line)["step"] for line in history]
    assert steps == sorted(set(steps))
    whole, resumed = (item.asset("codebook") / "model.safetensors" for item in (lake, other))
    assert resumed.read_bytes() == whole.read_bytes()


def wait_for(find, process: subprocess.Popen, seconds: float = 240):
    """The first true result of `find`, while the process lives."""
    end = time.monotonic() + seconds
    while time.monotonic() < end and process.poll() is None:
        if result := find():
            return result
        time.sleep(0.05)
    raise AssertionError("the training ended or did not start")
