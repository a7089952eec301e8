"""Make the `codebook` artefact: latent-action codes learned from frame pairs in two phases.

out/config.json, out/model.safetensors      the model of both phases
out/health.json                             figures on held-out logs, see ops.latent_actions.health
out/history_environment.jsonl, history_ego.jsonl
out/predictions.png, out/what_each_code_does.png
"""

import json
import logging
import shutil
from dataclasses import asdict
from pathlib import Path

import torch

from models.latent_action.config import LatentActionConfig
from models.latent_action.model import LatentActionModel
from ops.latent_actions.config import CodebookConfig
from ops.latent_actions.fit_actions import KIND, CodebookTraining, ego_loop, environment_loop
from ops.latent_actions.frame_pairs import frame_pairs
from ops.latent_actions.health import CodebookHealth, measure_health
from ops.latent_actions.pictures import draw_codes, draw_predictions
from ops.training.config import ComputeConfig
from ops.training.launch import HISTORY_FILE
from ops.training.runs import TrainingJob, TrainingRuns
from storage.checkpoint import load_checkpoint, save_checkpoint
from storage.dataset import FrameSet
from storage.errors import ConfigError

_LOG = logging.getLogger(__name__)
_MIN_ROAD_SEEN = 0.5  # share of the sweep's region below which a warning is logged


def learn_actions(
    train: FrameSet,
    heldout: FrameSet,
    out: Path,
    config: CodebookConfig,
    *,
    compute: ComputeConfig,
    runs: Path,
    name: str,
    seed: int,
) -> CodebookHealth:
    """Learn a codebook from `train`, measure it on `heldout`, and fill `out`.

    A killed run of the same `name` in the folder `runs` is resumed. Raises ConfigError for an
    invalid configuration, or if a split has no pair of frames `gap_s` apart or images of another
    size than configured.
    """
    _validate_config(config)
    pairs = frame_pairs(train, config.gap_s, config.image_hw, "training")
    heldout_pairs = frame_pairs(heldout, config.gap_s, config.image_hw, "held-out")
    training = TrainingRuns(compute, runs, name, seed)
    arrays = training.arrays("ego").absolute()
    pairs.save(arrays)
    two_phases = config.model.environment == "frozen"
    start, finished = arrays / "environment" if two_phases else None, arrays / "model"
    shared = (config.model, config.gap_s)
    jobs = []
    if start is not None:
        phase = CodebookTraining(arrays, start, None, *shared, config.environment, seed)
        jobs.append(TrainingJob("environment", environment_loop, phase))
    phase = CodebookTraining(arrays, finished, start, *shared, config.ego, seed)
    jobs.append(TrainingJob("ego", ego_loop, phase))
    for job in jobs:
        training.launch(job)
    torch.set_num_threads(compute.threads)
    model = read_codebook(finished)[0]
    health = measure_health(model, pairs, heldout_pairs)
    if health.road_seen is not None and health.road_seen < _MIN_ROAD_SEEN:
        _LOG.warning(
            "the images show %.0f %% of the road that the motion sweep compares: fit "
            "LatentActionConfig.sweep (near_m, far_m, side_m) to the camera, or set it to None",
            100 * health.road_seen,
        )
    save_checkpoint(
        out, KIND, {"model": asdict(config.model), "gap_s": config.gap_s}, model.kept_state()
    )
    (out / "health.json").write_text(json.dumps(asdict(health), indent=1))
    draw_predictions(model, heldout_pairs, out / "predictions.png")
    draw_codes(model, heldout_pairs, out / "what_each_code_does.png")
    for job in jobs:
        shutil.copy(runs / f"{name}-{job.part}" / HISTORY_FILE, out / f"history_{job.part}.jsonl")
    return health


def read_codebook(folder: Path) -> tuple[LatentActionModel, float]:
    """The model of a codebook, in evaluation mode, and the time in s between the frames of a pair.

    Raises ArtifactError if the folder holds no codebook.
    """
    config, tensors = load_checkpoint(folder, KIND)
    model = LatentActionModel(LatentActionConfig.from_plain(config["model"]))
    model.load_kept_state(tensors)
    return model.eval(), config["gap_s"]


def _validate_config(config: CodebookConfig) -> None:
    model = config.model
    if model.observation == "pixels" and (model.image_hw[0] % 16 or model.image_hw[1] % 16):
        raise ConfigError(
            "the codebook's image size does not fit the observation grid",
            expected="multiples of 16",
            found=model.image_hw,
            do="change CodebookConfig.model.image_hw",
        )
    if model.observation == "features" and not Path(model.vision_model, "config.json").exists():
        raise ConfigError(
            "the vision model for the features is missing",
            where=model.vision_model or "(not given)",
            expected="a local folder with config.json and weights, DINOv2's for example",
            do="set CodebookConfig.model.vision_model to such a folder",
        )
    if model.observation == "features" and model.sweep is not None:
        raise ConfigError(
            "the motion sweep needs pixels",
            expected='observation="pixels", or no sweep',
            found='observation="features"',
            do="set CodebookConfig.model.sweep to None",
        )
    for fit, quantizer in (
        (config.environment, model.environment_quantizer),
        (config.ego, model.ego_quantizer),
    ):
        if fit.steps <= quantizer.warmup_steps:
            raise ConfigError(
                "training ends before quantization begins",
                found=f"{fit.steps} steps",
                expected=f"more than the quantizer's {quantizer.warmup_steps} warm-up steps",
                do="raise FitConfig.steps, or lower QuantizerConfig.warmup_steps",
            )
