"""Runs whose process is gone do not stay under way."""

import os
import platform
import signal
import subprocess
import sys
import time
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from uuid import uuid4

import dagster as dg
import pytest

from pipelines import dead_runs
from pipelines.dead_runs import LAKE_TAG, LOCKED_TAG, death_of, fail_dead_runs
from pipelines.environment import RunTarget
from pipelines.history import open_history
from pipelines.process_tag import PROCESS_TAG, process_of, process_tags
from pipelines.resources import pipeline_resource
from storage.writers import Writer, is_running, tag_is_running, this_writer

ROOT = Path(__file__).parents[2]
STARTED, FAILURE = dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.FAILURE
ME = this_writer()
OTHERS = {
    "the number was given to another process": (replace(ME, started=ME.started - 1), True),
    "no such process": (replace(ME, pid=(1 << 22) + 1), True),
    "this machine was started again": (replace(ME, boot="earlier"), True),
    "another machine": (replace(ME, boot="other", host="other"), None),
    "another container": (replace(ME, namespace="pid:[1]"), None),
    "this one": (ME, False),
    "a process of another user": (replace(ME, pid=1, started=10**12), True),
}
GONE = OTHERS["no such process"][0]


@dg.op
def waits():
    """Longer than any test."""
    time.sleep(600)


@dg.job
def long():
    """A run that has to be killed."""
    waits()


@pytest.fixture
def instance(in_checkout):
    """The history of a lake."""
    with open_history("lake") as instance:
        yield instance


def add_run(instance, process, status=STARTED, tags=()) -> str:
    """A run of this process (None: of none); returns its id."""
    run_id = str(uuid4())
    of_process = process_tags(run_id, process) if process else {PROCESS_TAG: ""}
    instance.create_run_for_job(
        job_def=long, run_id=run_id, tags=of_process | dict(tags), status=status
    )
    return run_id


def status_of(instance, run_id: str) -> dg.DagsterRunStatus:
    """Its status now."""
    return instance.get_run_by_id(run_id).status


@pytest.mark.parametrize("case", OTHERS)
def test_a_process_is_known_by_number_start_boot_and_machine(case):
    process, gone = OTHERS[case]
    assert process_of("run", process_tags("run", process)) == process
    expected = None if gone is None else not gone
    assert is_running(process) is tag_is_running(process.tag) is expected


def test_what_earlier_versions_wrote_of_a_process_is_still_understood():
    """Names of files with host, boot and process id, and lock files without namespace and start."""
    old = "-".join(sha256(text.encode()).hexdigest()[:8] for text in (platform.node(), ME.boot))
    assert tag_is_running(f"{old}-{ME.pid}") is True and tag_is_running(f"{old}-4000000") is False
    far = sha256(b"another host").hexdigest()[:8]
    assert tag_is_running(f"{far}-{old.split('-')[1]}-{ME.pid}") is None
    assert is_running(Writer(ME.host, ME.boot, ME.pid)) is True
    assert is_running(Writer("another host", ME.boot, ME.pid)) is None


def test_a_process_that_only_waits_to_be_reaped_is_gone():
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    started = int(Path(f"/proc/{child.pid}/stat").read_text().rsplit(")", 1)[1].split()[19])
    process = replace(ME, pid=child.pid, started=started)
    assert is_running(process) is True
    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert is_running(process) is False
    child.communicate()


@pytest.mark.parametrize("tag", ["", "x", "[]", "{}", "3", "[" * 100_000, '{"run": "run"}'])
def test_a_tag_that_names_no_process_is_none(tag):
    assert process_of("run", {PROCESS_TAG: tag}) is None and process_of("run", {}) is None


@pytest.mark.parametrize("pid", ["1", 0, -1, 1e99, 1 << 40, None, [1]])
def test_a_tag_with_an_impossible_number_is_none(pid):
    assert process_of("run", process_tags("run", replace(ME, pid=pid))) is None


def test_a_tag_that_was_copied_from_another_run_is_none():
    assert process_of("again", process_tags("run")) is None


def test_a_killed_run_is_marked_and_a_living_one_is_left(instance, in_checkout):
    """A run in a process of its own, as `latentvla run` makes it."""
    code = (
        "from pipelines.history import open_history;"
        "from tests.pipelines.test_dead_runs import long;"
        "long.execute_in_process(instance=open_history('lake'))"
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    process = subprocess.Popen([sys.executable, "-c", code], cwd=in_checkout, env=environment)
    try:
        end = time.monotonic() + 60
        while not (runs := instance.get_runs(dg.RunsFilter(statuses=[STARTED]))):
            assert process.poll() is None and time.monotonic() < end
            time.sleep(0.1)
        mine = add_run(instance, ME)
        assert fail_dead_runs(instance) == []
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert instance.get_runs_count(dg.RunsFilter(statuses=[STARTED])) == 2  # Dagster sees nothing
    assert fail_dead_runs(instance) == [runs[0].run_id]
    assert status_of(instance, runs[0].run_id) is FAILURE and status_of(instance, mine) is STARTED
    assert fail_dead_runs(instance) == []
    end_time = instance.get_run_record_by_id(runs[0].run_id).end_time
    assert end_time is not None and end_time > time.time() - 60


def test_monitoring_of_dagster_marks_a_dead_run_too(instance):
    """With the launcher that dagster.yaml names."""
    gone, alive = add_run(instance, GONE), add_run(instance, ME)
    assert instance.run_launcher.supports_check_run_worker_health
    assert instance.run_monitoring_enabled
    states = [
        instance.run_launcher.check_run_worker_health(instance.get_run_by_id(run)).status.value
        for run in (gone, alive)
    ]
    assert states == ["FAILED", "RUNNING"]


def test_a_run_elsewhere_is_dead_only_if_its_lock_was_free_or_it_is_silent_for_a_day(
    instance, tmp_path, monkeypatch
):
    far = OTHERS["another machine"][0]
    holder = add_run(instance, far, tags={LOCKED_TAG: "true"})
    other = add_run(instance, far)
    assert fail_dead_runs(instance) == []
    assert fail_dead_runs(instance, tmp_path / "other_lake") == []
    assert fail_dead_runs(instance, Path("lake")) == [holder]
    monkeypatch.setattr(dead_runs, "SILENT_S", 0.0)
    assert fail_dead_runs(instance) == [other]


def test_a_run_that_no_process_takes_up_is_dead_after_a_while(instance, monkeypatch):
    run = add_run(instance, None, dg.DagsterRunStatus.STARTING)
    assert fail_dead_runs(instance) == []
    monkeypatch.setattr(dead_runs, "START_S", 0.0)
    assert fail_dead_runs(instance) == [run]


def test_a_run_that_should_be_canceled_and_is_dead_is_canceled(instance):
    run = add_run(instance, GONE)
    instance.report_run_canceling(instance.get_run_by_id(run))
    assert fail_dead_runs(instance) == [run]
    assert status_of(instance, run) is dg.DagsterRunStatus.CANCELED


def test_a_run_that_waits_in_the_queue_is_left(instance):
    add_run(instance, None, dg.DagsterRunStatus.QUEUED)
    assert fail_dead_runs(instance) == []


def test_a_run_that_ends_while_it_is_looked_at_keeps_its_success(instance, monkeypatch):
    run = add_run(instance, GONE)

    def ends_meanwhile(*arguments, **options):
        reason = death_of(*arguments, **options)
        instance.report_dagster_event(dg.DagsterEvent("PIPELINE_SUCCESS", "long"), run)
        return reason

    monkeypatch.setattr(dead_runs, "death_of", ends_meanwhile)
    assert fail_dead_runs(instance) == []
    assert status_of(instance, run) is dg.DagsterRunStatus.SUCCESS


def test_a_run_that_our_resource_serves_names_its_process_and_its_lake(instance, tmp_path):
    """As runs that the UI, the daemon or `dagster asset materialize` start."""
    resource = pipeline_resource(RunTarget("smoke", "openscene", "", str(tmp_path / "lake")))
    found = {}

    @dg.op(required_resource_keys={"pipeline"})
    def looks(context):
        found.update(context.instance.get_run_by_id(context.run_id).tags, run=context.run_id)

    @dg.job(resource_defs={"pipeline": resource})
    def short():
        looks()

    with dg.DagsterInstance.ephemeral() as plain:
        assert short.execute_in_process(instance=plain).success
    assert found[LAKE_TAG] == str(tmp_path / "lake") and process_of(found["run"], found) == ME
