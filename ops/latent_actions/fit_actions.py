"""The training loops of the two phases of the latent-action model. Not what is done with the
result.
"""

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
_MOTION_COLUMNS = [0, 2]  # forward and turn, of the condition


def environment_loop(config: dict[str, Any]) -> dict[str, Any]:
    """Phase (a): train the environment part of a fresh model and write the model to
    `config["out"]`.
    """
    session, pairs, model = _prepare(config)
    assert model.environment is not None
    model.environment.normalize_by(torch.from_numpy(pairs.condition).to(session.device))
    observe = model.observe

    def loss_of(phase: nn.Module, rows: np.ndarray) -> tuple[torch.Tensor, dict[str, float]]:
        first, second, _, condition = _batch(pairs, rows, session.device)
        return _recorded(phase(observe(first), observe(second), condition))

    fit(session, model.environment, loss_of, len(pairs), FitConfig(**config["fit"]), config["seed"])
    return _finish(session, model, config)


def ego_loop(config: dict[str, Any]) -> dict[str, Any]:
    """Phase (b): with the environment part of the model at `config["start"]` frozen, train the ego
    part.
    """
    session, pairs, model = _prepare(config)
    if model.environment is not None:
        model.load_kept_state(load_checkpoint(Path(config["start"]), KIND)[1])
        model.environment.eval().requires_grad_(False)
        model.ego.start_from(model.environment)
    observe = model.observe
    scale = torch.from_numpy(pairs.condition[:, _MOTION_COLUMNS].std(0) + 1e-3).to(session.device)

    def loss_of(phase: nn.Module, rows: np.ndarray) -> tuple[torch.Tensor, dict[str, float]]:
        first, second, camera, condition = _batch(pairs, rows, session.device)
        first, second = observe(first), observe(second)
        known = model.environment_of(first, second, condition)
        return _recorded(
            phase(
                first,
                second,
                camera,
                None if known is None else known.values_BKD,
                condition[:, _MOTION_COLUMNS] / scale,
            )
        )

    fit(session, model.ego, loss_of, len(pairs), FitConfig(**config["fit"]), config["seed"])
    return _finish(session, model, config)


def _prepare(config: dict[str, Any]) -> tuple[Session, FramePairs, LatentActionModel]:
    session = Session(config)
    # initial weights; every later draw is seeded by its step
    torch.manual_seed(config["seed"])
    model = LatentActionModel(LatentActionConfig.from_plain(config["model"])).to(session.device)
    return session, FramePairs.open(Path(config["pairs"])), model


def _batch(
    pairs: FramePairs, rows: np.ndarray, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Both images, the camera and the condition of some pairs; each pair is mirrored with
    probability one half.
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


def _recorded(loss: Loss) -> tuple[torch.Tensor, dict[str, float]]:
    return loss.total, {
        "prediction": float(loss.prediction.detach()),
        "commitment": float(loss.commitment.detach()),
    }


def _finish(session: Session, model: LatentActionModel, config: dict[str, Any]) -> dict[str, Any]:
    if session.rank == 0:
        plain = {"model": config["model"], "gap_s": config["gap_s"]}
        save_checkpoint(Path(config["out"]), KIND, plain, model.kept_state())
    return {"steps": config["fit"]["steps"]}
