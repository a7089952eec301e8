"""The sensors: one requests ingest of new logs only, one retraining after enough new logs; both ask
again for a run that failed.
"""

import os
import shutil
import time
from datetime import UTC, datetime
from pathlib import Path

import dagster as dg
import pytest

from assets.chain.per_log import PARTITIONS
from assets.chain.pipeline import RawLogs
from pipelines.attempts import FACTOR, LIMIT, LONGEST_S, WORK_TAG, failed_work, request
from pipelines.environment import sensor_timing
from pipelines.schedules import SCHEDULES, retraining
from pipelines.sensors import SENSORS, enough_new_logs, neighbours, new_logs, rests
from storage.artifact import planned_lineage, write_artifact
from storage.errors import ConfigError
from tests.worlds.tiny_pipeline import TINY, ingest, tiny_pipeline

STARTING, FAILURE = dg.DagsterRunStatus.STARTING, dg.DagsterRunStatus.FAILURE


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    """The sensors wait for nothing, unless a test says so."""
    monkeypatch.setenv("LATENTVLA_SETTLE_S", "0")
    monkeypatch.setenv("LATENTVLA_RETRY_S", "0")


@pytest.fixture
def history():
    """An empty history."""
    with dg.DagsterInstance.ephemeral() as instance:
        yield instance


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """The raw files of the tiny world."""
    pipeline = tiny_pipeline(tmp_path_factory.mktemp("world") / "lake")
    with dg.DagsterInstance.ephemeral() as instance:
        ingest(pipeline, instance, assets=("raw_logs",))
    return pipeline.raw_folder


@pytest.fixture(scope="module")
def ingested_once(tmp_path_factory, world):
    """A pipeline whose logs are ingested."""
    pipeline = tiny_pipeline(tmp_path_factory.mktemp("ingested") / "lake", raw=world)
    with dg.DagsterInstance.ephemeral() as instance:
        assert ingest(pipeline, instance).success
    return pipeline


@pytest.fixture
def ingested(ingested_once):
    """The same, without a codebook."""
    yield ingested_once
    ingested_once.lake.asset("codebook").unlink(missing_ok=True)


@pytest.fixture
def pipeline(tmp_path, world):
    """A pipeline over a user's own raw folder, not ingested yet."""
    shutil.copytree(world, tmp_path / "raw")
    return tiny_pipeline(tmp_path / "lake", raw=tmp_path / "raw")


def evaluate(pipeline, instance):
    """The result of the sensor; its partitions are added as the daemon does it."""
    result = new_logs(dg.build_sensor_context(instance=instance, resources={"pipeline": pipeline}))
    for added in getattr(result, "dynamic_partitions_requests", None) or []:
        instance.add_dynamic_partitions(PARTITIONS, list(added.partition_keys))
    return result


def look(pipeline, instance):
    """The result of the sensor for retraining."""
    return enough_new_logs(
        dg.build_sensor_context(instance=instance, resources={"pipeline": pipeline})
    )


def launch(instance, job: str, tags, ends=FAILURE) -> dg.DagsterRun:
    """A run of this job, as the daemon makes it of a request, that has this status in the end."""

    @dg.job(name=job)
    def stands_for_it():
        pass

    run = instance.create_run_for_job(job_def=stands_for_it, tags=tags, status=STARTING)
    if ends is FAILURE:
        instance.report_run_failed(run)
    elif ends is dg.DagsterRunStatus.CANCELED:
        instance.report_run_canceled(run)
    elif ends is dg.DagsterRunStatus.SUCCESS:
        instance.report_dagster_event(dg.DagsterEvent("PIPELINE_SUCCESS", job), run.run_id)
    return run


def codebook_of(pipeline, logs) -> None:
    """A codebook that was learned from these logs."""
    parents = {f"trajectories/{log}": "0" for log in logs}
    with write_artifact(
        pipeline.lake.asset("codebook"), planned_lineage("codebook", parents, {}, "0")
    ):
        pass


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


def test_the_ranges_are_few_and_cut_at_the_longest_stretches_of_logs_that_are_done():
    order = [f"{number:05}" for number in range(40_000)]
    todo = set(order[::2]) | set(order[39_000:])
    todo -= set(order[5_000:9_000]) | set(order[20_000:20_100])
    start = time.process_time()
    parts = neighbours(todo, order, most=3)
    assert time.process_time() - start < 1
    assert [log for part in parts for log in part] == sorted(todo)
    assert [(part[0], part[-1]) for part in parts] == [
        ("00000", "04998"),
        ("09000", "19998"),
        ("20100", "39999"),
    ]


def test_nothing_is_asked_for_while_an_ingest_is_queued_or_running(pipeline, history):
    for tags in ({}, {"dagster/sensor_name": "new_logs"}):
        run = launch(history, "ingest", tags, ends=None)
        assert "queued or running" in evaluate(pipeline, history).skip_message
        history.report_run_failed(run)
    launch(history, "training", {}, ends=None)  # a training holds no ingest back
    assert evaluate(pipeline, history).run_requests


def test_an_ingest_that_failed_is_asked_for_again_with_another_key_and_not_for_ever(
    pipeline, history
):
    keys, works = [], set()
    for _ in range(LIMIT):
        (asked,) = evaluate(pipeline, history).run_requests
        keys.append(asked.run_key)
        works.add(asked.tags[WORK_TAG])
        last = launch(history, "ingest", asked.tags)
    assert len(set(keys)) == LIMIT and len(works) == 1
    reason = evaluate(pipeline, history).skip_message
    assert last.run_id in reason and "mend the cause" in reason
    # another preset, other bytes or another log are new work
    file = next(pipeline.raw_folder.rglob(f"{RawLogs(pipeline).ids[0]}.pkl"))
    file.rename(file.with_name("log_new.pkl"))
    assert evaluate(pipeline, history).run_requests


def test_a_run_that_a_person_canceled_is_not_asked_for_again(pipeline, history):
    (asked,) = evaluate(pipeline, history).run_requests
    run = launch(history, "ingest", asked.tags, ends=dg.DagsterRunStatus.CANCELED)
    assert run.run_id in evaluate(pipeline, history).skip_message


def test_each_wait_is_longer_than_the_last_one(history, monkeypatch):
    now, waits = time.time(), []
    for _ in range(LIMIT - 1):
        run = launch(history, "ingest", {WORK_TAG: "w"})
        end = history.get_run_record_by_id(run.run_id).end_time or now
        for wait in range(100_000):
            monkeypatch.setattr(time, "time", lambda wait=wait, end=end: end + 60 * wait + 1)
            if isinstance(request(history, "ingest", "w", retry_s=60), dg.RunRequest):
                waits.append(60 * wait)
                break
        monkeypatch.undo()
    assert waits == [60, 60 * FACTOR, 60 * FACTOR**2, 60 * FACTOR**3] and waits[-1] < LONGEST_S
    # other work waits too: what failed may fail for all, as a full disk does
    assert isinstance(request(history, "ingest", "other", retry_s=60), dg.SkipReason)
    # a success ends the wait, a clock that was set back does not lengthen it
    launch(history, "ingest", {}, ends=dg.DagsterRunStatus.SUCCESS)
    assert isinstance(request(history, "ingest", "other", retry_s=60), dg.RunRequest)


def test_a_clock_that_was_set_back_does_not_lengthen_the_wait(history, monkeypatch):
    launch(history, "ingest", {WORK_TAG: "w"})
    assert isinstance(request(history, "ingest", "w", retry_s=60), dg.SkipReason)
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now - 86_400)
    assert isinstance(request(history, "ingest", "w", retry_s=60), dg.RunRequest)


def test_a_log_that_is_still_being_copied_waits_for_a_later_look(pipeline, history, monkeypatch):
    monkeypatch.setenv("LATENTVLA_SETTLE_S", "3600")
    for file in pipeline.raw_folder.rglob("*"):
        os.utime(file, (0, 0))  # as `cp -p` and `rsync -a` set the times
    assert "being copied" in evaluate(pipeline, history).skip_message
    monkeypatch.setenv("LATENTVLA_SETTLE_S", "0.2")
    time.sleep(0.25)
    file = next(pipeline.raw_folder.rglob(f"{RawLogs(pipeline).ids[0]}.pkl"))
    file.write_bytes(file.read_bytes())
    ids = RawLogs(pipeline).ids
    assert ranges(evaluate(pipeline, history)) == [(ids[1], ids[-1])]


def test_a_time_to_come_and_a_file_that_is_gone_hold_no_log_back(pipeline, monkeypatch):
    ref = RawLogs(pipeline).refs[RawLogs(pipeline).ids[0]]
    assert not rests(ref, 60)
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now - 86_400)
    assert rests(ref, 60)
    monkeypatch.undo()
    ref.image_files[0].unlink()
    assert rests(ref, 60)


@pytest.mark.parametrize("name", ["POLL", "SETTLE", "RETRY"])
@pytest.mark.parametrize("text", ["soon", "-1", "nan", "inf", "1e999"])
def test_a_time_that_is_none_is_refused(name, text):
    with pytest.raises(ConfigError, match=f"LATENTVLA_{name}_S"):
        sensor_timing({f"LATENTVLA_{name}_S": text})


def test_retraining_is_asked_for_when_enough_logs_arrived_since_the_codebook(ingested, history):
    assert "no codebook yet" in look(ingested, history).skip_message
    ids = RawLogs(ingested).ids
    for seen, asked in ((ids, False), (ids[:-1], False), (ids[: -TINY.retrain_after_logs], True)):
        codebook_of(ingested, seen)
        assert isinstance(look(ingested, history), dg.RunRequest) is asked


def test_retraining_that_failed_is_asked_for_again_also_after_it_has_learned_the_codebook(
    ingested, history
):
    ids = RawLogs(ingested).ids
    codebook_of(ingested, ids[: -TINY.retrain_after_logs])
    asked = look(ingested, history)
    run = launch(history, "training", asked.tags, ends=None)
    assert "queued or running" in look(ingested, history).skip_message
    codebook_of(ingested, ids)  # the run has come so far
    history.report_run_failed(run)
    keys = {asked.run_key}
    for _ in range(LIMIT - 1):
        again = look(ingested, history)
        assert again.tags[WORK_TAG] == asked.tags[WORK_TAG]
        keys.add(again.run_key)
        launch(history, "training", again.tags)
    assert len(keys) == LIMIT
    assert "0 new logs" in look(ingested, history).skip_message  # given up
    codebook_of(ingested, ids[: -TINY.retrain_after_logs - 1])
    assert isinstance(look(ingested, history), dg.RunRequest)  # for logs that came later


@pytest.mark.parametrize("ends", [dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.CANCELED])
def test_retraining_that_ended_otherwise_is_not_asked_for_again(history, ends):
    launch(history, "training", {WORK_TAG: "w"})
    assert failed_work(history, "training") == "w"
    launch(history, "training", {WORK_TAG: "w"}, ends=ends)
    assert failed_work(history, "training") is None


def test_a_training_by_hand_that_failed_is_left_to_the_person(ingested, history):
    codebook_of(ingested, RawLogs(ingested).ids)
    launch(history, "training", {})
    assert "0 new logs" in look(ingested, history).skip_message


def test_retraining_stands_in_the_calendar_and_waits_for_no_second_one(tmp_path):
    assert retraining.cron_schedule == "0 2 * * 1" and retraining.job_name == "training"

    def due() -> list[dg.RunRequest]:
        context = dg.build_schedule_context(instance, datetime(2026, 11, 30, 2, tzinfo=UTC))
        return retraining.evaluate_tick(context).run_requests

    with dg.DagsterInstance.local_temp(str(tmp_path)) as instance:
        assert [asked.tags[WORK_TAG] for asked in due()] == ["weekly-2026-11-30"]
        launch(instance, "training", {}, ends=None)
        assert due() == []


def test_nothing_starts_by_itself_and_the_docs_say_how_each_is_turned_on():
    assert {item.default_status for item in SENSORS} == {dg.DefaultSensorStatus.STOPPED}
    assert {item.default_status for item in SCHEDULES} == {dg.DefaultScheduleStatus.STOPPED}
    page = (Path(__file__).parents[2] / "docs" / "dagster.md").read_text()
    for kind, items in (("sensor", SENSORS), ("schedule", SCHEDULES)):
        for item in items:
            assert f"| {kind} `{item.name}` |" in page and "Off until it is turned on" in (
                item.description or ""
            )
