"""Train a planner: alone, with the VLM's memory, as the student with or without its teacher, or the
blind baseline.

Its score head learns along with it, from judged plans (ops/planners/scored_proposals.py), so that
what the plans meet shapes what the planner sees. All planners share data, seed and recipe; only
their own part differs.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from models.planners.ego_mlp import EgoMlp
from models.planners.planner import Proposals, SceneFeatures, plan_loss, score_loss
from models.planners.student import imitation_loss
from ops.planners.checkpoint import AnyPlanner, build_planner, host, save_planner
from ops.planners.config import ImitationConfig
from ops.planners.training_arrays import TrainingArrays
from ops.training.fit import fit
from ops.training.launch import Session

Take = Callable[[str], torch.Tensor]


def planner_loop(config: dict[str, Any]) -> dict[str, Any]:
    """Training loop of every planner; writes its checkpoint.

    `config`: kind and parts (of build_planner), arrays and out (folders), fit (FitConfig), seed,
    imitation (ImitationConfig, of students only), proposal_scoring (ProposalScoringConfig). Without
    judged plans among the arrays the score head learns nothing and does not weigh in.
    """
    session = Session(config)
    torch.manual_seed(config["seed"])
    model = build_planner(config["kind"], config["parts"])
    arrays, proposal_scoring = (
        TrainingArrays.open(Path(config["arrays"])),
        config["proposal_scoring"],
    )
    if not isinstance(model, EgoMlp):
        planner, scored = host(model), arrays.subscores is not None
        planner.scorer.requires_grad_(scored)
        planner.config = replace(
            planner.config, score_weight=proposal_scoring.weight if scored else 0.0
        )
    loss = {
        "ego_mlp": _ego_loss,
        "planner": _planner_loss,
        "fused_planner": _fused_loss,
        "student": _student_loss,
    }

    def loss_of(wrapped: nn.Module, rows: np.ndarray) -> tuple[torch.Tensor, dict[str, float]]:
        def take(name: str) -> torch.Tensor:
            rows_of = torch.from_numpy(getattr(arrays, name)[rows]).to(session.device)
            return rows_of.float() if rows_of.is_floating_point() else rows_of

        parts = loss[config["kind"]](wrapped, model, take, config["imitation"])
        if arrays.subscores is not None and parts.scene is not None:
            wrong = score_loss(host(model).scorer(take("scored"), parts.scene), take("subscores"))
            return parts.loss + proposal_scoring.loss_weight * wrong, parts.metrics | {
                "score_loss": float(wrong.detach())
            }
        return parts.loss, parts.metrics

    fit(session, model, loss_of, len(arrays), config["fit"], config["seed"])
    if session.rank == 0:
        save_planner(Path(config["out"]), model.cpu())
    return {"parameters": sum(parameter.numel() for parameter in model.parameters())}


@dataclass(frozen=True, slots=True)
class _Parts:
    """The loss of a batch without its judged plans, what else to record, and the scene to judge
    them in.
    """

    loss: torch.Tensor
    metrics: dict[str, float]
    scene: SceneFeatures | None = None


def _ego_loss(wrapped: nn.Module, model: Any, take: Take, _: Any) -> _Parts:
    error_B83 = wrapped(take("status")) - take("future")
    turn = (error_B83[..., 2] / model.scale_83[:, 2]).abs().mean()
    ade = error_B83[..., :2].detach().norm(dim=-1).mean()
    return _Parts(error_B83[..., :2].abs().mean() + 0.2 * turn, {"best_ade_m": float(ade)})


def _planner_loss(wrapped: nn.Module, model: AnyPlanner, take: Take, _: Any) -> _Parts:
    return _plan_parts(wrapped(take("images"), take("camera"), take("status")), model, take)


def _fused_loss(wrapped: nn.Module, model: AnyPlanner, take: Take, _: Any) -> _Parts:
    return _plan_parts(
        wrapped(*map(take, ("images", "camera", "status", "visual", "action"))), model, take
    )


def _plan_parts(said: tuple[Proposals, SceneFeatures], model: AnyPlanner, take: Take) -> _Parts:
    found, scene = said
    loss, ade = plan_loss(found, take("future"), host(model).scale_83)
    return _Parts(loss, {"best_ade_m": float(ade)}, scene)


def _student_loss(
    wrapped: nn.Module, model: AnyPlanner, take: Take, imitation: ImitationConfig
) -> _Parts:
    said = wrapped(take("images"), take("camera"), take("status"))
    plain = _plan_parts((said.found, said.scene), model, take)
    divergence, distance = imitation_loss(
        said, take("code_logits"), take("memory"), imitation.temperature
    )
    metrics = {
        "code_kl_nats": float(divergence.detach()),
        "memory_distance": float(distance.detach()),
    }
    return _Parts(
        plain.loss + imitation.code_weight * divergence + imitation.memory_weight * distance,
        plain.metrics | metrics,
        said.scene,
    )


def without_teacher(imitation: ImitationConfig) -> ImitationConfig:
    """The control's loss: the same recipe with no word from the teacher."""
    return replace(imitation, code_weight=0.0, memory_weight=0.0)
