"""Convolutional stages that encode an image or a bird's-eye view of the ground.

Legend: B rows, C channels, H x W cells.
"""

from itertools import pairwise

import torch
from torch import nn


class ConvStack(nn.Module):
    """Stages of a strided convolution and a residual 3x3 convolution, with batch norm and ReLU."""

    def __init__(self, fan_in: int, channels: tuple[int, ...], kernel: int, stride: int) -> None:
        """`kernel` and `stride` are those of the first stage; later ones are 3x3 with stride 2."""
        super().__init__()
        self.down = nn.ModuleList([_conv(fan_in, channels[0], kernel, stride)])
        self.down.extend(_conv(finer, coarser, 3, 2) for finer, coarser in pairwise(channels))
        self.mix = nn.ModuleList(_conv(width, width, 3, 1) for width in channels)

    def forward(self, x_BCHW: torch.Tensor) -> list[torch.Tensor]:
        """Features of all stages, finest first."""
        stages = []
        for down, mix in zip(self.down, self.mix, strict=True):
            x_BCHW = down(x_BCHW)
            x_BCHW = x_BCHW + mix(x_BCHW)
            stages.append(x_BCHW)
        return stages


def _conv(fan_in: int, fan_out: int, kernel: int, stride: int) -> nn.Sequential:
    layer = nn.Conv2d(fan_in, fan_out, kernel, stride, kernel // 2, bias=False)
    return nn.Sequential(layer, nn.BatchNorm2d(fan_out), nn.ReLU())
