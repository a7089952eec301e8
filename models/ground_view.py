"""What the front camera sees of the ground, laid out in metres around the way ahead: a map of
features. Not a detector.

Every cell of a grid on the road looks up the pixel that shows it, through the calibration of its
own row; the network then works where distances are the same near and far, and a plan can look at
the places that it would drive over. The image features at a plan's points follow iPad's proposals
(Guo et al. 2025); the road is taken as flat. Legend: B rows, H x W pixels, N camera numbers, X x Y
cells ahead and to the left, F features, P points, T tokens.
"""

import torch
from torch import nn
from torch.nn import functional as F

from models.conv_stack import ConvStack
from models.planners.config import GroundConfig

# in a mirror: left and right change places
MIRRORED_CAMERA = (-1, 1, -1, -1, 1, -1, 1, 1, 1, -1, 1, 1, 1, 1, -1, 1, 1, 1, 1)
_NEAREST_M = 0.5  # depth below which a point is behind or inside the lens


def project_ground(
    camera_BN: torch.Tensor, points_P2: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Where points on the ground (x, y in m, ego frame) lie in each row's image: (B, P, 2) and
    whether it sees them.

    Image coordinates are those of grid_sample: -1 is the left or upper border, 1 the right or lower
    one. Radial distortion (k1, k2, k3 of OpenCV's model) is applied; tangential distortion, far
    smaller, is not.
    """
    to_camera_B34 = camera_BN[:, :12].unflatten(1, (3, 4))
    homogeneous_4P = torch.cat(
        [points_P2, torch.zeros_like(points_P2[:, :1]), torch.ones_like(points_P2[:, :1])], 1
    ).T
    x_BP, y_BP, depth_BP = (to_camera_B34 @ homogeneous_4P).unbind(dim=1)
    shown_BP = depth_BP > _NEAREST_M
    plane_BP2 = torch.stack([x_BP, y_BP], dim=-1) / depth_BP.clamp(min=_NEAREST_M)[..., None]
    scale_B12, middle_B12 = camera_BN[:, None, 12:14], camera_BN[:, None, 14:16]
    # the polynomial holds only near the image
    near_BP = (plane_BP2 * scale_B12 + middle_B12).abs().amax(dim=-1) < 1.5
    square_BP = plane_BP2.square().sum(dim=-1)
    k1, k2, k3 = camera_BN[:, 16:19, None].unbind(dim=1)
    bent_BP2 = plane_BP2 * (1 + square_BP * (k1 + square_BP * (k2 + square_BP * k3)))[..., None]
    image_BP2 = bent_BP2 * scale_B12 + middle_B12
    return image_BP2, shown_BP & near_BP & (image_BP2.abs().amax(dim=-1) <= 1)


def ground_places(
    camera_BN: torch.Tensor, points_P2: torch.Tensor, cells: tuple[int, int]
) -> tuple[torch.Tensor, torch.Tensor]:
    """project_ground for the X * Y points of a grid: places (B, X, Y, 2), and where they are seen
    (B, 1, X, Y) as 1 or 0.

    They follow from the calibration alone, so who keeps a camera keeps them.
    """
    image_BP2, seen_BP = project_ground(camera_BN, points_P2)
    return image_BP2.unflatten(1, cells), seen_BP.to(image_BP2.dtype).unflatten(1, cells)[:, None]


def warp_to_bev(
    images_BCHW: torch.Tensor, places_BXY2: torch.Tensor, seen_B1XY: torch.Tensor
) -> torch.Tensor:
    """What images show at places of ground_places, (B, C, X, Y); zero where they do not show it."""
    return F.grid_sample(images_BCHW, places_BXY2, align_corners=False) * seen_B1XY


class GroundView(nn.Module):
    """Images and calibration -> a feature map on the ground, and coarse tokens of it."""

    points_P2: torch.Tensor

    def __init__(self, config: GroundConfig) -> None:
        super().__init__()
        self.config = config
        ahead, side = config.cells
        x_X = config.near_m + config.cell_m * (torch.arange(ahead) + 0.5)
        y_Y = -config.side_m + config.cell_m * (torch.arange(side) + 0.5)
        grid = torch.stack(torch.meshgrid(x_X, y_Y, indexing="ij"), dim=-1)
        self.register_buffer("points_P2", grid.flatten(0, 1), persistent=False)
        self.stack = ConvStack(4, config.channels, 5, 2)
        self.lateral = nn.ModuleList(
            nn.Conv2d(width, config.features, 1) for width in config.channels
        )

    def places(self, camera_BN: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Where the cells lie in the images of these cameras, as ground_places gives it."""
        return ground_places(camera_BN, self.points_P2, self.config.cells)

    def forward(
        self, images_B3HW: torch.Tensor, places_BXY2: torch.Tensor, seen_B1XY: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Images in -1 ... 1 -> features (B, F, X/2, Y/2) and the coarsest stage as tokens (B, T,
        channels[-1]).
        """
        laid_out = warp_to_bev(images_B3HW, places_BXY2, seen_B1XY)
        x = torch.cat([laid_out, seen_B1XY], dim=1).contiguous(memory_format=torch.channels_last)
        stages = self.stack(x)
        features = self.lateral[-1](stages[-1])
        # as a feature pyramid
        for stage, lateral in zip(stages[-2::-1], list(self.lateral)[-2::-1], strict=True):
            features = lateral(stage) + F.interpolate(
                features, size=stage.shape[-2:], mode="bilinear", align_corners=False
            )
        return features, stages[-1].flatten(2).transpose(1, 2)


def sample_ground(
    features_BFXY: torch.Tensor, points_BKP2: torch.Tensor, config: GroundConfig
) -> torch.Tensor:
    """Features (B, K, P, F) at points (x, y in m, ego frame); zeros beyond the grid."""
    ahead = 2 * (points_BKP2[..., 0] - config.near_m) / (config.far_m - config.near_m) - 1
    side = points_BKP2[..., 1] / config.side_m
    return F.grid_sample(
        features_BFXY, torch.stack([side, ahead], dim=-1), align_corners=False
    ).permute(0, 2, 3, 1)
