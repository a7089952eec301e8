"""The student: the host planner with a small transformer that imitates the VLM, in place of the VLM.

Not the teacher, and it needs none of it: no transformers, no tokenizer. Twelve slots and a few memory queries look at
the planner's own scene tokens; the slots give the code distribution, the memory queries what the fusion module gives.
Legend: B rows, S = 12 slots, K = 16 codes (proposals in Proposals), M memory tokens, T scene tokens, D width.
"""

from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F

from models.attention import DecoderBlock
from models.planner import Planner, PlannerConfig, Proposals, Scene

CODE_SLOTS, CODE_COUNT = 12, 16


@dataclass(frozen=True, slots=True)
class ImitatorConfig:
    """The small transformer that stands in for the VLM."""

    blocks: int = 2
    memory_tokens: int = 4      # as many as the teacher's fusion module gives
    dropout: float = 0.1


@dataclass(frozen=True, slots=True)
class StudentOutput:
    """Proposals, and what the imitator says on the way."""

    found: Proposals
    scene: Scene
    code_logits_BSK: torch.Tensor
    memory_BMD: torch.Tensor        # imitates the teacher's pooled features


class StudentPlanner(nn.Module):
    """Planner whose second memory is its own imitation of the VLM."""

    def __init__(self, config: PlannerConfig, imitator: ImitatorConfig) -> None:
        super().__init__()
        assert config.second_memory, "the student's planner reads the imitator's memory"
        self.planner = Planner(config)
        self.imitator_config = imitator
        self.queries_QD = nn.Parameter(torch.randn(CODE_SLOTS + imitator.memory_tokens, config.width))
        self.blocks = nn.ModuleList(DecoderBlock(config.width, config.heads, imitator.dropout)
                                    for _ in range(imitator.blocks))
        self.norm = nn.LayerNorm(config.width)
        self.to_codes = nn.Linear(config.width, CODE_COUNT)
        self.to_memory = nn.Linear(config.width, config.width)

    def forward(self, images_BHW3: torch.Tensor, camera_BN: torch.Tensor, status_B8: torch.Tensor) -> StudentOutput:
        """Images uint8 (B, H, W, 3), camera numbers (B, 19), ego status (B, 8)."""
        scene = self.planner.scene(images_BHW3, camera_BN, status_B8)
        x_BQD = self.queries_QD + scene.tokens_BTD[:, -1:]
        for block in self.blocks:
            x_BQD = block(x_BQD, scene.tokens_BTD)
        slots_BSD, pooled_BMD = self.norm(x_BQD).split([CODE_SLOTS, self.imitator_config.memory_tokens], dim=1)
        memory_BMD = self.to_memory(pooled_BMD)
        found = self.planner.propose(scene, status_B8, torch.cat([slots_BSD, memory_BMD], dim=1))
        return StudentOutput(found, scene, self.to_codes(slots_BSD), memory_BMD)

    def plan(self, images_BHW3: torch.Tensor, camera_BN: torch.Tensor, status_B8: torch.Tensor) -> torch.Tensor:
        """The chosen plan (B, 8, 3)."""
        said = self(images_BHW3, camera_BN, status_B8)
        return self.planner.choose(said.found, said.scene)


def imitation_loss(student: StudentOutput, teacher_logits_BSK: torch.Tensor, teacher_memory_BMD: torch.Tensor,
                   temperature: float) -> tuple[torch.Tensor, torch.Tensor]:
    """KL(teacher || student) of the code distributions at a temperature (times its square, Hinton et al. 2015, 2), in
    nats a slot; and the feature match, 1 - cosine of the pooled features."""
    target = (teacher_logits_BSK / temperature).softmax(dim=-1)
    said = (student.code_logits_BSK / temperature).log_softmax(dim=-1)
    divergence = F.kl_div(said, target, reduction="none").sum(dim=-1).mean() * temperature**2
    return divergence, (1 - F.cosine_similarity(student.memory_BMD, teacher_memory_BMD, dim=-1)).mean()
