"""The sensors: one requests ingest of new logs only, one retraining after enough new logs."""

import shutil
from pathlib import Path

import dagster as dg
import pytest

from assets.chain.per_log import PARTITIONS
from assets.chain.pipeline import RawLogs
from pipelines.schedules import SCHEDULES, retraining
from pipelines.sensors import SENSORS, enough_new_logs, neighbours, new_logs
from storage.artifact import planned_lineage, write_artifact
from tests.worlds.tiny_pipeline import TINY, ingest, tiny_pipeline


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """The raw files of the tiny world."""
    pipeline = tiny_pipeline(tmp_path_factory.mktemp("world") / "lake")
    with dg.DagsterInstance.ephemeral() as instance:
        ingest(pipeline, instance, assets=("raw_logs",))
    return pipeline.raw_folder


@pytest.fixture
def pipeline(tmp_path, world):
    """A pipeline over a user's own raw folder, not ingested yet."""
    shutil.copytree(world, tmp_path / "raw")
    return tiny_pipeline(tmp_path / "lake", raw=tmp_path / "raw")


def evaluate(pipeline, instance):
    """The result of the sensor; its partitions are added as the daemon does it."""
    result = new_logs(dg.build_sensor_context(instance=instance, resources={"pipeline": pipeline}))
    for request in getattr(result, "dynamic_partitions_requests", None) or []:
        instance.add_dynamic_partitions(PARTITIONS, list(request.partition_keys))
    return result


def ranges(result) -> list[tuple[str, str]]:
    """First and last log of each run that is asked for."""
    return [
        (
            request.tags["dagster/asset_partition_range_start"],
            request.tags["dagster/asset_partition_range_end"],
        )
        for request in result.run_requests
    ]


def test_all_logs_of_a_new_folder_are_ingested_in_one_run(pipeline):
    with dg.DagsterInstance.ephemeral() as instance:
        result, ids = evaluate(pipeline, instance), RawLogs(pipeline).ids
        assert ranges(result) == [(ids[0], ids[-1])]
        assert list(instance.get_dynamic_partitions(PARTITIONS)) == ids


def test_a_log_that_is_dropped_in_later_is_ingested_alone(pipeline, tmp_path):
    late = RawLogs(pipeline).ids[0]
    file = next(pipeline.raw_folder.rglob(f"{late}.pkl"))
    kept = file.rename(tmp_path / "late.pkl")
    with dg.DagsterInstance.ephemeral() as instance:
        evaluate(pipeline, instance)
        assert ingest(pipeline, instance).success
        assert isinstance(evaluate(pipeline, instance), dg.SkipReason)
        kept.rename(file)
        assert ranges(evaluate(pipeline, instance)) == [(late, late)]


def test_a_log_is_asked_for_once_as_long_as_its_bytes_stay(pipeline):
    with dg.DagsterInstance.ephemeral() as instance:
        keys = [
            {request.run_key for request in evaluate(pipeline, instance).run_requests}
            for _ in range(2)
        ]
    assert len(keys[0]) == 1 and keys[0] == keys[1]  # Dagster starts one run a key


def test_logs_between_others_that_are_done_are_asked_for_in_runs_of_neighbours():
    assert neighbours({"b", "c", "e"}, ["a", "b", "c", "d", "e"]) == [["b", "c"], ["e"]]
    assert neighbours({"a"}, ["a"]) == [["a"]] and neighbours(set(), ["a"]) == []


def test_retraining_is_asked_for_when_enough_logs_arrived_since_the_codebook(pipeline):
    with dg.DagsterInstance.ephemeral() as instance:
        ingest(pipeline, instance)
    # there is no codebook to be behind
    assert isinstance(enough_new_logs(pipeline=pipeline), dg.SkipReason)
    ids = RawLogs(pipeline).ids
    for seen, asked in ((ids, False), (ids[:-1], False), (ids[: -TINY.retrain_after_logs], True)):
        parents = {f"trajectories/{log}": "0" for log in seen}
        with write_artifact(
            pipeline.lake.asset("codebook"), planned_lineage("codebook", parents, {}, "0")
        ):
            pass
        assert isinstance(enough_new_logs(pipeline=pipeline), dg.RunRequest) is asked


def test_retraining_stands_in_the_calendar():
    assert retraining.cron_schedule == "0 2 * * 1" and retraining.job_name == "training"


def test_nothing_starts_by_itself_and_the_docs_say_how_each_is_turned_on():
    assert {item.default_status for item in SENSORS} == {dg.DefaultSensorStatus.STOPPED}
    assert {item.default_status for item in SCHEDULES} == {dg.DefaultScheduleStatus.STOPPED}
    page = (Path(__file__).parents[2] / "docs" / "dagster.md").read_text()
    for kind, items in (("sensor", SENSORS), ("schedule", SCHEDULES)):
        for item in items:
            assert f"| {kind} `{item.name}` |" in page and "Off until it is turned on" in (
                item.description or ""
            )
