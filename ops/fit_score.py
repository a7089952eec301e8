"""Teach a finished planner to judge its own proposals: labels from the PDM scorer, a small head on frozen features.

Not the PDM score itself. Only the score head learns, so the proposals stay as they were.
Legend: N rows, K proposals, R sub-scores in the order of models.planner.SUBSCORES.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from models.planner import SUBSCORES, Proposals, ScoreHead
from ops.fit import FitConfig, RunPlace, fit
from ops.launch import Session
from ops.load_planner import AnyPlanner, host
from storage.dataset import FrameSet
from storage.errors import ConfigError

ScorePlans = Callable[[FrameSet, np.ndarray], np.ndarray]
"""(rows, plans (N, K, 8, 3)) -> (N, K, R or more), PDMS v1: nc, dac, ttc, ep, comfort, ...; NaN: cannot be scored."""


@dataclass(frozen=True, slots=True)
class ScoreHeadConfig:
    """How the score head is trained and used."""

    rows: int = 600             # training scenes whose proposals are scored, spread evenly over the logs
    weight: float = 1.0         # of the log score against the log probability of the mode when a plan is chosen
    fit: FitConfig = field(default_factory=lambda: FitConfig(steps=300, batch=64, weight_decay=0.1))


@dataclass(frozen=True, slots=True)
class ScoreArrays:
    """What the head learns from, as .npy files under the run folder."""

    features: np.ndarray        # (N, K, D) float32
    plans: np.ndarray           # (N, K, 8, 3) float32
    scene: np.ndarray           # (N, T, D) float32
    subscores: np.ndarray       # (N, K, R) float32

    @classmethod
    def open(cls, folder: Path) -> "ScoreArrays":
        """Map the arrays of a folder."""
        return cls(*(np.load(folder / f"{item.name}.npy", mmap_mode="r") for item in fields(cls)))

    def save(self, folder: Path) -> None:
        """Write the arrays."""
        folder.mkdir(parents=True, exist_ok=True)
        for item in fields(self):
            np.save(folder / f"{item.name}.npy", getattr(self, item.name))


def train_scorer(model: AnyPlanner, found: Proposals, rows: FrameSet, score_plans: ScorePlans, config: ScoreHeadConfig,
                 place: RunPlace, part: str) -> None:
    """Score the proposals `found` of `rows` and train the score head of `model` in place; it then weighs in `choose`.

    Raises ConfigError if the scorer gives the wrong shape, or no row that it could score.
    """
    plans = found.plans_BK83.numpy()
    subscores = np.asarray(score_plans(rows, plans), dtype=np.float32)[..., : len(SUBSCORES)]
    usable = np.isfinite(subscores).all(axis=(1, 2)) if subscores.ndim == 3 else np.zeros(0, bool)
    if subscores.shape != (*plans.shape[:2], len(SUBSCORES)) or not usable.any():
        raise ConfigError("the scorer gave no usable sub-scores", expected=(*plans.shape[:2], len(SUBSCORES)),
                          found=f"{subscores.shape}, {int(usable.sum())} rows without NaN",
                          do=f"return {', '.join(SUBSCORES)} for every plan of the rows that can be scored")
    arrays = place.arrays(part)
    ScoreArrays(found.features_BKD.numpy()[usable], plans[usable], found.scene_BTD.numpy()[usable],
                subscores[usable]).save(arrays)
    planner = host(model)
    loop_config = {"planner": planner.config, "arrays": str(arrays), "fit": config.fit}
    state = place.launch(part, score_loop, loop_config)["state"]
    planner.scorer.load_state_dict({key: torch.from_numpy(value) for key, value in state.items()})
    planner.config = replace(planner.config, score_weight=config.weight)


def score_loop(config: dict[str, Any]) -> dict[str, Any]:
    """Training loop of the score head: binary cross-entropy with the sub-scores as soft targets."""
    session = Session(config)
    torch.manual_seed(config["seed"])
    scorer = ScoreHead(config["planner"])
    arrays = ScoreArrays.open(Path(config["arrays"]))

    def loss_of(wrapped: nn.Module, rows: np.ndarray) -> tuple[torch.Tensor, dict[str, float]]:
        features, plans, scene, target = (torch.from_numpy(getattr(arrays, item.name)[rows]).to(session.device)
                                          for item in fields(arrays))
        logits_BKR = wrapped(features, plans, scene)
        loss_BKR = F.binary_cross_entropy_with_logits(logits_BKR, target, reduction="none")
        parts = loss_BKR.detach().mean(dim=(0, 1)).tolist()
        return loss_BKR.mean(), {f"bce_{part}": value for part, value in zip(SUBSCORES, parts, strict=True)}

    fit(session, scorer, loss_of, len(arrays.plans), config["fit"], config["seed"])
    return {"state": {key: value.cpu().numpy() for key, value in scorer.state_dict().items()}}
