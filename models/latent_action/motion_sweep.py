"""How well each motion of the ego would explain two images of the road: a cost volume over motions.
Not which one it was.

A vehicle on flat ground has two degrees of freedom between two moments: how far it went and how
much it turned. Every motion of a grid is tried: the ground ahead, seen from the middle of the
motion, is looked up in both images, and the two views are compared by normalised cross-correlation.
A plane sweep (Collins 1996), over motions instead of depths. It needs the camera's calibration and
no label; that the road is flat is assumed only for the few metres that are compared. Legend: B
pairs, H x W pixels, N camera numbers, D distances, R turns, X x Y places ahead and to the left.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.ground_view import ground_places, warp_to_bev
from models.latent_action.config import SweepConfig

SWEPT = 3  # numbers that the sweep says of a pair
_BLUR_CELLS = 5  # side of the window in which brightness is normalised
# contrast, of brightness 0 to 1, below which a window has nothing to compare
_FLAT = 0.02


class MotionSweep(nn.Module):
    """Two images and the calibration -> the motion that explains them."""

    points_P2: Tensor
    first_grid: Tensor
    second_grid: Tensor
    distances_D: Tensor
    turns_R: Tensor

    def __init__(self, config: SweepConfig) -> None:
        super().__init__()
        self.config = config
        # of the softmax over motions: all that is learned here
        self.sharpness = nn.Parameter(torch.tensor(30.0).log())
        c, cell = config, config.cell_m
        ahead, side = round((c.far_m - c.near_m) / cell), round(2 * c.side_m / cell)
        furthest = c.far_m + c.reach_m
        wide = c.side_m + furthest * torch.sin(torch.tensor(c.turn_rad / 2)).item()
        self.map_XY = (round((furthest - c.near_m) / cell) + 2, round(2 * wide / cell))
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
        places = torch.stack(
            torch.meshgrid(
                c.near_m + cell * (torch.arange(ahead + c.distances - 1) + 0.5),
                -c.side_m + cell * (torch.arange(side) + 0.5),
                indexing="ij",
            ),
            dim=-1,
        )
        self.register_buffer("first_grid", self._on_map(places, turns_R / 2), False)
        self.register_buffer("second_grid", self._on_map(places[:ahead], -turns_R / 2), False)
        self.register_buffer("distances_D", cell * torch.arange(c.distances), False)
        self.register_buffer("turns_R", turns_R, False)

    @torch.no_grad()
    def likeness(self, first_BCHW: Tensor, second_BCHW: Tensor, camera_BN: Tensor) -> Tensor:
        """Normalised cross-correlation of the two views under each motion, (B, R, D), in -1..1."""
        first_B1XY, second_B1XY = self._lay(
            torch.stack([first_BCHW.mean(1), second_BCHW.mean(1)], dim=1), camera_BN
        ).split(1, 1)
        first_BRXY, second_BRXY = (
            self._turned(first_B1XY, self.first_grid),
            self._turned(second_B1XY, self.second_grid),
        )
        ahead = second_BRXY.shape[2]
        windows_BRDYX = first_BRXY.unfold(2, ahead, 1)
        product_BRD = torch.einsum("brdyx,brxy->brd", windows_BRDYX, second_BRXY)
        first_BRD = first_BRXY.square().sum(dim=3).unfold(2, ahead, 1).sum(dim=-1)
        second_BR1 = second_BRXY.square().sum(dim=(2, 3))[..., None]
        return product_BRD / (first_BRD * second_BR1).sqrt().clamp(min=1.0)

    def forward(self, first_BCHW: Tensor, second_BCHW: Tensor, camera_BN: Tensor) -> Tensor:
        """Mean distance and mean turn, in -1..1, over motions as likely as they are alike; and the
        best likeness, (B, 3).
        """
        likeness_BRD = self.likeness(first_BCHW, second_BCHW, camera_BN)
        share_BRD = (
            (likeness_BRD * self.sharpness.exp()).flatten(1).softmax(dim=1).view_as(likeness_BRD)
        )
        distance_B = share_BRD.sum(dim=1) @ self.distances_D * (2 / self.config.reach_m) - 1
        turn_B = share_BRD.sum(dim=2) @ self.turns_R / self.config.turn_rad
        return torch.stack([distance_B, turn_B, likeness_BRD.amax(dim=(1, 2))], dim=1)

    @torch.no_grad()
    def road_seen(self, camera_BN: Tensor) -> Tensor:
        """Share of the places to compare that each camera's image shows, (B,)."""
        _, seen_B1XY = ground_places(camera_BN, self.points_P2, self.map_XY)
        straight_BRXY = self._turned(seen_B1XY, self.second_grid)
        return straight_BRXY[:, self.config.turns // 2].mean(dim=(1, 2))

    def _on_map(self, places_XY2: Tensor, turns_R: Tensor) -> Tensor:
        """Where the places, turned, lie on the map: (R, X, Y, 2) for grid_sample."""
        cos, sin = turns_R.cos()[:, None, None], turns_R.sin()[:, None, None]
        x, y = places_XY2[..., 0], places_XY2[..., 1]
        ahead, left = cos * x - sin * y, sin * x + cos * y
        low, high, side = self.borders_m
        return torch.stack([left / side, 2 * (ahead - low) / (high - low) - 1], dim=-1)

    def _lay(self, grey_B2HW: Tensor, camera_BN: Tensor) -> Tensor:
        """Locally normalised brightness of both images on the ground, (B, 2, X, Y); 0 where the
        camera does not show it.
        """
        places_BXY2, seen_B1XY = ground_places(camera_BN, self.points_P2, self.map_XY)
        grey_B2XY = warp_to_bev(grey_B2HW, places_BXY2, seen_B1XY)
        weight_B1XY = _blur(seen_B1XY).clamp(min=0.01)
        centred_B2XY = (grey_B2XY - _blur(grey_B2XY) / weight_B1XY) * seen_B1XY
        return centred_B2XY / ((_blur(centred_B2XY.square()) / weight_B1XY).sqrt() + _FLAT)

    def _turned(self, map_B1XY: Tensor, grid_RXY2: Tensor) -> Tensor:
        """The map looked up at all turned places, (B, R, X, Y)."""
        flat = grid_RXY2.flatten(0, 1).expand(len(map_B1XY), -1, -1, -1)
        return F.grid_sample(map_B1XY, flat, align_corners=False)[:, 0].unflatten(
            1, grid_RXY2.shape[:2]
        )


def _blur(x_BCXY: Tensor) -> Tensor:
    return F.avg_pool2d(x_BCXY, _BLUR_CELLS, 1, _BLUR_CELLS // 2, count_include_pad=False)
