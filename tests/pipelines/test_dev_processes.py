"""The real `dagster dev` in the middle of a run: however it is stopped, all that it started ends
within seconds, the workers of pools and of Ray too.
"""

import os
import signal
import subprocess
import sys
import time

import dagster as dg
import psutil
import pytest

from pipelines.dev_processes import IS_DEV, PIPE
from pipelines.history import open_history
from pipelines.stopping import GRACE_S
from tests.pipelines.test_daemon import ask, kill_tree
from tests.pipelines.test_dagster_cli import ROOT, activated, free_port, poll

PATIENCE_S = 120
LAUNCH = """mutation { launchPipelineExecution(executionParams: {mode: "default", selector:
 {repositoryName: "__repository__", repositoryLocationName: "long.py", pipelineName: "long"}})
 { __typename ... on PythonError { message } } }"""
PROGRAM = '''
import time
from pathlib import Path

import dagster as dg

from ops.pool import worker_pool


@dg.op
def waits():
    """Longer than any test, in a pool and in Ray."""
    import ray

    ray.init(address="local", num_cpus=1, include_dashboard=False, log_to_driver=False)

    @ray.remote
    def long():
        Path("ray_works").touch()
        time.sleep(600)

    with worker_pool(1) as pool:
        futures = [pool.submit(time.sleep, 600), long.remote()]
        ray.get(futures[1])


@dg.job
def long():
    """A run that would take ten minutes."""
    waits()


defs = dg.Definitions(jobs=[long])
'''


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["SIGTERM", "SIGINT to the group", "SIGKILL"])
def test_nothing_that_dagster_dev_started_outlives_it(in_checkout, record_property, kind):
    (in_checkout / "long.py").write_text(PROGRAM)
    port = free_port()
    server = subprocess.Popen(
        ["dagster", "dev", "-f", "long.py", "--port", str(port)],
        env=activated(PYTHONPATH=str(ROOT), LATENTVLA_LAKE="lake"),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        ui = f"http://127.0.0.1:{port}/graphql"
        poll(lambda: "LaunchRunSuccess" in str(ask(ui, LAUNCH)) or None, PATIENCE_S)
        poll(lambda: list(in_checkout.rglob("ray_works")) or None, PATIENCE_S)
        started = psutil.Process(server.pid).children(recursive=True)
        names = " ".join(" ".join(item.cmdline()) for item in started)
        assert all(name in names for name in ("webserver", "_daemon", "api grpc", "raylet"))
        start = time.monotonic()
        if kind == "SIGINT to the group":
            os.killpg(server.pid, signal.SIGINT)
        else:
            server.send_signal(getattr(signal, kind))
        server.wait(timeout=2 * GRACE_S + 20)
        alive = psutil.wait_procs(started, timeout=GRACE_S + 20)[1]
        record_property(f"seconds until all have ended after {kind}", time.monotonic() - start)
        assert [item.cmdline() for item in alive] == []
    finally:
        if server.poll() is None:
            kill_tree(psutil.Process(server.pid))
    with open_history("lake") as history:
        run = history.get_runs()[0]
        assert run.status in (dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.STARTED)


DEV = """
import time
from pipelines.dev_processes import join_dev_processes
import subprocess, sys
join_dev_processes()
subprocess.Popen([sys.executable, "child.py"])
time.sleep(100)
"""
CHILD = """
import time
from pathlib import Path
from pipelines.dev_processes import join_dev_processes
join_dev_processes()
Path("child").touch()
while True:
    try:
        time.sleep(100)
    except KeyboardInterrupt:
        Path("heard").touch()
"""


def test_a_deaf_child_of_a_killed_dev_hears_it_and_is_ended_after_the_grace(tmp_path):
    (tmp_path / "dev.py").write_text(DEV)
    (tmp_path / "child.py").write_text(CHILD)
    dev = subprocess.Popen(
        [sys.executable, "dev.py"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT), IS_DEV: "1"},
    )
    try:
        poll(lambda: (tmp_path / "child").exists() or None, 60)
        (child,) = psutil.Process(dev.pid).children()
    finally:
        dev.kill()
        dev.wait()
    poll(lambda: (tmp_path / "heard").exists() or None, 10)
    assert psutil.wait_procs([child], timeout=GRACE_S + 10)[1] == []


def test_a_process_outside_dagster_dev_waits_for_nobody(monkeypatch):
    from pipelines.dev_processes import join_dev_processes

    monkeypatch.delenv(PIPE, raising=False)
    monkeypatch.delenv(IS_DEV, raising=False)
    join_dev_processes.__wrapped__()
    assert PIPE not in os.environ
