"""Learning a codebook from a camera that drives over a textured plane."""

import json
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest

from models.latent_action.config import LatentActionConfig, QuantizerConfig
from ops.latent_actions.config import CodebookConfig
from ops.latent_actions.health import CodebookHealth
from ops.latent_actions.learn_actions import learn_actions
from ops.training import launch
from ops.training.config import ComputeConfig, FitConfig
from storage.dataset import FrameSet
from storage.errors import ConfigError
from tests.worlds.ground_world import drive

ONE = ComputeConfig(threads=1)


def recipe(environment_steps: int, ego_steps: int, **changes) -> CodebookConfig:
    fit = FitConfig(
        batch=16, learning_rate=3e-3, weight_decay=0.01, checkpoint_every=4, report_every=2
    )
    model = LatentActionConfig(
        image_hw=(32, 48),
        environment_quantizer=QuantizerConfig(warmup_steps=environment_steps // 4),
        ego_quantizer=QuantizerConfig(warmup_steps=ego_steps // 4),
    )
    return CodebookConfig(
        model=replace(model, **changes),
        environment=replace(fit, steps=environment_steps),
        ego=replace(fit, steps=ego_steps),
    )


def learn(
    train: FrameSet, heldout: FrameSet, folder: Path, config: CodebookConfig
) -> CodebookHealth:
    out = folder / "codebook"
    out.mkdir(parents=True, exist_ok=True)
    return learn_actions(
        train, heldout, out, config, compute=ONE, runs=folder / "runs", name="codebook-test", seed=0
    )


def test_codes_carry_the_motion_of_the_ego_and_environment_codes_do_not(tmp_path):
    config = recipe(50, 100)
    health = learn(drive(60, seed=1), drive(12, seed=2, split="val"), tmp_path, config)
    assert health.speed_r2 > 0.35 and health.yaw_rate_r2 > 0.6
    assert health.speed_r2 > health.speed_r2_of_one_frame + 0.2
    assert health.environment_speed_r2 < 0.2 and health.environment_yaw_rate_r2 < 0.2
    assert health.gain_over_copy_db > 1 and health.controllability_db > 0.5
    assert health.perplexity > 5 and health.pairs == 12 * 11
    out = tmp_path / "codebook"
    assert json.loads((out / "health.json").read_text()) == asdict(health)
    assert {file.name for file in out.glob("*.png")} == {
        "predictions.png",
        "what_each_code_does.png",
    }
    steps = [
        json.loads(line)["step"] for line in (out / "history_ego.jsonl").read_text().splitlines()
    ]
    assert steps == list(range(2, 101, 2))


def test_a_camera_that_shows_too_little_of_the_road_gives_a_warning(tmp_path, caplog):
    train, heldout = drive(4, seed=1), drive(2, seed=2)
    health = learn(train, heldout, tmp_path / "seen", recipe(8, 8, environment="none"))
    assert health.road_seen > 0.9 and not caplog.records
    blind = (replace(frames, camera=np.zeros_like(frames.camera)) for frames in (train, heldout))
    assert learn(*blind, tmp_path / "blind", recipe(8, 8, environment="none")).road_seen == 0.0
    assert "0 % of the road" in caplog.text and "LatentActionConfig.sweep" in caplog.text
    assert (
        learn(
            train, heldout, tmp_path / "none", recipe(8, 8, environment="none", sweep=None)
        ).road_seen
        is None
    )


def test_codes_of_a_static_camera_carry_no_motion(tmp_path):
    health = learn(
        drive(20, seed=1, standing=True), drive(12, seed=2, standing=True), tmp_path, recipe(12, 16)
    )
    assert health.speed_r2 < 0.05 and health.yaw_rate_r2 < 0.05


@pytest.mark.parametrize("phase", ["environment", "ego"])
def test_a_run_killed_in_either_phase_resumes_and_ends_with_the_same_weights(
    phase, tmp_path, monkeypatch
):
    train, heldout, config = drive(4, seed=1), drive(2, seed=2), recipe(8, 10)
    learn(train, heldout, tmp_path / "whole", config)
    report = launch.Session.report

    def report_then_die(self, step, metrics, state=None):
        report(self, step, metrics, state)
        if step == 6 and self.folder.name.endswith(phase):
            raise KeyboardInterrupt

    monkeypatch.setattr(launch.Session, "report", report_then_die)
    with pytest.raises(KeyboardInterrupt):
        learn(train, heldout, tmp_path / "killed", config)
    monkeypatch.setattr(launch.Session, "report", report)
    learn(train, heldout, tmp_path / "killed", config)
    for name in ("model.safetensors", "config.json", "health.json"):
        assert (tmp_path / "whole/codebook" / name).read_bytes() == (
            tmp_path / "killed/codebook" / name
        ).read_bytes(), name
    histories = [
        [
            json.loads(line)["loss"]
            for line in (tmp_path / folder / "codebook" / f"history_{phase}.jsonl").open()
        ]
        for folder in ("whole", "killed")
    ]
    assert histories[0] == histories[1]


def test_phase_2_can_be_learned_without_phase_1(tmp_path):
    health = learn(drive(4, seed=1), drive(2, seed=2), tmp_path, recipe(8, 8, environment="none"))
    assert health.environment_speed_r2 is None and health.environment_perplexity is None
    assert not (tmp_path / "codebook/history_environment.jsonl").exists()


def test_the_same_seed_gives_the_same_weights_and_another_seed_others(tmp_path):
    train, heldout, config = drive(3, seed=1), drive(2, seed=2), recipe(8, 8, environment="none")
    weights = []
    for run, seed in enumerate((0, 0, 1)):
        out = tmp_path / str(run)
        out.mkdir()
        learn_actions(
            train,
            heldout,
            out,
            config,
            compute=ONE,
            runs=tmp_path / f"runs{run}",
            name="x",
            seed=seed,
        )
        weights.append((out / "model.safetensors").read_bytes())
    assert weights[0] == weights[1] != weights[2]


def test_logs_without_a_pair_of_images_are_an_error(tmp_path):
    frames = drive(1, seed=0, frames=3)
    no_frames = frames.take(np.zeros(len(frames), bool))
    with pytest.raises(ConfigError, match="the held-out logs have no two images"):
        learn(frames, no_frames, tmp_path, recipe(8, 8))
    with pytest.raises(ConfigError, match="the training logs have no two images"):
        learn(frames, frames, tmp_path, replace(recipe(8, 8), gap_s=0.3))


def test_images_of_another_size_are_an_error(tmp_path):
    frames = drive(1, seed=0, image_hw=(48, 48))
    with pytest.raises(ConfigError, match="another size"):
        learn(frames, frames, tmp_path, recipe(8, 8))
    with pytest.raises(ConfigError, match="multiples of 16"):
        learn(frames, frames, tmp_path, recipe(8, 8, image_hw=(40, 48)))


def test_a_missing_vision_model_is_an_error(tmp_path):
    frames = drive(1, seed=0)
    with pytest.raises(ConfigError, match="vision model for the features is missing"):
        learn(
            frames,
            frames,
            tmp_path,
            recipe(8, 8, observation="features", vision_model=str(tmp_path)),
        )


def test_training_that_ends_before_quantization_begins_is_an_error(tmp_path):
    frames, config = drive(1, seed=0), recipe(8, 8)
    with pytest.raises(ConfigError, match="before quantization begins"):
        learn(frames, frames, tmp_path, replace(config, ego=replace(config.ego, steps=2)))
