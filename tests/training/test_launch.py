"""Training loops on Ray workers: the codebook, the VLM, and workers that die."""

import json
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from models.vlm import ADAPTERS_FOLDER, HEAD_FILE, ActionVlm
from models.vlm_config import VlmConfig
from ops.latent_actions.learn_actions import learn_actions, read_codebook
from ops.planners.training_arrays import TrainingArrays
from ops.training.config import ComputeConfig, FitConfig
from ops.training.fit import batch_rows
from ops.training.launch import Session, launch
from ops.training.runs import TrainingJob, TrainingRuns
from ops.vla.vlm import VlmTraining
from tests.latent_actions.test_learn_actions import recipe
from tests.worlds.ground_world import drive
from tests.worlds.tiny_vla import SMALL_VLM, tiny_frames

pytestmark = pytest.mark.slow
DIE_AT_STEP = 6


@dataclass(frozen=True)
class CountingConfig:
    """Configuration of counting_loop."""

    deaths: int


@dataclass(frozen=True)
class DeathConfig:
    """Configuration of vlm_loop_with_death."""

    training: VlmTraining
    die_after: int | None


@dataclass(frozen=True)
class WritingConfig:
    """Configuration of writing_loop."""

    out: Path
    seed: int = 3


@pytest.fixture(scope="module")
def no_ray_left_behind():
    """Lets workers import the loops of this file, and shuts the private Ray cluster down after its
    tests.
    """
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
        yield
        import ray

        ray.shutdown()


@pytest.mark.parametrize("num_workers", [1, 2])
def test_ray_workers_train_a_codebook_with_the_same_loop(num_workers, tmp_path, no_ray_left_behind):
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


def counting_loop(config: CountingConfig, session: Session) -> dict:
    """Counts to ten; the process dies at DIE_AT_STEP, in the first `config.deaths` attempts."""
    import os
    import time

    deaths = session.folder / "deaths"
    state = session.resume()
    start = state["step"] if state else 0
    for step in range(start + 1, 11):
        died = len(deaths.read_text()) if deaths.exists() else 0
        if step == DIE_AT_STEP and died < config.deaths:
            # the controller polls every 0.2 s for the checkpoint
            time.sleep(3)
            deaths.write_text("x" * (died + 1))
            os._exit(1)
        session.report(step, {"value": float(step)}, {"step": step} if step % 2 == 0 else None)
    return {"began_at": start, "ended_at": step, "world": session.world_size}


def test_a_worker_that_dies_is_restarted_from_the_last_checkpoint(tmp_path, no_ray_left_behind):
    result = launch(
        counting_loop,
        CountingConfig(1),
        name="dies",
        runs=tmp_path,
        compute=ComputeConfig(num_workers=1, max_failures=1, threads=1),
    )
    assert result == {"began_at": 4, "ended_at": 10, "world": 1}


def test_a_worker_that_dies_more_often_than_allowed_ends_the_run(tmp_path, no_ray_left_behind):
    with pytest.raises(Exception, match=r"(?i)worker|died|exit"):
        launch(
            counting_loop,
            CountingConfig(2),
            name="dies",
            runs=tmp_path,
            compute=replace(ComputeConfig(num_workers=1, threads=1), max_failures=0),
        )


@dataclass(frozen=True)
class NormConfig:
    """Configuration of norm_loop."""

    rows: np.ndarray  # (N, 2)
    fit: FitConfig
    out: Path


def norm_loop(config: NormConfig, session: Session) -> dict:
    """Trains a network with BatchNorm; rank 0 writes its state."""
    from torch import nn

    from ops.training.fit import fit

    torch.manual_seed(0)
    model = nn.Sequential(nn.BatchNorm1d(2, affine=False), nn.Linear(2, 1))

    def loss_of(wrapped, numbers):
        return wrapped(torch.from_numpy(config.rows[numbers])).square().mean(), {}

    fit(session, model, loss_of, len(config.rows), config.fit, seed=0)
    if session.rank == 0:
        torch.save(model.state_dict(), config.out)
    return {}


@pytest.mark.parametrize("num_workers", [0, 2])
def test_the_saved_statistics_of_batch_norm_are_those_of_all_workers(
    num_workers, tmp_path, no_ray_left_behind
):
    rows = np.random.default_rng(0).normal(3.0, 2.0, (64, 2)).astype(np.float32)
    rows[::2] += 5.0
    config = NormConfig(rows, FitConfig(steps=6, batch=8), tmp_path / "norm.pt")
    compute = ComputeConfig(num_workers, threads=1)
    launch(norm_loop, config, name="norm", runs=tmp_path / "runs", compute=compute)
    mean, variance, workers = np.zeros(2), np.ones(2), max(num_workers, 1)
    for step in range(config.fit.steps):
        batch = batch_rows(0, step, len(rows), config.fit.batch)
        parts = [rows[batch[rank::workers]] for rank in range(workers)]
        mean = 0.9 * mean + 0.1 * np.mean([part.mean(0) for part in parts], axis=0)
        variance = 0.9 * variance + 0.1 * np.mean([part.var(0, ddof=1) for part in parts], axis=0)
    checkpoint = next((tmp_path / "runs" / "norm").rglob("state.pt"))
    for state in (torch.load(config.out), torch.load(checkpoint, weights_only=False)["model"]):
        assert np.allclose(state["0.running_mean"], mean, rtol=1e-5)
        assert np.allclose(state["0.running_var"], variance, rtol=1e-5)


def test_batch_norm_of_workers_on_gpus_is_synchronised_and_keeps_its_tensors(monkeypatch):
    """SyncBatchNorm runs on GPUs only, so this checks the conversion without a step."""
    import ray.train.torch
    from torch import nn

    monkeypatch.setattr(ray.train.torch, "prepare_model", lambda model: model)
    session = object.__new__(Session)
    session._local, session.world_size, session.device = False, 2, torch.device("cuda")
    model = nn.Sequential(nn.Linear(2, 2), nn.Sequential(nn.BatchNorm1d(2)))
    before = dict(model.state_dict(keep_vars=True))
    prepared = session.prepare(model)
    assert prepared is model and isinstance(model[1][0], nn.SyncBatchNorm)
    after = model.state_dict(keep_vars=True)
    assert after.keys() == before.keys()
    assert all(value is before[name] for name, value in after.items())


def vlm_loop_with_death(config: DeathConfig, session: Session) -> dict:
    """Trains a VLM; in the first attempt rank 0 dies after the checkpoint of step `die_after`."""
    import os
    import time

    from ops.vla.vlm import vlm_loop

    report, died = Session.report, session.folder / "died"

    def report_and_die(self, step, metrics, state=None):
        report(self, step, metrics, state)
        if step == config.die_after and self.rank == 0 and not died.exists():
            time.sleep(3)
            died.touch()
            os._exit(1)

    Session.report = report_and_die
    try:
        return vlm_loop(config.training, session)
    finally:
        Session.report = report


def test_two_workers_train_adapters_of_a_vlm_and_a_dead_worker_changes_no_bit(
    tmp_path, no_ray_left_behind
):
    """The features of a full-scale run on a small model: DDP, adapters, gradient checkpointing and
    weights from a folder.
    """
    torch.manual_seed(0)
    ActionVlm.build(SMALL_VLM).save(tmp_path / "base")
    frames = tiny_frames(1, 16)
    TrainingArrays(
        frames.motion_status,
        frames.future,
        frames.images,
        frames.camera,
        codes=frames.codes,
        codes_valid=frames.codes_valid,
    ).save(tmp_path / "arrays")
    vlm = VlmConfig(pretrained=str(tmp_path / "base"), lora_rank=2, gradient_checkpointing=True)
    fit = FitConfig(steps=6, batch=8, learning_rate=1e-2, report_every=2, checkpoint_every=2)
    weights, heads, adapters = {}, {}, {}
    for name, die_after in (("whole", None), ("lost", 4)):
        training = VlmTraining(tmp_path / "arrays", tmp_path / name, vlm, fit, seed=0)
        config = DeathConfig(training, die_after)
        launch(
            vlm_loop_with_death,
            config,
            name=name,
            runs=tmp_path / "runs",
            compute=ComputeConfig(num_workers=2, max_failures=1),
        )
        weights[name] = load_file(tmp_path / name / "model.safetensors")
        heads[name] = load_file(tmp_path / name / HEAD_FILE)
        adapters[name] = load_file(tmp_path / name / ADAPTERS_FOLDER / "adapter_model.safetensors")
    assert (tmp_path / "runs" / "lost" / "died").exists()
    assert weights["whole"].keys() == weights["lost"].keys()
    assert all(
        torch.equal(value, weights["lost"][name]) for name, value in weights["whole"].items()
    )
    assert all(torch.equal(value, heads["lost"][name]) for name, value in heads["whole"].items())
    assert heads["whole"].keys() == heads["lost"].keys() and len(heads["whole"]) == 12
    assert adapters["whole"].keys() == adapters["lost"].keys()
    assert all(
        value.any() and torch.equal(value, adapters["lost"][name])
        for name, value in adapters["whole"].items()
    )
    before = load_file(tmp_path / "base" / "model.safetensors")
    changed = {
        name for name, value in before.items() if not torch.equal(value, weights["whole"][name])
    }
    assert changed == {"model.embed_tokens.weight"}, "the action tokens' embeddings"
    kept = torch.load(next((tmp_path / "runs" / "whole").rglob("state.pt")), weights_only=False)[
        "model"
    ]
    assert kept.keys() >= heads["whole"].keys()
    assert all("lora_" in name or name in heads["whole"] for name in kept)
    rows = [
        json.loads(line)
        for line in (tmp_path / "runs" / "lost" / "history.jsonl").read_text().splitlines()
    ]
    assert [row["step"] for row in rows] == [2, 4, 6]


@pytest.mark.parametrize("at_once", [1, 2])
def test_trainings_in_parallel_give_the_results_of_trainings_in_sequence(at_once, tmp_path):
    training = TrainingRuns(ComputeConfig(at_once=at_once), tmp_path, "two", seed=3)
    training.launch_all(
        [
            TrainingJob(part, writing_loop, WritingConfig(tmp_path / part))
            for part in ("left", "right")
        ]
    )
    results = [(tmp_path / part).read_text() for part in ("left", "right")]
    assert results[0] == results[1] == "0.0043"


def test_an_error_in_one_of_several_trainings_is_raised(tmp_path):
    training = TrainingRuns(ComputeConfig(at_once=2), tmp_path, "two", seed=3)
    with pytest.raises(Exception, match="no_such_folder"):
        training.launch_all(
            [
                TrainingJob("left", writing_loop, WritingConfig(tmp_path / "left")),
                TrainingJob(
                    "right", writing_loop, WritingConfig(tmp_path / "no_such_folder" / "x")
                ),
            ]
        )


def writing_loop(config: WritingConfig, session: Session) -> dict:
    """Writes a random number of its seed."""
    import torch

    torch.manual_seed(config.seed)
    config.out.write_text(f"{float(torch.rand(())):.4f}")
    return {}
