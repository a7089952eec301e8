"""What a plan meets on its way: the ground's features under the vehicle and at its sides, pose by pose. Not a score.

Legend: B rows, K plans, S = 8 poses, F features, D width; a plan is (8, 3): x, y, heading of the rear axle.
"""

import torch
from torch import nn

from models.ground_view import GroundConfig, sample_ground

PLAN_UNITS = (0.05, 0.2, 2.0)                               # 1 / m, 1 / m, 1 / rad: brings a plan's poses to about 1
_LOOKS_M = ((1.4, 0.0), (1.4, 1.4), (1.4, -1.4))            # ahead of the rear axle and to the left: middle, both sides


class PlanLook(nn.Module):
    """Plans -> what they would drive over, (B, K, D)."""

    def __init__(self, ground: GroundConfig, width: int, steps: int) -> None:
        super().__init__()
        self.ground = ground
        self.point = nn.Sequential(nn.Linear(len(_LOOKS_M) * ground.features + 3, 64), nn.ReLU())
        self.along = nn.Linear(64 * steps, width)
        self.worst = nn.Linear(64, width)

    def forward(self, features_BFXY: torch.Tensor, plans_BK83: torch.Tensor) -> torch.Tensor:
        """Features of models.ground_view.GroundView at the poses of each plan."""
        x, y, yaw = plans_BK83.unbind(dim=-1)
        cosine, sine = yaw.cos(), yaw.sin()
        points_BKSL2 = torch.stack([torch.stack([x + ahead * cosine - left * sine, y + ahead * sine + left * cosine], dim=-1)
                                    for ahead, left in _LOOKS_M], dim=-2)
        met = sample_ground(features_BFXY, points_BKSL2.flatten(2, 3), self.ground)
        met_BKSF = met.unflatten(2, (plans_BK83.shape[2], len(_LOOKS_M))).flatten(3)
        met_BKSD = self.point(torch.cat([met_BKSF, plans_BK83 * plans_BK83.new_tensor(PLAN_UNITS)], dim=-1))
        return self.along(met_BKSD.flatten(2)) + self.worst(met_BKSD.amax(dim=2))
