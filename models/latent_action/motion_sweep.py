"""A cost volume over ego motions: the similarity of two images of the road under each candidate
motion.

Between two frames a vehicle on flat ground has two degrees of freedom: distance and turn. For each
candidate of a grid, the ground ahead, in the frame at the middle of the motion, is sampled from
both images, and the two views are compared by normalised cross-correlation. This is a plane sweep
(Collins 1996) over motions instead of depths. It needs the camera's calibration but no labels; the
road is assumed to be flat only over the few metres that are compared.

Legend: B pairs of images, C channels, H x W pixels, N camera numbers, D distances, R turns, X x Y
ground cells ahead and to the left.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.ground_view import ground_image_locations, warp_to_bev
from models.latent_action.config import SweepConfig
from models.precision import without_autocast

SWEEP_OUTPUTS = 3  # distance, turn and largest similarity of a pair
_BLUR_CELLS = 5  # side of the window in which brightness is normalised
_MIN_CONTRAST = 0.02  # windows of less contrast (brightness 0 to 1) hardly count


class MotionSweep(nn.Module):
    """Two images and the calibration -> the ego motion under which they agree best."""

    points_P2: Tensor
    first_grid: Tensor
    second_grid: Tensor
    distances_D: Tensor
    turns_R: Tensor

    def __init__(self, config: SweepConfig) -> None:
        super().__init__()
        self.config = config
        # log of the inverse temperature of the softmax over motions: the only parameter
        self.sharpness = nn.Parameter(torch.tensor(30.0).log())
        c, cell = config, config.cell_m
        ahead, side = round((c.far_m - c.near_m) / cell), round(2 * c.side_m / cell)
        map_far_m = c.far_m + c.reach_m
        map_side_m = c.side_m + map_far_m * torch.sin(torch.tensor(c.turn_rad / 2)).item()
        self.map_XY = (round((map_far_m - c.near_m) / cell) + 2, round(2 * map_side_m / cell))
        # of the map: near border, far border, half width
        self.borders_m = (
            c.near_m - cell,
            c.near_m + cell * (self.map_XY[0] - 1),
            cell * self.map_XY[1] / 2,
        )
        x = self.borders_m[0] + cell * (torch.arange(self.map_XY[0]) + 0.5)
        y = -self.borders_m[2] + cell * (torch.arange(self.map_XY[1]) + 0.5)
        self.register_buffer(
            "points_P2",
            torch.stack(torch.meshgrid(x, y, indexing="ij"), dim=-1).flatten(0, 1),
            False,
        )
        turns_R = torch.linspace(-c.turn_rad, c.turn_rad, c.turns)
        cells_XY2 = torch.stack(
            torch.meshgrid(
                c.near_m + cell * (torch.arange(ahead + c.distances - 1) + 0.5),
                -c.side_m + cell * (torch.arange(side) + 0.5),
                indexing="ij",
            ),
            dim=-1,
        )
        self.register_buffer("first_grid", self._map_grid(cells_XY2, turns_R / 2), False)
        self.register_buffer("second_grid", self._map_grid(cells_XY2[:ahead], -turns_R / 2), False)
        self.register_buffer("distances_D", cell * torch.arange(c.distances), False)
        self.register_buffer("turns_R", turns_R, False)

    @torch.no_grad()
    def similarity(self, first_BCHW: Tensor, second_BCHW: Tensor, camera_BN: Tensor) -> Tensor:
        """Normalised cross-correlation of the two views under each motion, (B, R, D), in -1..1."""
        first_B1XY, second_B1XY = self._normalized_bev(
            torch.stack([first_BCHW.mean(1), second_BCHW.mean(1)], dim=1), camera_BN
        ).split(1, 1)
        first_BRXY = self._sample_map(first_B1XY, self.first_grid)
        second_BRXY = self._sample_map(second_B1XY, self.second_grid)
        ahead = second_BRXY.shape[2]
        windows_BRDYX = first_BRXY.unfold(2, ahead, 1)
        product_BRD = torch.einsum("brdyx,brxy->brd", windows_BRDYX, second_BRXY)
        first_BRD = first_BRXY.square().sum(dim=3).unfold(2, ahead, 1).sum(dim=-1)
        second_BR1 = second_BRXY.square().sum(dim=(2, 3))[..., None]
        return product_BRD / (first_BRD * second_BR1).sqrt().clamp(min=1.0)

    @without_autocast
    def forward(self, first_BCHW: Tensor, second_BCHW: Tensor, camera_BN: Tensor) -> Tensor:
        """Expected distance and turn under a softmax of the similarities, scaled to -1..1, and the
        largest similarity, (B, 3).
        """
        similarity_BRD = self.similarity(first_BCHW, second_BCHW, camera_BN)
        logits_BRD = similarity_BRD * self.sharpness.exp()
        weights_BRD = logits_BRD.flatten(1).softmax(dim=1).view_as(similarity_BRD)
        distance_B = weights_BRD.sum(dim=1) @ self.distances_D * (2 / self.config.reach_m) - 1
        turn_B = weights_BRD.sum(dim=2) @ self.turns_R / self.config.turn_rad
        return torch.stack([distance_B, turn_B, similarity_BRD.amax(dim=(1, 2))], dim=1)

    @torch.no_grad()
    def road_seen(self, camera_BN: Tensor) -> Tensor:
        """Share of the compared ground cells that each camera's image shows, (B,)."""
        _, visible_B1XY = ground_image_locations(camera_BN, self.points_P2, self.map_XY)
        visible_BRXY = self._sample_map(visible_B1XY, self.second_grid)
        return visible_BRXY[:, self.config.turns // 2].mean(dim=(1, 2))

    def _map_grid(self, cells_XY2: Tensor, turns_R: Tensor) -> Tensor:
        """Map coordinates of the cells rotated by each turn, (R, X, Y, 2) for grid_sample."""
        cos, sin = turns_R.cos()[:, None, None], turns_R.sin()[:, None, None]
        x, y = cells_XY2[..., 0], cells_XY2[..., 1]
        ahead, left = cos * x - sin * y, sin * x + cos * y
        low, high, side = self.borders_m
        return torch.stack([left / side, 2 * (ahead - low) / (high - low) - 1], dim=-1)

    def _normalized_bev(self, grey_B2HW: Tensor, camera_BN: Tensor) -> Tensor:
        """Locally normalised brightness of both images in the bird's-eye view, (B, 2, X, Y); 0
        where the camera does not show the ground.
        """
        locations_BXY2, visible_B1XY = ground_image_locations(
            camera_BN, self.points_P2, self.map_XY
        )
        grey_B2XY = warp_to_bev(grey_B2HW, locations_BXY2, visible_B1XY)
        weight_B1XY = _blur(visible_B1XY).clamp(min=0.01)
        centered_B2XY = (grey_B2XY - _blur(grey_B2XY) / weight_B1XY) * visible_B1XY
        deviation_B2XY = (_blur(centered_B2XY.square()) / weight_B1XY).sqrt()
        return centered_B2XY / (deviation_B2XY + _MIN_CONTRAST)

    def _sample_map(self, map_B1XY: Tensor, grid_RXY2: Tensor) -> Tensor:
        """The map sampled at the coordinates of _map_grid, (B, R, X, Y)."""
        flat = grid_RXY2.flatten(0, 1).expand(len(map_B1XY), -1, -1, -1)
        return F.grid_sample(map_B1XY, flat, align_corners=False)[:, 0].unflatten(
            1, grid_RXY2.shape[:2]
        )


def _blur(x_BCXY: Tensor) -> Tensor:
    """Mean over a window around each cell."""
    return F.avg_pool2d(x_BCXY, _BLUR_CELLS, 1, _BLUR_CELLS // 2, count_include_pad=False)
