"""Samples the bird's-eye-view features of the ground along a plan: under the vehicle and at its
sides, at each pose.

Legend: B rows, K plans, S = 8 poses, P numbers of a pose's sample points, F features, D width; a
plan is (8, 3): x, y, heading of the rear axle in m, m, rad.
"""

import torch
from torch import nn

from models.ground_config import GroundConfig
from models.ground_view import sample_ground
from models.precision import without_autocast

# in 1/m, 1/m, 1/rad: scales the poses of a plan to about 1
PLAN_UNITS = (0.05, 0.2, 2.0)
# sample points of a pose, ahead and to the left of the rear axle: center, both sides
_SAMPLE_OFFSETS_M = ((1.4, 0.0), (1.4, 1.4), (1.4, -1.4))


class PlanFeatureSampler(nn.Module):
    """Plans and ground features -> one feature vector a plan, (B, K, D)."""

    turn_4P: torch.Tensor

    def __init__(self, ground: GroundConfig, width: int, steps: int) -> None:
        super().__init__()
        self.ground = ground
        self.point = nn.Sequential(
            nn.Linear(len(_SAMPLE_OFFSETS_M) * ground.features + 3, 64), nn.ReLU()
        )
        self.along = nn.Linear(64 * steps, width)
        self.worst = nn.Linear(64, width)
        columns = [
            column
            for ahead, left in _SAMPLE_OFFSETS_M
            for column in ((1.0, 0.0, ahead, -left), (0.0, 1.0, left, ahead))
        ]
        # maps (x, y, cos, sin) of a pose to the x and y of its sample points
        self.register_buffer("turn_4P", torch.tensor(columns).T, persistent=False)

    def forward(self, features_BFXY: torch.Tensor, plans_BK83: torch.Tensor) -> torch.Tensor:
        """Features of plans (B, K, 8, 3) from the map of models.ground_view.GroundView."""
        sampled = sample_ground(features_BFXY, self.sample_points(plans_BK83), self.ground)
        sampled_BKSF = sampled.unflatten(2, (plans_BK83.shape[2], len(_SAMPLE_OFFSETS_M))).flatten(
            3
        )
        pose_BKSD = self.point(
            torch.cat([sampled_BKSF, plans_BK83 * plans_BK83.new_tensor(PLAN_UNITS)], dim=-1)
        )
        return self.along(pose_BKSD.flatten(2)) + self.worst(pose_BKSD.amax(dim=2))

    @without_autocast
    def sample_points(self, plans_BK83: torch.Tensor) -> torch.Tensor:
        """Sample points of plans, (B, K, 8 * 3, 2): x, y in m in the ego frame."""
        yaw_BKS1 = plans_BK83[..., 2:]
        points_BKSP = (
            torch.cat([plans_BK83[..., :2], yaw_BKS1.cos(), yaw_BKS1.sin()], dim=-1) @ self.turn_4P
        )
        return points_BKSP.flatten(2).unflatten(2, (-1, 2))
