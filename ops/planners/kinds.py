"""The kinds of planner network: how each is built, its input arrays, its loss and its plan.

Checkpoints, training and planning use the interface PlannerKind; only this file lists the networks.

Legend: B rows of a batch; a plan is (8, 3): x, y, heading in m, m, rad in the ego frame at 0.5 s
steps.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import nn

from models.ground_config import GroundConfig
from models.planners.config import EgoMlpConfig, FusionConfig, ImitatorConfig, PlannerConfig
from models.planners.ego_mlp import EgoMlp
from models.planners.fusion import FusedPlannerNet
from models.planners.planner import PlannerNet, Proposals, SceneFeatures, plan_loss
from models.planners.student import StudentNet, imitation_loss
from ops.planners.config import ImitationConfig

Batch = Callable[[str], torch.Tensor]  # name of a training array -> its rows in the batch
CONFIG_CLASSES = {  # name of a configuration in config.json of a checkpoint -> its class
    "planner": PlannerConfig,
    "ground": GroundConfig,
    "fusion": FusionConfig,
    "imitator": ImitatorConfig,
    "ego_mlp": EgoMlpConfig,
}


@dataclass(frozen=True, slots=True)
class BatchLoss:
    """Loss of a batch, without the loss of the score head."""

    loss: torch.Tensor
    metrics: dict[str, float]  # further columns of the training history
    scene: SceneFeatures | None = None  # input of the score head; None without one


class PlannerKind(ABC):
    """One kind of planner network. It has no state: its methods take the network."""

    name: ClassVar[str]  # the kind of its checkpoint
    network: ClassVar[type[nn.Module]]
    inputs: ClassVar[tuple[str, ...]]  # arrays that forward() takes, in order

    @abstractmethod
    def build(self, parts: Mapping[str, Any]) -> nn.Module:
        """A new network from its configurations, by their names in CONFIG_CLASSES."""

    @abstractmethod
    def parts(self, model: Any) -> dict[str, Any]:
        """The configurations from which `build` makes this network, by their names in
        CONFIG_CLASSES.
        """

    @abstractmethod
    def loss(
        self, wrapped: nn.Module, model: Any, batch: Batch, imitation: ImitationConfig | None
    ) -> BatchLoss:
        """The loss of a batch. `wrapped` is `model` as prepared by Session.prepare; `imitation` is
        given to students.
        """

    @abstractmethod
    def plan(self, model: Any, *inputs: torch.Tensor) -> torch.Tensor:
        """The chosen plan (B, 8, 3)."""

    def host(self, model: Any) -> PlannerNet | None:
        """The host planner inside the network, which has the score head; None if there is none."""
        return model.planner


class EgoMlpKind(PlannerKind):
    """The ego-status MLP, a baseline without the image."""

    name, network, inputs = "ego_mlp", EgoMlp, ("status",)

    def build(self, parts: Mapping[str, Any]) -> nn.Module:
        return EgoMlp(parts["ego_mlp"])

    def parts(self, model: EgoMlp) -> dict[str, Any]:
        return {"ego_mlp": model.config}

    def host(self, model: EgoMlp) -> None:
        return None

    def loss(self, wrapped, model, batch, imitation) -> BatchLoss:
        error_B83 = wrapped(batch("status")) - batch("future")
        heading_error = (error_B83[..., 2] / model.scale_83[:, 2]).abs().mean()
        ade = error_B83[..., :2].detach().norm(dim=-1).mean()
        loss = error_B83[..., :2].abs().mean() + 0.2 * heading_error
        return BatchLoss(loss, {"best_ade_m": float(ade)})

    def plan(self, model: EgoMlp, *inputs: torch.Tensor) -> torch.Tensor:
        return model(*inputs)


class HostPlannerKind(PlannerKind):
    """The host planner without a VLM."""

    name, network, inputs = "planner", PlannerNet, ("images", "camera", "status")

    def build(self, parts: Mapping[str, Any]) -> nn.Module:
        return PlannerNet(parts["planner"])

    def parts(self, model: PlannerNet) -> dict[str, Any]:
        return {"planner": model.config}

    def host(self, model: PlannerNet) -> PlannerNet:
        return model

    def loss(self, wrapped, model, batch, imitation) -> BatchLoss:
        proposals, scene = wrapped(*map(batch, self.inputs))
        return planning_loss(proposals, scene, model, batch)

    def plan(self, model: PlannerNet, *inputs: torch.Tensor) -> torch.Tensor:
        return model.choose(*model(*inputs))


class FusedPlannerKind(PlannerKind):
    """The host planner with cross-attention to the VLM's pooled hidden states."""

    name, network = "fused_planner", FusedPlannerNet
    inputs = (*HostPlannerKind.inputs, "visual", "action")

    def build(self, parts: Mapping[str, Any]) -> nn.Module:
        return FusedPlannerNet(parts["planner"], parts["fusion"])

    def parts(self, model: FusedPlannerNet) -> dict[str, Any]:
        return {"planner": model.planner.config, "fusion": model.fusion_config}

    def loss(self, wrapped, model, batch, imitation) -> BatchLoss:
        proposals, scene = wrapped(*map(batch, self.inputs))
        return planning_loss(proposals, scene, model.planner, batch)

    def plan(self, model: FusedPlannerNet, *inputs: torch.Tensor) -> torch.Tensor:
        return model.planner.choose(*model(*inputs))


class StudentKind(PlannerKind):
    """The host planner with queries that imitate the VLM; also the student without a teacher."""

    name, network, inputs = "student", StudentNet, HostPlannerKind.inputs

    def build(self, parts: Mapping[str, Any]) -> nn.Module:
        return StudentNet(parts["planner"], parts["imitator"])

    def parts(self, model: StudentNet) -> dict[str, Any]:
        return {"planner": model.planner.config, "imitator": model.imitator_config}

    def loss(self, wrapped, model, batch, imitation) -> BatchLoss:
        assert imitation is not None
        output = wrapped(*map(batch, self.inputs))
        planning = planning_loss(output.proposals, output.scene, model.planner, batch)
        divergence, distance = imitation_loss(
            output, batch("code_logits"), batch("memory"), imitation.temperature
        )
        loss = planning.loss + imitation.code_weight * divergence
        metrics = {
            "code_kl_nats": float(divergence.detach()),
            "memory_distance": float(distance.detach()),
        }
        return BatchLoss(
            loss + imitation.memory_weight * distance, planning.metrics | metrics, output.scene
        )

    def plan(self, model: StudentNet, *inputs: torch.Tensor) -> torch.Tensor:
        return model.plan(*inputs)


KINDS: dict[str, PlannerKind] = {
    kind.name: kind for kind in (EgoMlpKind(), HostPlannerKind(), FusedPlannerKind(), StudentKind())
}


def kind_of(model: nn.Module) -> PlannerKind:
    """The kind to which a network belongs."""
    return next(kind for kind in KINDS.values() if type(model) is kind.network)


def planning_loss(
    proposals: Proposals, scene: SceneFeatures, planner: PlannerNet, batch: Batch
) -> BatchLoss:
    """Loss of the proposals of a batch against the recorded futures."""
    loss, ade = plan_loss(proposals, batch("future"), planner.scale_83)
    return BatchLoss(loss, {"best_ade_m": float(ade)}, scene)
