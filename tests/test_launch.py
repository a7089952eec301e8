"""The door to Ray Train: the codebook trained by real workers, and a worker that dies."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from ground_world import drive
from test_learn_actions import recipe

from ops.fit import RunPlace, TrainingJob
from ops.launch import LaunchConfig, Session, launch
from ops.learn_actions import learn_actions, read_codebook

pytestmark = pytest.mark.slow
LOSE_AT = 6


@pytest.fixture(scope="module")
def no_ray_left_behind():
    """Let workers import the loops of this file, and shut the private cluster down when the file is done."""
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("PYTHONPATH", str(Path(__file__).parent))
        yield
        import ray

        ray.shutdown()


@pytest.mark.parametrize("num_workers", [1, 2])
def test_real_workers_train_a_codebook_through_the_same_loop(num_workers, tmp_path, no_ray_left_behind):
    out = tmp_path / "codebook"
    out.mkdir()
    health = learn_actions(drive(4, seed=1), drive(2, seed=2), out, recipe(8, 12), where=LaunchConfig(num_workers, threads=1),
                           runs=tmp_path / "runs", name="codebook-workers", seed=0)
    rows = [json.loads(line) for line in (out / "history_ego.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == list(range(2, 13, 2))
    assert np.isfinite([row["loss"] for row in rows]).all()
    assert health.pairs == 2 * 11
    model, gap_s = read_codebook(out)
    assert gap_s == 0.5 and not any(name.startswith("module.") for name in model.state_dict())


def counting_loop(config: dict) -> dict:
    """Counts to ten; at LOSE_AT the process dies, as often as `config["deaths"]` says."""
    import os
    import time

    session, deaths = Session(config), Path(config["_run"]) / "deaths"
    state = session.resume()
    start = state["step"] if state else 0
    for step in range(start + 1, 11):
        died = len(deaths.read_text()) if deaths.exists() else 0
        if step == LOSE_AT and died < config["deaths"]:
            time.sleep(3)       # a checkpoint counts once the controller, which looks every 0.2 s, has it
            deaths.write_text("x" * (died + 1))
            os._exit(1)
        session.report(step, {"value": float(step)}, {"step": step} if step % 2 == 0 else None)
    return {"began_at": start, "ended_at": step, "world": session.world_size}


def test_a_worker_that_dies_is_started_again_from_the_last_checkpoint(tmp_path, no_ray_left_behind):
    found = launch(counting_loop, {"deaths": 1}, name="dies", runs=tmp_path,
                   where=LaunchConfig(num_workers=1, max_failures=1, threads=1))
    assert found == {"began_at": 4, "ended_at": 10, "world": 1}


def test_a_worker_that_dies_more_often_than_allowed_ends_the_run(tmp_path, no_ray_left_behind):
    with pytest.raises(Exception, match=r"(?i)worker|died|exit"):
        launch(counting_loop, {"deaths": 2}, name="dies", runs=tmp_path,
               where=replace(LaunchConfig(num_workers=1, threads=1), max_failures=0))


@pytest.mark.parametrize("at_once", [1, 2])
def test_trainings_side_by_side_give_what_they_give_in_turn(at_once, tmp_path):
    place = RunPlace(LaunchConfig(at_once=at_once), tmp_path, "two", seed=3)
    place.launch_all([TrainingJob(part, writing_loop, {"out": str(tmp_path / part)}) for part in ("left", "right")])
    found = [(tmp_path / part).read_text() for part in ("left", "right")]
    assert found[0] == found[1] == "0.0043"


def test_an_error_in_one_of_several_trainings_is_raised(tmp_path):
    place = RunPlace(LaunchConfig(at_once=2), tmp_path, "two", seed=3)
    with pytest.raises(Exception, match="no_such_folder"):
        place.launch_all([TrainingJob("left", writing_loop, {"out": str(tmp_path / "left")}),
                          TrainingJob("right", writing_loop, {"out": str(tmp_path / "no_such_folder" / "x")})])


def writing_loop(config: dict) -> dict:
    """Writes a number that its seed decides."""
    import torch

    Session(config)
    torch.manual_seed(config["seed"])
    Path(config["out"]).write_text(f"{float(torch.rand(())):.4f}")
    return {}
