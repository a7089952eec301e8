"""Train a planner network of any kind.

The score head is trained jointly on scored proposals (ops/planners/scored_proposals.py), so its
gradients reach the scene features too. All planners share rows, seed and recipe; only the network
and the imitation differ.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from models.planners.planner import score_loss
from ops.planners.checkpoint import count_parameters, save_planner
from ops.planners.config import ImitationConfig, ProposalScoringConfig
from ops.planners.kinds import KINDS
from ops.planners.training_arrays import TrainingArrays
from ops.training.config import FitConfig
from ops.training.fit import fit
from ops.training.launch import Session


@dataclass(frozen=True, slots=True)
class PlannerTraining:
    """The training of one planner."""

    kind: str  # of ops.planners.kinds.KINDS
    parts: Mapping[str, Any]  # configurations by name, see PlannerKind.build
    arrays: Path  # folder of TrainingArrays
    out: Path  # folder of the checkpoint
    fit: FitConfig
    scoring: ProposalScoringConfig
    seed: int
    imitation: ImitationConfig | None = None  # of students only
    # 0: all rows are drawn alike; else the first rows of the arrays, which have a target plan: each
    # step then draws `fit.batch` of them, as a training on them alone, and as many of the others
    labelled_rows: int = 0


def planner_loop(config: PlannerTraining, session: Session) -> dict[str, Any]:
    """Training loop of every planner; writes its checkpoint and returns its number of parameters.

    If the arrays hold no scored proposals, the score head is not trained and gets weight 0 in the
    choice of a plan.
    """
    torch.manual_seed(config.seed)
    kind = KINDS[config.kind]
    model = kind.build(config.parts)
    arrays, scoring, host = TrainingArrays.open(config.arrays), config.scoring, kind.host(model)
    scored = arrays.subscores is not None
    if host is not None:
        host.scorer.requires_grad_(scored)
        host.config = replace(host.config, score_weight=scoring.weight if scored else 0.0)

    def loss_of(wrapped: nn.Module, rows: np.ndarray) -> tuple[torch.Tensor, dict[str, float]]:
        def batch(name: str) -> torch.Tensor:
            values = torch.from_numpy(getattr(arrays, name)[rows]).to(session.device)
            return values.float() if values.is_floating_point() else values

        planning = kind.loss(wrapped, model, batch, config.imitation)
        if not scored or planning.scene is None or host is None:
            return planning.loss, planning.metrics
        score = score_loss(host.scorer(batch("proposals"), planning.scene), batch("subscores"))
        metrics = planning.metrics | {"score_loss": float(score.detach())}
        return planning.loss + scoring.loss_weight * score, metrics

    labelled = config.labelled_rows
    rows = (labelled, len(arrays) - labelled) if labelled else len(arrays)
    fit(session, model, loss_of, rows, config.fit, config.seed)
    if session.rank == 0:
        save_planner(config.out, model.cpu())
    return {"parameters": count_parameters(model)}
