"""Bird's-eye-view features of the ground ahead, from the front camera and its calibration.

Each cell of a grid on the ground samples the pixel that shows it, through the calibration of the
row's camera. In this view distances have one scale near and far, and a plan can sample the features
of the ground that it would drive over, as iPad's proposals do (Guo et al. 2025). The ground is
assumed to be flat.

Legend: B rows, H x W pixels, N camera numbers, C channels, X x Y cells ahead and to the left, F
features, K plans, P points, T tokens.
"""

import torch
from torch import nn
from torch.nn import functional as F

from models.conv_stack import ConvStack
from models.ground_config import GroundConfig
from models.precision import without_autocast

# factors of the camera numbers that mirror the camera and its image, left to right
MIRRORED_CAMERA = (-1, 1, -1, -1, 1, -1, 1, 1, 1, -1, 1, 1, 1, 1, -1, 1, 1, 1, 1)
_MIN_DEPTH_M = 0.5  # points nearer than this to the image plane, or behind it, are not visible


@without_autocast
def project_ground(
    camera_BN: torch.Tensor, points_P2: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Project points on the ground (x, y in m, ego frame) into each row's image.

    Returns image coordinates (B, P, 2) and a mask (B, P), True where the image shows the point. The
    coordinates are those of grid_sample: -1 is the left or upper border, 1 the right or lower one.
    Radial distortion (k1, k2, k3 of OpenCV's model) is applied; tangential distortion, which is far
    smaller, is ignored.
    """
    to_camera_B34 = camera_BN[:, :12].unflatten(1, (3, 4))
    homogeneous_4P = torch.cat(
        [points_P2, torch.zeros_like(points_P2[:, :1]), torch.ones_like(points_P2[:, :1])], 1
    ).T
    x_BP, y_BP, depth_BP = (to_camera_B34 @ homogeneous_4P).unbind(dim=1)
    in_front_BP = depth_BP > _MIN_DEPTH_M
    plane_BP2 = torch.stack([x_BP, y_BP], dim=-1) / depth_BP.clamp(min=_MIN_DEPTH_M)[..., None]
    focal_B12, center_B12 = camera_BN[:, None, 12:14], camera_BN[:, None, 14:16]
    # the distortion polynomial is valid only near the image
    near_BP = (plane_BP2 * focal_B12 + center_B12).abs().amax(dim=-1) < 1.5
    square_BP = plane_BP2.square().sum(dim=-1)
    k1, k2, k3 = camera_BN[:, 16:19, None].unbind(dim=1)
    radial_BP = 1 + square_BP * (k1 + square_BP * (k2 + square_BP * k3))
    distorted_BP2 = plane_BP2 * radial_BP[..., None]
    image_BP2 = distorted_BP2 * focal_B12 + center_B12
    return image_BP2, in_front_BP & near_BP & (image_BP2.abs().amax(dim=-1) <= 1)


def ground_image_locations(
    camera_BN: torch.Tensor, points_P2: torch.Tensor, cells: tuple[int, int]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Project the X * Y points of a grid on the ground, as project_ground does.

    Returns image coordinates (B, X, Y, 2) and visibility (B, 1, X, Y), 1 or 0. Both depend on the
    calibration alone, so a caller with a fixed camera computes them once.
    """
    image_BP2, visible_BP = project_ground(camera_BN, points_P2)
    visible_B1XY = visible_BP.to(image_BP2.dtype).unflatten(1, cells)[:, None]
    return image_BP2.unflatten(1, cells), visible_B1XY


def warp_to_bev(
    images_BCHW: torch.Tensor, locations_BXY2: torch.Tensor, visible_B1XY: torch.Tensor
) -> torch.Tensor:
    """Images sampled at ground_image_locations, (B, C, X, Y); 0 where the ground is not visible."""
    return F.grid_sample(images_BCHW, locations_BXY2, align_corners=False) * visible_B1XY


class GroundView(nn.Module):
    """Images and calibration -> a bird's-eye-view feature map of the ground and coarse tokens."""

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

    def image_locations(self, camera_BN: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """ground_image_locations of the grid's cells for these cameras."""
        return ground_image_locations(camera_BN, self.points_P2, self.config.cells)

    def forward(
        self, images_B3HW: torch.Tensor, locations_BXY2: torch.Tensor, visible_B1XY: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Images in -1 ... 1 -> features (B, F, X/2, Y/2) and the coarsest stage as tokens (B, T,
        channels[-1]).
        """
        bev_B3XY = warp_to_bev(images_B3HW, locations_BXY2, visible_B1XY)
        x = torch.cat([bev_B3XY, visible_B1XY], dim=1).contiguous(memory_format=torch.channels_last)
        stages = self.stack(x)
        features = self.lateral[-1](stages[-1])
        # top-down path of a feature pyramid (Lin et al. 2017)
        for stage, lateral in zip(stages[-2::-1], list(self.lateral)[-2::-1], strict=True):
            features = lateral(stage) + F.interpolate(
                features, size=stage.shape[-2:], mode="bilinear", align_corners=False
            )
        return features, stages[-1].flatten(2).transpose(1, 2)


def sample_ground(
    features_BFXY: torch.Tensor, points_BKP2: torch.Tensor, config: GroundConfig
) -> torch.Tensor:
    """Interpolated features (B, K, P, F) at points (x, y in m, ego frame); 0 outside the grid."""
    ahead = 2 * (points_BKP2[..., 0] - config.near_m) / (config.far_m - config.near_m) - 1
    side = points_BKP2[..., 1] / config.side_m
    return F.grid_sample(
        features_BFXY, torch.stack([side, ahead], dim=-1), align_corners=False
    ).permute(0, 2, 3, 1)
