"""Forward dynamics: the first observation and a condition -> a prediction of the second.

Legend: B rows, C channels, H x W cells of the observation, h x w cells of its coarse grid, M length
of the condition, F flow fields.
"""

import math
from itertools import pairwise

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional

from models.latent_action.config import DynamicsConfig
from models.latent_action.warp import warp


def strided(channels: int, width: int, downsamples: int) -> nn.Sequential:
    """Convolutions that halve the grid `downsamples` times, with widths that double up to `width`;
    for 0 a 1x1 projection.
    """
    if not downsamples:
        return nn.Sequential(nn.Conv2d(channels, width, 1), nn.GELU())
    widths = [
        channels,
        *(
            min(width, max(16, 8 * round(width / 2 ** (downsamples - 1 - step) / 8)))
            for step in range(downsamples)
        ),
    ]
    layers = [(nn.Conv2d(a, b, 3, 2, 1), nn.GELU()) for a, b in pairwise(widths)]
    return nn.Sequential(*(layer for pair in layers for layer in pair))


def coarse(grid_hw: tuple[int, int], downsamples: int) -> tuple[int, int]:
    """Height and width of the grid after strided() with `downsamples`."""
    return math.ceil(grid_hw[0] / 2**downsamples), math.ceil(grid_hw[1] / 2**downsamples)


class Stage(nn.Module):
    """Warp an observation by a flow and add a gated residual, both predicted from a condition.

    The flow is a mixture of fields: the fields depend on the observation and the position, the
    mixing weights on the condition alone. The image motion of a rigid scene is linear in the
    camera's velocity (Longuet-Higgins and Prazdny 1980), so a few fields suffice, and the weights
    get a gradient from every cell.
    """

    def __init__(
        self,
        channels: int,
        grid_hw: tuple[int, int],
        downsamples: int,
        condition: int,
        config: DynamicsConfig,
    ) -> None:
        super().__init__()
        self.config = config
        width, cells_hw = config.width, coarse(grid_hw, downsamples)
        self.trunk = strided(channels, width, downsamples)
        self.position_embedding = nn.Parameter(0.02 * torch.randn(1, width, *cells_hw))
        self.mix = nn.Conv2d(width, width, 3, padding=1)
        self.modulate = nn.Linear(condition, 2 * width)
        self.paint = nn.Conv2d(width, width, 3, padding=1)
        if config.direct:
            self.block = 2**downsamples
            self.repaint = nn.Conv2d(width, channels * self.block**2, 1)
        else:
            self.fields = nn.Conv2d(width, 2 * config.fields, 1)
            self.prior = nn.Parameter(0.1 * torch.randn(1, 2 * config.fields, *cells_hw))
            self.weigh = nn.Sequential(
                nn.Linear(condition, config.hidden),
                nn.GELU(),
                nn.Linear(config.hidden, config.fields),
            )
            self.repaint = nn.Conv2d(width, channels + 1, 3, padding=1)
            for parameter in self.repaint.parameters():
                nn.init.zeros_(parameter)
            self.gate_bias = -2.0  # starts nearly closed, so that the flow is learned first

    def forward(self, first_BCHW: Tensor, condition_BM: Tensor) -> tuple[Tensor, Tensor]:
        """Predicted second observation (B, C, H, W) and flow (B, 2, H, W) in half image sides; with
        `direct`, the flow is 0.
        """
        size = first_BCHW.shape[-2:]
        cells = self.trunk(first_BCHW) + self.position_embedding
        cells = cells + functional.gelu(self.mix(cells))
        scale, shift = self.modulate(condition_BM)[..., None, None].chunk(2, dim=1)
        painted = self.repaint(cells + functional.gelu(self.paint(cells * (1 + scale) + shift)))
        if self.config.direct:
            residual_BCHW = functional.pixel_shuffle(painted, self.block)[..., : size[0], : size[1]]
            return first_BCHW + residual_BCHW, first_BCHW.new_zeros(len(first_BCHW), 2, *size)
        fields = rearrange(self.fields(cells) + self.prior, "b (f c) h w -> b f c h w", c=2)
        flow = torch.einsum("bf,bfchw->bchw", self.weigh(condition_BM), fields)
        coarse_flow_and_paint = torch.cat([flow, painted], dim=1)
        whole = functional.interpolate(
            coarse_flow_and_paint, size=size, mode="bilinear", align_corners=False
        )
        flow_B2HW, residual_BCHW, gate_B1HW = whole.split([2, first_BCHW.shape[1], 1], dim=1)
        gate_B1HW = (gate_B1HW + self.gate_bias).sigmoid()
        return warp(first_BCHW, flow_B2HW) + gate_B1HW * residual_BCHW, flow_B2HW
