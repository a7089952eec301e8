"""The real `dagster dev`, with its daemon, code server and UI, over a raw folder that grows: logs
are ingested, a retraining starts, and after everything was killed in the middle of it, it starts
again.
"""

import json
import shutil
import subprocess
import time
import urllib.error
import urllib.request
from contextlib import contextmanager
from pathlib import Path

import dagster as dg
import psutil
import pytest

from pipelines.attempts import WORK_TAG
from pipelines.cli import main
from pipelines.dead_runs import LAKE_TAG
from pipelines.history import open_history
from pipelines.process_tag import process_of
from storage.artifact import planned_lineage, read_checks, write_artifact
from storage.lake import Lake
from tests.pipelines.test_dagster_cli import ROOT, activated, free_port, poll
from tests.worlds.tiny_pipeline import ingest, tiny_pipeline

pytestmark = pytest.mark.slow
PATIENCE_S = 400
STARTED, FAILURE = dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.FAILURE
SENSOR = """mutation {{ startSensor(sensorSelector: {{repositoryName: "__repository__",
 repositoryLocationName: "latentvla", sensorName: "{name}"}}) {{ __typename }} }}"""
JOB = """{{ pipelineOrError(params: {{pipelineName: "{name}", repositoryName: "__repository__",
 repositoryLocationName: "latentvla"}}) {{ ... on Pipeline {{ runs {{ runId repositoryOrigin
 {{ repositoryName repositoryLocationName }} }} }} }} }}"""


@pytest.fixture
def lake(in_checkout, tmp_path, monkeypatch):
    """The lake of a checkout whose environment names a raw folder with one log; two more lie beside
    it in tmp_path / "later".
    """
    world = tiny_pipeline(tmp_path / "world")
    with dg.DagsterInstance.ephemeral() as instance:
        assert ingest(world, instance, assets=("raw_logs",)).success
    shutil.copytree(world.raw_folder, tmp_path / "raw")
    (tmp_path / "later").mkdir()
    for file in sorted((tmp_path / "raw").rglob("*.pkl"))[1:]:
        (tmp_path / "later" / file.parent.name).mkdir(exist_ok=True)
        file.rename(tmp_path / "later" / file.parent.name / file.name)
    for name, value in {
        "SCALE": "smoke",
        "RAW": tmp_path / "raw",
        "LAKE": "lake/of_test",
        "POLL_S": 1,
        "SETTLE_S": 1,
        "RETRY_S": 1,
    }.items():
        monkeypatch.setenv(f"LATENTVLA_{name}", str(value))
    return Lake(in_checkout / "lake" / "of_test")


def test_dagster_dev_ingests_what_is_dropped_in_retrains_and_recovers_from_being_killed(
    lake, tmp_path, record_property
):
    assert main(["run", "--until", "trajectories"]) == 0
    with write_artifact(lake.asset("codebook"), planned_lineage("codebook", {}, {}, "0")):
        pass  # an old one, that has seen no log
    with dagster_dev() as ui, open_history(lake.root) as history:
        runs = ask(ui, JOB.format(name="ingest"))["pipelineOrError"]["runs"]
        assert [run["repositoryOrigin"]["repositoryLocationName"] for run in runs] == ["latentvla"]
        for name in ("new_logs", "enough_new_logs"):
            ask(ui, SENSOR.format(name=name))
        start = time.monotonic()
        for file in (tmp_path / "later").rglob("*.pkl"):
            shutil.copy(file, next((tmp_path / "raw").rglob(file.parent.name)))
        poll(lambda: len(lake.log_ids("trajectories")) == 3 or None, PATIENCE_S)
        record_property("seconds from drop to ingested", time.monotonic() - start)
        training = poll(lambda: run_of(history, "training", STARTED), PATIENCE_S)
        record_property("seconds from drop to retraining", time.monotonic() - start)
        poll(lambda: process_of(training.run_id, tags_of(history, training)), PATIENCE_S)
        assert all(read_checks(lake.log("trajectories", log)) for log in lake.log_ids("frames"))
        assert tags_of(history, training)[LAKE_TAG] == str(lake.root)
    # everything was killed; nobody has told the history
    with open_history(lake.root) as history:
        assert run_of(history, "training", STARTED).run_id == training.run_id
        with dagster_dev():
            start = time.monotonic()
            poll(lambda: run_of(history, "training", FAILURE), PATIENCE_S)
            record_property("seconds from start to marked failed", time.monotonic() - start)
            again = poll(lambda: run_of(history, "training", STARTED), PATIENCE_S)
            record_property("seconds from start to retraining again", time.monotonic() - start)
        assert again.run_id != training.run_id
        assert again.tags[WORK_TAG] == training.tags[WORK_TAG]
    assert not [path for path in Path.cwd().iterdir() if path.name == ".dagster"]


@contextmanager
def dagster_dev():
    """A running `dagster dev`, as the address of its UI; killed at the end with all it started."""
    port = free_port()
    server = subprocess.Popen(
        ["dagster", "dev", "--port", str(port)],
        env=activated(PYTHONPATH=str(ROOT)),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    ui = f"http://127.0.0.1:{port}/graphql"
    try:
        poll(lambda: ask(ui, "{ version }"), PATIENCE_S)
        poll(lambda: ask(ui, JOB.format(name="ingest"))["pipelineOrError"] or None, PATIENCE_S)
        yield ui
    finally:
        kill_tree(psutil.Process(server.pid))
        server.wait()


def kill_tree(root: psutil.Process) -> None:
    """SIGKILL for a process and all its descendants at once."""
    tree = {root}
    while added := {child for item in tree for child in item.children(recursive=True)} - tree:
        tree |= added
        for item in tree:  # so that nobody starts another one or sees a child end
            item.suspend()
    for item in tree:
        item.kill()


def ask(ui: str, query: str) -> dict | None:
    """The answer of the UI; None while it starts."""
    data = json.dumps({"query": query}).encode()
    request = urllib.request.Request(ui, data, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return json.load(answer)["data"]
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return None


def run_of(history, job: str, status) -> dg.DagsterRun | None:
    """The newest run of a job that has this status."""
    runs = history.get_runs(dg.RunsFilter(job_name=job, statuses=[status]), limit=1)
    return runs[0] if runs else None


def tags_of(history, run) -> dict[str, str]:
    """The tags that a run has now."""
    return history.get_run_by_id(run.run_id).tags
