"""Train a planner: alone, with the VLM's memory, as the student with or without its teacher, or the blind baseline.

Not the score head, which learns afterwards on the finished planner's own proposals (ops/fit_score.py). All planners
share data, seed and recipe; only their own part differs.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from models.ego_mlp import EgoMlp
from models.planner import plan_loss
from models.student import imitation_loss
from ops.fit import fit
from ops.launch import Session
from ops.load_planner import AnyPlanner, build_planner, host, save_planner
from ops.training_arrays import TrainingArrays

Take = Callable[[str], torch.Tensor]


@dataclass(frozen=True, slots=True)
class ImitationConfig:
    """What the student's loss adds to the planning loss."""

    code_weight: float = 0.5        # of KL(teacher || student) over the codes; 0 in the student without a teacher
    memory_weight: float = 0.5      # of 1 - cosine to the teacher's pooled features; 0 likewise
    temperature: float = 2.0        # of both distributions


def planner_loop(config: dict[str, Any]) -> dict[str, Any]:
    """Training loop of every planner; writes its checkpoint.

    `config`: kind and parts (of build_planner), arrays and out (folders), fit (FitConfig), seed, imitation
    (ImitationConfig, of students only).
    """
    session = Session(config)
    torch.manual_seed(config["seed"])
    model = build_planner(config["kind"], config["parts"])
    if not isinstance(model, EgoMlp):
        host(model).scorer.requires_grad_(False)
    arrays = TrainingArrays.open(Path(config["arrays"]))
    loss = {"ego_mlp": _ego_loss, "planner": _planner_loss, "fused_planner": _fused_loss, "student": _student_loss}

    def loss_of(wrapped: nn.Module, rows: np.ndarray) -> tuple[torch.Tensor, dict[str, float]]:
        def take(name: str) -> torch.Tensor:
            rows_of = torch.from_numpy(getattr(arrays, name)[rows]).to(session.device)
            return rows_of.float() if rows_of.is_floating_point() else rows_of

        return loss[config["kind"]](wrapped, model, take, config["imitation"])

    fit(session, model, loss_of, len(arrays), config["fit"], config["seed"])
    if session.rank == 0:
        save_planner(Path(config["out"]), model.cpu())
    return {"parameters": sum(parameter.numel() for parameter in model.parameters())}


def _ego_loss(wrapped: nn.Module, model: Any, take: Take, _: Any) -> tuple[torch.Tensor, dict[str, float]]:
    error_B83 = wrapped(take("status")) - take("future")
    turn = (error_B83[..., 2] / model.scale_83[:, 2]).abs().mean()
    ade = error_B83[..., :2].detach().norm(dim=-1).mean()
    return error_B83[..., :2].abs().mean() + 0.2 * turn, {"best_ade_m": float(ade)}


def _planner_loss(wrapped: nn.Module, model: AnyPlanner, take: Take, _: Any) -> tuple[torch.Tensor, dict[str, float]]:
    loss, ade = plan_loss(wrapped(take("images"), take("status")), take("future"), host(model).scale_83)
    return loss, {"best_ade_m": float(ade)}


def _fused_loss(wrapped: nn.Module, model: AnyPlanner, take: Take, _: Any) -> tuple[torch.Tensor, dict[str, float]]:
    found = wrapped(take("images"), take("status"), take("visual"), take("action"))
    loss, ade = plan_loss(found, take("future"), host(model).scale_83)
    return loss, {"best_ade_m": float(ade)}


def _student_loss(wrapped: nn.Module, model: AnyPlanner, take: Take,
                  imitation: ImitationConfig) -> tuple[torch.Tensor, dict[str, float]]:
    said = wrapped(take("images"), take("status"))
    loss, ade = plan_loss(said.found, take("future"), host(model).scale_83)
    divergence, distance = imitation_loss(said, take("code_logits"), take("memory"), imitation.temperature)
    metrics = {"best_ade_m": ade, "code_kl_nats": divergence.detach(), "memory_distance": distance.detach()}
    return (loss + imitation.code_weight * divergence + imitation.memory_weight * distance,
            {name: float(value) for name, value in metrics.items()})


def without_teacher(imitation: ImitationConfig) -> ImitationConfig:
    """The control's loss: the same recipe with no word from the teacher."""
    return replace(imitation, code_weight=0.0, memory_weight=0.0)
