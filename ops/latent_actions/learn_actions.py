"""Make the `codebook` artefact: latent-action codes learned from frame pairs in two phases. Not the
labelling.

    out/config.json, out/model.safetensors      the model of both phases
    out/health.json                             figures on held-out logs, see CodebookHealth
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
from ops.latent_actions.fit_actions import KIND, ego_loop, environment_loop
from ops.latent_actions.frame_pairs import frame_pairs
from ops.latent_actions.health import CodebookHealth, measure_health
from ops.latent_actions.pictures import draw_codes, draw_predictions
from ops.training.config import ComputeConfig
from ops.training.launch import HISTORY_FILE
from ops.training.runs import TrainingRuns
from storage.checkpoint import load_checkpoint, save_checkpoint
from storage.dataset import FrameSet
from storage.errors import ConfigError

_LOG = logging.getLogger(__name__)
_ROAD_SEEN = 0.5  # share of the swept road below which a user is told


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
    """Learn a codebook from `train`, judge it on `heldout`, and fill `out`. A killed run of this
    name goes on.

    Raises ConfigError if either has no pair of frames `gap_s` apart, or images of another size than
    configured.
    """
    _check(config)
    pairs = frame_pairs(train, config.gap_s, config.image_hw, "training")
    unseen = frame_pairs(heldout, config.gap_s, config.image_hw, "held-out")
    training = TrainingRuns(compute, runs, name, seed)
    arrays = training.arrays("ego").absolute()
    pairs.save(arrays)
    plain = {
        "pairs": str(arrays),
        "model": asdict(config.model),
        "gap_s": config.gap_s,
        "start": str(arrays / "environment"),
    }
    parts = []
    if config.model.environment == "frozen":
        fit = asdict(config.environment)
        training.launch(
            "environment", environment_loop, plain | {"out": plain["start"], "fit": fit}
        )
        parts.append("environment")
    training.launch(
        "ego", ego_loop, plain | {"out": str(arrays / "model"), "fit": asdict(config.ego)}
    )
    parts.append("ego")
    torch.set_num_threads(compute.threads)
    model = read_codebook(arrays / "model")[0]
    health = measure_health(model, pairs, unseen)
    if health.road_seen is not None and health.road_seen < _ROAD_SEEN:
        _LOG.warning(
            "the images show %.0f %% of the road on which the codebook looks for the ego's motion: fit "
            "LatentActionConfig.sweep (near_m, far_m, side_m) to the camera, or set it to None",
            100 * health.road_seen,
        )
    save_checkpoint(
        out, KIND, {"model": asdict(config.model), "gap_s": config.gap_s}, model.kept_state()
    )
    (out / "health.json").write_text(json.dumps(asdict(health), indent=1))
    draw_predictions(model, unseen, out / "predictions.png")
    draw_codes(model, unseen, out / "what_each_code_does.png")
    for part in parts:
        shutil.copy(runs / f"{name}-{part}" / HISTORY_FILE, out / f"history_{part}.jsonl")
    return health


def read_codebook(folder: Path) -> tuple[LatentActionModel, float]:
    """The model of a codebook, in evaluation mode, and the gap in seconds its codes span.

    Raises ArtifactError if the folder holds no codebook.
    """
    config, tensors = load_checkpoint(folder, KIND)
    model = LatentActionModel(LatentActionConfig.from_plain(config["model"]))
    model.load_kept_state(tensors)
    return model.eval(), config["gap_s"]


def _check(config: CodebookConfig) -> None:
    model = config.model
    if model.observation == "pixels" and (model.image_hw[0] % 16 or model.image_hw[1] % 16):
        raise ConfigError(
            "the codebook's image size does not fit its grid",
            expected="multiples of 16",
            found=model.image_hw,
            do="change CodebookConfig.model.image_hw",
        )
    if model.observation == "features" and not Path(model.vision_model, "config.json").exists():
        raise ConfigError(
            "there is no vision model to take features from",
            where=model.vision_model or "(not given)",
            expected="a local folder with config.json and weights, DINOv2's for example",
            do="set CodebookConfig.model.vision_model to it",
        )
    if model.observation == "features" and model.sweep is not None:
        raise ConfigError(
            "only pixels can be laid out on the road",
            expected="no sweep",
            found='observation="features"',
            do="set CodebookConfig.model.sweep to None",
        )
    for fit, quantizer in (
        (config.environment, model.environment_quantizer),
        (config.ego, model.ego_quantizer),
    ):
        if fit.steps <= quantizer.warmup_steps:
            raise ConfigError(
                "training ends before the codes begin",
                found=f"{fit.steps} steps",
                expected=f"more than the quantiser's {quantizer.warmup_steps} warm-up steps",
            )
