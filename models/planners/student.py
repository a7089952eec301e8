"""The student: the host planner with auxiliary queries that imitate the teacher's VLM.

It runs without the teacher, transformers or a tokenizer. The auxiliary queries are decoded together
with the proposals, which attend to them. The first of them, one for each code slot, learn the VLM's
code distribution; the others learn the memory tokens into which the fusion module pools the VLM's
hidden states.

Legend: B rows, S code slots, K codes, M memory tokens, E = S + M auxiliary queries, D width, N
camera numbers; a plan is (8, 3).
"""

from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F

from models.planners.config import ImitatorConfig, PlannerConfig
from models.planners.planner import PlannerNet, Proposals, SceneFeatures


@dataclass(frozen=True, slots=True)
class StudentOutput:
    """Proposals, scene features, and predictions of the teacher's outputs."""

    proposals: Proposals
    scene: SceneFeatures
    code_logits_BSK: torch.Tensor  # prediction of the VLM's code distribution
    memory_BMD: torch.Tensor  # prediction of the fusion module's memory tokens


class StudentNet(nn.Module):
    """The host planner with auxiliary queries that imitate the VLM."""

    def __init__(self, config: PlannerConfig, imitator: ImitatorConfig) -> None:
        super().__init__()
        assert not config.second_memory, "the student has no second memory"
        self.planner, self.imitator_config = PlannerNet(config), imitator
        self.queries_ED = nn.Parameter(
            torch.randn(imitator.code_slots + imitator.memory_tokens, config.width)
        )
        self.norm = nn.LayerNorm(config.width)
        self.to_codes = nn.Linear(config.width, imitator.codes)
        self.to_memory = nn.Linear(config.width, config.width)

    def hidden_matrices(self) -> list[torch.Tensor]:
        """Those of the planner, for Muon."""
        return self.planner.hidden_matrices()

    def forward(
        self, images_BHW3: torch.Tensor, camera_BN: torch.Tensor, status_B8: torch.Tensor
    ) -> StudentOutput:
        """Images uint8 (B, H, W, 3), camera numbers (B, 19), ego status (B, 8)."""
        scene = self.planner.scene(
            images_BHW3, self.planner.ground.image_locations(camera_BN), status_B8
        )
        proposals = self.planner.propose(scene, status_B8, aux_queries_ED=self.queries_ED)
        assert proposals.aux_BED is not None
        slots_BSD, pooled_BMD = self.norm(proposals.aux_BED).split(
            [self.imitator_config.code_slots, self.imitator_config.memory_tokens], dim=1
        )
        return StudentOutput(proposals, scene, self.to_codes(slots_BSD), self.to_memory(pooled_BMD))

    def plan(
        self, images_BHW3: torch.Tensor, camera_BN: torch.Tensor, status_B8: torch.Tensor
    ) -> torch.Tensor:
        """The chosen plan (B, 8, 3); inputs as forward."""
        return self.plan_from_locations(
            images_BHW3, self.planner.ground.image_locations(camera_BN), status_B8
        )

    def plan_from_locations(
        self,
        images_BHW3: torch.Tensor,
        image_locations: tuple[torch.Tensor, torch.Tensor],
        status_B8: torch.Tensor,
    ) -> torch.Tensor:
        """The chosen plan (B, 8, 3), given planner.ground.image_locations of the cameras."""
        scene = self.planner.scene(images_BHW3, image_locations, status_B8)
        proposals = self.planner.propose(
            scene, status_B8, aux_queries_ED=self.queries_ED, return_aux=False
        )
        return self.planner.choose(proposals, scene)


def imitation_loss(
    student: StudentOutput,
    teacher_logits_BSK: torch.Tensor,
    teacher_memory_BMD: torch.Tensor,
    temperature: float,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Imitation of the teacher's codes and of its memory tokens, () each.

    The first is KL(teacher || student) of the code distributions at a temperature, times its square
    (Hinton et al. 2015, section 2), in nats a slot; the second is 1 - cosine similarity of the
    memory tokens. Slots and tokens whose target is NaN have none and are left out; a term without
    any target is 0.
    """
    known_BS = teacher_logits_BSK.isfinite().all(dim=-1)
    target_NK = (teacher_logits_BSK[known_BS] / temperature).softmax(dim=-1)
    log_probabilities_NK = (student.code_logits_BSK[known_BS] / temperature).log_softmax(dim=-1)
    divergence_N = F.kl_div(log_probabilities_NK, target_NK, reduction="none").sum(dim=-1)
    known_BM = teacher_memory_BMD.isfinite().all(dim=-1)
    similarity_N = F.cosine_similarity(
        student.memory_BMD[known_BM], teacher_memory_BMD[known_BM], dim=-1
    )
    return _mean(divergence_N) * temperature**2, _mean(1 - similarity_N)


def _mean(values_N: torch.Tensor) -> torch.Tensor:
    """The mean, (); 0 of no values."""
    return values_N.sum() / max(len(values_N), 1)
