"""The door to Ray Train: the codebook and the VLM trained by real workers, and a worker that dies."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from models.vlm import ActionVlm
from models.vlm_config import VlmConfig
from ops.latent_actions.learn_actions import learn_actions, read_codebook
from ops.planners.training_arrays import TrainingArrays
from ops.training.config import ComputeConfig, FitConfig
from ops.training.launch import Session, launch
from ops.training.runs import TrainingJob, TrainingRuns
from tests.latent_actions.test_learn_actions import recipe
from tests.worlds.ground_world import drive
from tests.worlds.tiny_vla import SMALL_VLM, tiny_frames

pytestmark = pytest.mark.slow
LOSE_AT = 6


@pytest.fixture(scope="module")
def no_ray_left_behind():
    """Let workers import the loops of this file, and shut the private cluster down when the file is
    done.
    """
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
        yield
        import ray

        ray.shutdown()


@pytest.mark.parametrize("num_workers", [1, 2])
def test_real_workers_train_a_codebook_through_the_same_loop(
    num_workers, tmp_path, no_ray_left_behind
):
    out = tmp_path / "codebook"
    out.mkdir()
    health = learn_actions(
        drive(4, seed=1),
        drive(2, seed=2),
        out,
        recipe(8, 12),
        compute=ComputeConfig(num_workers, threads=1),
        runs=tmp_path / "runs",
        name="codebook-workers",
        seed=0,
    )
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
            time.sleep(
                3
            )  # a checkpoint counts once the controller, which looks every 0.2 s, has it
            deaths.write_text("x" * (died + 1))
            os._exit(1)
        session.report(step, {"value": float(step)}, {"step": step} if step % 2 == 0 else None)
    return {"began_at": start, "ended_at": step, "world": session.world_size}


def test_a_worker_that_dies_is_started_again_from_the_last_checkpoint(tmp_path, no_ray_left_behind):
    found = launch(
        counting_loop,
        {"deaths": 1},
        name="dies",
        runs=tmp_path,
        compute=ComputeConfig(num_workers=1, max_failures=1, threads=1),
    )
    assert found == {"began_at": 4, "ended_at": 10, "world": 1}


def test_a_worker_that_dies_more_often_than_allowed_ends_the_run(tmp_path, no_ray_left_behind):
    with pytest.raises(Exception, match=r"(?i)worker|died|exit"):
        launch(
            counting_loop,
            {"deaths": 2},
            name="dies",
            runs=tmp_path,
            compute=replace(ComputeConfig(num_workers=1, threads=1), max_failures=0),
        )


def mortal_vlm_loop(config: dict) -> dict:
    """Trains a VLM; with `config["die_after"]` its first life ends after the checkpoint of that
    step.
    """
    import os
    import time

    from ops.vla.vlm import vlm_loop

    report, died = Session.report, Path(config["_run"]) / "died"

    def report_and_die(self, step, metrics, state=None):
        report(self, step, metrics, state)
        if step == config["die_after"] and self.rank == 0 and not died.exists():
            time.sleep(3)
            died.touch()
            os._exit(1)

    Session.report = report_and_die
    try:
        return vlm_loop(config)
    finally:
        Session.report = report


def test_two_workers_train_adapters_of_one_vlm_and_a_lost_worker_changes_no_bit(
    tmp_path, no_ray_left_behind
):
    """What runs at full scale, on a small model: DDP, adapters, gradient checkpointing, and weights
    from a folder.
    """
    torch.manual_seed(0)
    ActionVlm.build(SMALL_VLM).save(tmp_path / "base")
    frames = tiny_frames(1, 16)
    TrainingArrays(
        frames.status,
        frames.future,
        frames.images,
        codes=frames.codes,
        codes_valid=frames.codes_valid,
    ).save(tmp_path / "arrays")
    vlm = VlmConfig(pretrained=str(tmp_path / "base"), lora_rank=2, gradient_checkpointing=True)
    fit = FitConfig(steps=6, batch=8, learning_rate=1e-2, report_every=2, checkpoint_every=2)
    made = {}
    for name, die_after in (("whole", None), ("lost", 4)):
        config = {
            "arrays": str(tmp_path / "arrays"),
            "out": str(tmp_path / name),
            "vlm": vlm,
            "fit": fit,
            "seed": 0,
            "die_after": die_after,
        }
        launch(
            mortal_vlm_loop,
            config,
            name=name,
            runs=tmp_path / "runs",
            compute=ComputeConfig(num_workers=2, max_failures=1),
        )
        made[name] = load_file(tmp_path / name / "model.safetensors")
    assert (tmp_path / "runs" / "lost" / "died").exists()
    assert made["whole"].keys() == made["lost"].keys()
    assert all(torch.equal(value, made["lost"][name]) for name, value in made["whole"].items())
    before = load_file(tmp_path / "base" / "model.safetensors")
    changed = {
        name for name, value in before.items() if not torch.equal(value, made["whole"][name])
    }
    assert any("q_proj" in name for name in changed) and not any(
        "visual" in name for name in changed
    )
    kept = torch.load(next((tmp_path / "runs" / "whole").rglob("state.pt")), weights_only=False)[
        "model"
    ]
    assert kept and all("lora_" in name or name == "action_rows_KD" for name in kept)
    rows = [
        json.loads(line)
        for line in (tmp_path / "runs" / "lost" / "history.jsonl").read_text().splitlines()
    ]
    assert [row["step"] for row in rows] == [2, 4, 6]


@pytest.mark.parametrize("at_once", [1, 2])
def test_trainings_side_by_side_give_what_they_give_in_turn(at_once, tmp_path):
    training = TrainingRuns(ComputeConfig(at_once=at_once), tmp_path, "two", seed=3)
    training.launch_all(
        [
            TrainingJob(part, writing_loop, {"out": str(tmp_path / part)})
            for part in ("left", "right")
        ]
    )
    found = [(tmp_path / part).read_text() for part in ("left", "right")]
    assert found[0] == found[1] == "0.0043"


def test_an_error_in_one_of_several_trainings_is_raised(tmp_path):
    training = TrainingRuns(ComputeConfig(at_once=2), tmp_path, "two", seed=3)
    with pytest.raises(Exception, match="no_such_folder"):
        training.launch_all(
            [
                TrainingJob("left", writing_loop, {"out": str(tmp_path / "left")}),
                TrainingJob("right", writing_loop, {"out": str(tmp_path / "no_such_folder" / "x")}),
            ]
        )


def writing_loop(config: dict) -> dict:
    """Writes a number that its seed decides."""
    import torch

    Session(config)
    torch.manual_seed(config["seed"])
    Path(config["out"]).write_text(f"{float(torch.rand(())):.4f}")
    return {}
