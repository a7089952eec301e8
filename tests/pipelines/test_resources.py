"""A run that Dagster launches holds the lake as `latentvla run` does: writers never interleave."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import dagster as dg
import pytest

from pipelines import resources
from pipelines.dead_runs import LOCKED_TAG
from pipelines.environment import RunTarget
from pipelines.resources import pipeline_resource
from storage.locks import BusyError, alone_in_lake

ROOT = Path(__file__).parents[2]
HOLD = (
    "import sys; from pathlib import Path; from storage.locks import alone_in_lake\n"
    "with alone_in_lake(Path(sys.argv[1])): print('held', flush=True); input()"
)


def process_that(code: str, lake: Path) -> subprocess.Popen:
    """Another process, that ends when its input does."""
    return subprocess.Popen(
        [sys.executable, "-c", code, str(lake)],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def job_over(lake: Path, body) -> dg.JobDefinition:
    """A job of one step, over the resource of our definitions."""

    @dg.op(required_resource_keys={"pipeline"})
    def step(context):
        body(context)

    @dg.job(resource_defs={"pipeline": pipeline_resource(RunTarget("smoke", "", "", str(lake)))})
    def short():
        step()

    return short


def test_a_run_of_dagster_waits_for_the_lake_says_for_whom_and_then_goes_on(tmp_path, monkeypatch):
    monkeypatch.setattr(resources, "BUSY_POLL_S", 0.05)
    lake, tags = tmp_path / "lake", {}

    def body(context):
        tags.update(context.instance.get_run_by_id(context.run_id).tags)

    other = process_that(HOLD, lake)
    assert other.stdout.readline() == "held\n"
    timer = threading.Timer(1.0, other.communicate, ("\n",))
    with dg.DagsterInstance.ephemeral() as instance:
        timer.start()
        result = job_over(lake, body).execute_in_process(instance=instance)
        messages = [entry.message for entry in instance.all_logs(result.run_id)]
    timer.join()
    assert result.success and tags[LOCKED_TAG] == "true"
    waits = [text for text in messages if "waits until the lake" in text]
    assert len(waits) == 1 and f"process {other.pid}" in waits[0]


def test_while_a_run_of_dagster_works_nobody_else_may_write_its_lake_and_then_they_may(tmp_path):
    lake, refused = tmp_path / "lake", []

    def body(_):
        other = process_that(HOLD.replace("input()", ""), lake)
        refused.append((other.communicate()[0], other.returncode))

    with dg.DagsterInstance.ephemeral() as instance:
        assert job_over(lake, body).execute_in_process(instance=instance).success
    assert refused == [("", 1)]
    with alone_in_lake(lake):
        pass


def test_a_sensor_reads_a_lake_that_a_run_holds(tmp_path):
    other = process_that(HOLD, tmp_path)
    assert other.stdout.readline() == "held\n"
    resource = pipeline_resource(RunTarget("smoke", "", "", str(tmp_path)))
    with dg.build_resources({"pipeline": resource}) as opened:
        assert opened.pipeline.lake.root == tmp_path
    with pytest.raises(BusyError, match=f"process {other.pid}"), alone_in_lake(tmp_path):
        pass
    other.communicate("\n")
