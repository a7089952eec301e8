"""Inverse dynamics: two observations -> what happened between them, as one vector. Not its
quantisation.

Legend: B batch, C channels, H x W cells of the observation, h x w of the grid on which they are
matched, S shifts.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.latent_action.config import EncoderConfig
from models.latent_action.forward_dynamics import coarse, strided


class PairEncoder(nn.Module):
    """Match the two observations place by place, then read the action off the matches."""

    def __init__(
        self,
        channels: int,
        grid_hw: tuple[int, int],
        downsamples: int,
        out: int,
        config: EncoderConfig,
    ) -> None:
        super().__init__()
        self.config = config
        # no activation: signs matter when matching
        self.look = strided(channels, config.match_width, downsamples)[:-1]
        shifts = (2 * config.reach_h + 1) * (2 * config.reach_w + 1)
        cells_hw = coarse(grid_hw, downsamples + 2)
        self.sharpness = nn.Parameter(torch.tensor(10.0).log())
        self.read = strided(shifts + config.match_width, config.width, 2)
        self.head = nn.Sequential(
            nn.Flatten(),
            nn.Linear(config.width * cells_hw[0] * cells_hw[1], config.hidden),
            nn.GELU(),
            nn.Linear(config.hidden, out),
        )

    def forward(self, first_BCHW: Tensor, second_BCHW: Tensor) -> Tensor:
        """(B, out). Flattened with its places: a pooled grid would lose the turn."""
        first, second = self.look(torch.cat([first_BCHW, second_BCHW])).chunk(2)
        likeness_BShw = local_correlation(
            functional.normalize(second, dim=1),
            functional.normalize(first, dim=1),
            self.config.reach_h,
            self.config.reach_w,
        )
        # where each place came from
        matches_BShw = (likeness_BShw * self.sharpness.exp()).softmax(dim=1)
        return self.head(self.read(torch.cat([4 * matches_BShw, second], dim=1)))


def local_correlation(here_BChw: Tensor, there_BChw: Tensor, reach_h: int, reach_w: int) -> Tensor:
    """Products of each place of `here` with the places of `there` up to `reach` cells away, (B, S,
    h, w), row by row.

    The cost volume of PWC-Net (Sun et al. 2018, section 3). All products come from one matrix
    product; the near ones are a band of it, viewed and not gathered: its backward pass is many
    times faster than that of an unfolding.
    """
    batch, _, height, width = here_BChw.shape
    products = torch.bmm(here_BChw.flatten(2).transpose(1, 2), there_BChw.flatten(2)).view(
        batch, -1, height, width
    )
    padded = functional.pad(products, (reach_w, reach_w, reach_h, reach_h)).contiguous()
    rows, columns = padded.shape[-2:]
    # the product of place (y, x) with shift (i, j) lies at [y * width + x, y + i, x + j]
    near = padded.as_strided(
        (batch, height, width, 2 * reach_h + 1, 2 * reach_w + 1),
        (padded.stride(0), width * rows * columns + columns, rows * columns + 1, columns, 1),
    )
    return near.flatten(3).permute(0, 3, 1, 2)
