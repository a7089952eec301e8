"""Ctrl-C and SIGTERM end a command within seconds, with a message and no process left behind."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from dagster._core.errors import DagsterExecutionInterruptedError

from pipelines.stopping import GRACE_S, MESSAGE, quiet_destructors

ROOT = Path(__file__).parents[2]
PROGRAM = """
import sys, time
import pipelines.cli
from ops.workers import InterruptiblePool
from ops.pool import worker_pool

class Verb:
    def add_arguments(self, parser):
        pass

    def run(self, options):
        "Run."
        try:
            return globals()[sys.argv[1]]()
        finally:
            print("put away", flush=True)

def pool():
    with worker_pool(2) as pool:
        first = pool.submit(time.sleep, 0)
        pending = [pool.submit(time.sleep, 100) for _ in range(6)]
        first.result()
        print("ready", flush=True)
        pending[-1].result()

def scorer():
    from ops.pdm.score_rows import PlanScorer
    from storage.lake import Lake

    with PlanScorer(Lake("lake"), 2) as plan_scorer:
        workers = plan_scorer._workers
        for worker in workers:
            worker.submit(time.sleep, 0).result()
        pending = [worker.submit(time.sleep, 100) for worker in workers for _ in range(5)]
        print("ready", flush=True)
        pending[-1].result()

def deaf():
    with worker_pool(1) as pool:
        pool.submit(time.sleep, 0).result()
        pending = pool.submit(time.sleep, 100)
        print("ready", flush=True)
        end = time.monotonic() + 100
        while time.monotonic() < end:
            try:
                time.sleep(end - time.monotonic())
            except KeyboardInterrupt:
                pass

def crash():
    print("ready", flush=True)
    try:
        time.sleep(100)
    except KeyboardInterrupt:
        raise RuntimeError("a consequence")

def mapped():
    from dagster._utils.interrupts import capture_interrupts
    with capture_interrupts():
        pass
    print("ready", flush=True)
    time.sleep(100)

if __name__ == "__main__":
    pipelines.cli.COMMANDS = dict.fromkeys(("pool", "scorer", "deaf", "crash", "mapped"), Verb())
    sys.exit(pipelines.cli.main())
"""


@pytest.fixture
def started(tmp_path: Path) -> Iterator:
    """Starts a program as a terminal does, in a process group of its own, and waits for a line."""
    processes: list[subprocess.Popen] = []

    def start(*words: str, until: str = "ready", **variables: str) -> subprocess.Popen:
        process = subprocess.Popen(
            words,
            cwd=tmp_path,
            env=os.environ | {"PYTHONPATH": str(ROOT)} | variables,
            stdout=subprocess.PIPE,
            stderr=(tmp_path / "errors").open("w"),
            text=True,
            start_new_session=True,
        )
        processes.append(process)
        assert process.stdout is not None
        for line in process.stdout:
            if until in line:
                return process
        raise AssertionError((tmp_path / "errors").read_text())

    yield start
    for process in processes:
        if process.poll() is None:
            process.kill()


def end(process: subprocess.Popen, number: int, *, group: bool, errors: Path) -> tuple[int, float]:
    """Exit code and seconds after a signal; no descendant is left, and nothing but the message was
    said.
    """
    children = psutil.Process(process.pid).children(recursive=True)
    start = time.monotonic()
    (os.killpg if group else os.kill)(process.pid, number)
    code = process.wait(timeout=30)
    seconds = time.monotonic() - start
    assert psutil.wait_procs(children, timeout=3)[1] == []
    # the program may say before where Dagster's history lies
    said = [line for line in errors.read_text().splitlines() if not line.startswith("notice: ")]
    assert said == [MESSAGE]
    return code, seconds


@pytest.mark.parametrize(
    ("verb", "number", "group", "code"),
    [("pool", signal.SIGINT, True, 130), ("scorer", signal.SIGTERM, False, 143)],
)
def test_work_that_waits_in_a_pool_is_dropped(started, tmp_path, verb, number, group, code) -> None:
    (tmp_path / "program.py").write_text(PROGRAM)
    process = started(sys.executable, "program.py", verb)
    assert end(process, number, group=group, errors=tmp_path / "errors")[0] == code
    assert process.stdout.read() == "put away\n"


def test_a_command_that_does_not_listen_is_ended_with_its_workers(started, tmp_path) -> None:
    (tmp_path / "program.py").write_text(PROGRAM)
    process = started(sys.executable, "program.py", "deaf")
    found, seconds = end(process, signal.SIGTERM, group=False, errors=tmp_path / "errors")
    assert found == 143 and GRACE_S - 1 < seconds < GRACE_S + 10
    assert process.stdout.read() == ""


def test_an_error_that_follows_from_the_interrupt_is_not_shown(started, tmp_path) -> None:
    (tmp_path / "program.py").write_text(PROGRAM)
    process = started(sys.executable, "program.py", "crash")
    assert end(process, signal.SIGINT, group=True, errors=tmp_path / "errors")[0] == 130


def test_a_background_job_that_ignores_ctrl_c_still_ends_at_sigterm(started, tmp_path) -> None:
    (tmp_path / "program.py").write_text(PROGRAM)
    words = ("sh", "-c", f"trap '' INT; exec '{sys.executable}' program.py mapped")
    process = started(*words)
    process.send_signal(signal.SIGINT)
    time.sleep(0.5)
    assert process.poll() is None
    assert end(process, signal.SIGTERM, group=False, errors=tmp_path / "errors")[0] == 143


def test_a_run_of_the_pipeline_ends_with_the_message(started, tmp_path) -> None:
    (tmp_path / "dagster.yaml").write_text("telemetry: {enabled: false}")
    words = ("-m", "latentvla", "run", "--scale", "smoke", "--until", "raw_logs", "--lake", "lake")
    process = started(sys.executable, *words, until="raw_logs", DAGSTER_HOME=str(tmp_path))
    code, seconds = end(process, signal.SIGTERM, group=False, errors=tmp_path / "errors")
    assert code == 143 and seconds < GRACE_S + 10
    assert process.stdout is not None and "failed" not in process.stdout.read()


def test_an_interrupt_that_hits_a_destructor_is_not_shown_and_an_error_is(capsys, monkeypatch):
    class Raises:
        def __init__(self, error: BaseException) -> None:
            self.error = error

        def __del__(self) -> None:
            raise self.error

    monkeypatch.setattr(sys, "unraisablehook", quiet_destructors)
    Raises(DagsterExecutionInterruptedError())
    Raises(KeyboardInterrupt())
    assert capsys.readouterr().err == ""
    Raises(ValueError("of a program"))
    assert "of a program" in capsys.readouterr().err
