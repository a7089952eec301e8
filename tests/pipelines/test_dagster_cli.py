"""`dagster` and `dg` in the activated environment, from the root of a checkout: no option, no
exported variable.

The checkout is a folder with copies of the three files that matter there, so the real one's history
stays untouched.
"""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from pipelines.dagster_cli import defaults_for
from pipelines.dead_runs import LAKE_TAG
from pipelines.history import open_history

ROOT = Path(__file__).parents[2]
FILES = ("dagster.yaml", "workspace.yaml", "pyproject.toml")
BIN = Path(sys.executable).parent


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """The root of a checkout, where a command finds our definitions; the packages are installed."""
    for name in FILES:
        shutil.copy(ROOT / name, tmp_path / name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def activated(**more: str) -> dict[str, str]:
    """The environment after `source .venv/bin/activate`."""
    return (
        os.environ | {"PATH": f"{BIN}:{os.environ['PATH']}", "VIRTUAL_ENV": str(BIN.parent)} | more
    )


def test_dagster_materializes_an_asset_as_its_manual_says(checkout):
    """The lake is empty, so the student fails with our message: the command has found our
    definitions and run the asset.
    """
    process = subprocess.run(
        ["dagster", "asset", "materialize", "--select", "student"],
        cwd=checkout,
        env=activated(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 1
    assert "no log has been ingested" in process.stdout + process.stderr
    assert_run_is_kept(checkout)


def assert_run_is_kept(checkout) -> None:
    """Without DAGSTER_HOME, in the lake and nowhere else."""
    assert {path.name for path in checkout.iterdir()} == {*FILES, "lake"}
    with open_history(checkout / "lake" / "synthetic") as instance:
        (run,) = instance.get_runs()
    assert run.tags[LAKE_TAG] == str(checkout / "lake" / "synthetic")
    assert run.remote_job_origin.location_name == "latentvla"


@pytest.mark.slow
def test_dg_launches_an_asset(checkout):
    process = subprocess.run(
        ["dg", "launch", "--assets", "student"],
        cwd=checkout,
        env=activated(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 1
    assert "no log has been ingested" in process.stdout + process.stderr
    assert_run_is_kept(checkout)


@pytest.mark.slow
def test_dagster_dev_serves_our_definitions(checkout):
    port = free_port()
    server = subprocess.Popen(
        ["dagster", "dev", "--port", str(port)],
        cwd=checkout,
        env=activated(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        names = poll(lambda: asset_names(port), 90)
    finally:
        os.killpg(server.pid, signal.SIGINT)
        try:
            server.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(server.pid, signal.SIGKILL)
    assert {"raw_logs", "codebook", "student", "report"} <= names


def test_only_commands_that_need_a_target_get_one():
    assert defaults_for(["asset", "materialize", "--select", "student"], {})["asset"]["materialize"]
    assert "dev" not in defaults_for(["dev"], {})


@pytest.mark.parametrize(
    "target", [["-m", "other"], ["--module-name=other"], ["-fother.py"], ["--python-file", "o.py"]]
)
def test_a_target_that_the_user_gives_takes_precedence(target):
    assert defaults_for(["asset", "materialize", *target, "--select", "x"], {}) == {}


def test_a_target_in_the_environment_takes_precedence():
    assert defaults_for(["asset", "list"], {"DAGSTER_MODULE_NAME": "other"}) == {}


def test_no_target_is_exported_to_the_children(monkeypatch):
    monkeypatch.setenv("DAGSTER_HOME", "")  # restored afterwards
    monkeypatch.setattr(sys, "argv", ["dagster", "--version"])
    from pipelines.dagster_cli import main

    with pytest.raises(SystemExit):
        main()
    assert "DAGSTER_MODULE_NAME" not in os.environ


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def asset_names(port: int) -> set[str] | None:
    """Keys of all assets in the running UI, or None while it starts."""
    query = json.dumps({"query": "{ assetNodes { assetKey { path } } }"}).encode()
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/graphql", query, {"Content-Type": "application/json"}
    )
    try:
        with urllib.request.urlopen(request, timeout=5) as answer:
            nodes = json.load(answer)["data"]["assetNodes"]
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return None
    return {node["assetKey"]["path"][-1] for node in nodes} or None


def poll(query, seconds: float):
    """The first result of `query` that is not None."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if (answer := query()) is not None:
            return answer
        time.sleep(0.5)
    raise AssertionError(f"no answer within {seconds} s")
