"""The ego-status baseline: a multi-layer perceptron from ego status and command to a plan, without
images.

Legend: B rows; an ego status has 8 numbers, a plan is (8, 3).
"""

import torch
from torch import nn

from models.planners.config import PLAN_STEPS, STATUS_WIDTH, EgoMlpConfig
from models.planners.planner import constant_velocity_anchor


class EgoMlp(nn.Module):
    """NAVSIM's ego-status MLP: ego status (B, 8) -> plan (B, 8, 3)."""

    scale_83: torch.Tensor
    status_scale_8: torch.Tensor

    def __init__(self, config: EgoMlpConfig) -> None:
        super().__init__()
        self.config = config
        self.layers = nn.Sequential(
            nn.Linear(STATUS_WIDTH, config.hidden),
            nn.ReLU(),
            nn.Linear(config.hidden, config.hidden),
            nn.ReLU(),
            nn.Linear(config.hidden, config.hidden),
            nn.ReLU(),
            nn.Linear(config.hidden, 3 * PLAN_STEPS),
        )
        self.register_buffer("scale_83", torch.tensor(config.offset_scale), persistent=False)
        self.register_buffer(
            "status_scale_8", torch.tensor([0.1, 1.0, 0.5, 0.5, 1, 1, 1, 1]), persistent=False
        )

    def forward(self, status_B8: torch.Tensor) -> torch.Tensor:
        """Plans (B, 8, 3) in the ego frame: m, m, rad."""
        offsets_B83 = (
            self.layers(status_B8 * self.status_scale_8).unflatten(-1, (PLAN_STEPS, 3))
            * self.scale_83
        )
        return constant_velocity_anchor(status_B8) + offsets_B83
