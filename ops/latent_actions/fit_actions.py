"""Training loops of the two phases of the latent-action model."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from models.ground_view import MIRRORED_CAMERA
from models.latent_action.config import LatentActionConfig
from models.latent_action.model import LatentActionModel, Loss
from ops.latent_actions.frame_pairs import MIRROR, FramePairs
from ops.training.config import FitConfig
from ops.training.fit import fit
from ops.training.launch import Session
from storage.checkpoint import load_checkpoint, save_checkpoint

KIND = "latent_action"
_MOTION_COLUMNS = [0, 2]  # columns of the condition: forward m, turn rad


@dataclass(frozen=True, slots=True)
class CodebookTraining:
    """The training of one phase of the latent-action model."""

    pairs: Path  # folder of FramePairs
    out: Path  # folder of the model
    start: Path | None  # phase 2: folder of the model of phase 1; None if it is left out
    model: LatentActionConfig
    gap_s: float
    fit: FitConfig
    seed: int


def environment_loop(config: CodebookTraining, session: Session) -> dict[str, Any]:
    """Phase 1: train the environment codes of a new model, and write the model to `config.out`."""
    pairs, model = _prepare(config, session)
    assert model.environment is not None
    model.environment.normalize_by(torch.from_numpy(pairs.condition).to(session.device))
    observe = model.observe

    def loss_of(phase: nn.Module, rows: np.ndarray) -> tuple[torch.Tensor, dict[str, float]]:
        first, second, _, condition = _batch(pairs, rows, session.device)
        return _loss_and_metrics(phase(observe(first), observe(second), condition))

    fit(session, model.environment, loss_of, len(pairs), config.fit, config.seed)
    return _finish(session, model, config)


def ego_loop(config: CodebookTraining, session: Session) -> dict[str, Any]:
    """Phase 2: train the ego codes, with the environment codes of the model in `config.start`
    frozen, and write the model to `config.out`.
    """
    pairs, model = _prepare(config, session)
    if model.environment is not None:
        assert config.start is not None
        model.load_kept_state(load_checkpoint(config.start, KIND)[1])
        model.environment.eval().requires_grad_(False)
        model.ego.start_from(model.environment)
    observe = model.observe
    scale = torch.from_numpy(pairs.condition[:, _MOTION_COLUMNS].std(0) + 1e-3).to(session.device)

    def loss_of(phase: nn.Module, rows: np.ndarray) -> tuple[torch.Tensor, dict[str, float]]:
        first, second, camera, condition = _batch(pairs, rows, session.device)
        first, second = observe(first), observe(second)
        environment = model.environment_of(first, second, condition)
        return _loss_and_metrics(
            phase(
                first,
                second,
                camera,
                None if environment is None else environment.values_BKD,
                condition[:, _MOTION_COLUMNS] / scale,
            )
        )

    fit(session, model.ego, loss_of, len(pairs), config.fit, config.seed)
    return _finish(session, model, config)


def _prepare(config: CodebookTraining, session: Session) -> tuple[FramePairs, LatentActionModel]:
    torch.manual_seed(config.seed)  # seeds the initial weights; fit() seeds each step
    model = LatentActionModel(config.model).to(session.device)
    return FramePairs.open(config.pairs), model


def _batch(
    pairs: FramePairs, rows: np.ndarray, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Both images, camera numbers and condition of some pairs; each pair is mirrored with
    probability 1/2.
    """
    mirrored = (torch.rand(len(rows)) < 0.5).to(device)
    first, second = (
        torch.from_numpy(np.ascontiguousarray(images)).to(device)
        for images in (pairs.first(rows), pairs.second(rows))
    )
    camera, condition = (
        torch.from_numpy(numbers[rows]).to(device) for numbers in (pairs.camera, pairs.condition)
    )
    flip = mirrored[:, None, None, None]
    return (
        torch.where(flip, first.flip(2), first),
        torch.where(flip, second.flip(2), second),
        torch.where(mirrored[:, None], camera * camera.new_tensor(MIRRORED_CAMERA), camera),
        torch.where(mirrored[:, None], condition * torch.from_numpy(MIRROR).to(device), condition),
    )


def _loss_and_metrics(loss: Loss) -> tuple[torch.Tensor, dict[str, float]]:
    return loss.total, {
        "prediction": float(loss.prediction.detach()),
        "commitment": float(loss.commitment.detach()),
    }


def _finish(session: Session, model: LatentActionModel, config: CodebookTraining) -> dict[str, Any]:
    if session.rank == 0:
        checkpoint_config = {"model": asdict(config.model), "gap_s": config.gap_s}
        save_checkpoint(config.out, KIND, checkpoint_config, model.kept_state())
    return {"steps": config.fit.steps}
