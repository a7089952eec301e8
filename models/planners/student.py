"""The student: the host planner with queries beside its own that imitate the VLM, in place of the
VLM.

Not the teacher, and it needs none of it: no transformers, no tokenizer. Twelve slots and a few
memory queries go through the planner's decoder together with the proposals, which look at them; the
slots learn the VLM's code distribution, the memory queries what the fusion module makes of the
VLM's hidden states. Legend: B rows, S = 12 slots, K = 16 codes (proposals in Proposals), M memory
tokens, D width.
"""

from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F

from models.planners.config import ImitatorConfig, PlannerConfig
from models.planners.planner import PlannerNet, Proposals, SceneFeatures

CODE_SLOTS, CODE_COUNT = 12, 16


@dataclass(frozen=True, slots=True)
class StudentOutput:
    """Proposals, and what the imitating queries say."""

    found: Proposals
    scene: SceneFeatures
    code_logits_BSK: torch.Tensor
    memory_BMD: torch.Tensor  # imitates the teacher's pooled features


class StudentNet(nn.Module):
    """Planner whose proposals stand beside queries that imitate the VLM."""

    def __init__(self, config: PlannerConfig, imitator: ImitatorConfig) -> None:
        super().__init__()
        assert not config.second_memory, "the student reads no memory from outside"
        self.planner, self.imitator_config = PlannerNet(config), imitator
        self.queries_ED = nn.Parameter(
            torch.randn(CODE_SLOTS + imitator.memory_tokens, config.width)
        )
        self.norm = nn.LayerNorm(config.width)
        self.to_codes = nn.Linear(config.width, CODE_COUNT)
        self.to_memory = nn.Linear(config.width, config.width)

    def forward(
        self, images_BHW3: torch.Tensor, camera_BN: torch.Tensor, status_B8: torch.Tensor
    ) -> StudentOutput:
        """Images uint8 (B, H, W, 3), camera numbers (B, 19), ego status (B, 8)."""
        scene = self.planner.scene(images_BHW3, self.planner.ground.places(camera_BN), status_B8)
        found = self.planner.propose(scene, status_B8, aux_queries_ED=self.queries_ED)
        assert found.aux_BED is not None
        slots_BSD, pooled_BMD = self.norm(found.aux_BED).split(
            [CODE_SLOTS, self.imitator_config.memory_tokens], dim=1
        )
        return StudentOutput(found, scene, self.to_codes(slots_BSD), self.to_memory(pooled_BMD))

    def plan(
        self, images_BHW3: torch.Tensor, camera_BN: torch.Tensor, status_B8: torch.Tensor
    ) -> torch.Tensor:
        """The chosen plan (B, 8, 3)."""
        return self.plan_from_places(images_BHW3, self.planner.ground.places(camera_BN), status_B8)

    def plan_from_places(
        self,
        images_BHW3: torch.Tensor,
        places: tuple[torch.Tensor, torch.Tensor],
        status_B8: torch.Tensor,
    ) -> torch.Tensor:
        """The chosen plan, where planner.ground.places of the cameras are at hand."""
        scene = self.planner.scene(images_BHW3, places, status_B8)
        found = self.planner.propose(
            scene, status_B8, aux_queries_ED=self.queries_ED, return_aux=False
        )
        return self.planner.choose(found, scene)


def imitation_loss(
    student: StudentOutput,
    teacher_logits_BSK: torch.Tensor,
    teacher_memory_BMD: torch.Tensor,
    temperature: float,
) -> tuple[torch.Tensor, torch.Tensor]:
    """KL(teacher || student) of the code distributions at a temperature (times its square, Hinton
    et al. 2015, 2), in nats a slot; and the feature match, 1 - cosine of the pooled features.
    """
    target = (teacher_logits_BSK / temperature).softmax(dim=-1)
    said = (student.code_logits_BSK / temperature).log_softmax(dim=-1)
    divergence = F.kl_div(said, target, reduction="none").sum(dim=-1).mean() * temperature**2
    return divergence, (
        1 - F.cosine_similarity(student.memory_BMD, teacher_memory_BMD, dim=-1)
    ).mean()
