"""Inverse dynamics: two observations -> one vector that describes the change between them.

Legend: B rows, C channels, H x W cells of the observation, h x w cells of the grid on which the
observations are matched, S shifts.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.latent_action.config import EncoderConfig
from models.latent_action.forward_dynamics import coarse, strided


class PairEncoder(nn.Module):
    """Matches the cells of two observations and encodes the matches as one vector."""

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
        # without the last activation: matching needs the signs
        self.match_features = strided(channels, config.match_width, downsamples)[:-1]
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
        """The action vector (B, out).

        The matches are flattened with their positions: pooling over the grid would lose the turn.
        """
        first, second = self.match_features(torch.cat([first_BCHW, second_BCHW])).chunk(2)
        similarity_BShw = local_correlation(
            functional.normalize(second, dim=1),
            functional.normalize(first, dim=1),
            self.config.reach_h,
            self.config.reach_w,
        )
        # distribution over the shifts that each cell may come from
        matches_BShw = (similarity_BShw * self.sharpness.exp()).softmax(dim=1)
        return self.head(self.read(torch.cat([4 * matches_BShw, second], dim=1)))


def local_correlation(
    query_BChw: Tensor, reference_BChw: Tensor, reach_h: int, reach_w: int
) -> Tensor:
    """Dot products of each cell of `query` with the cells of `reference` up to `reach` cells away,
    (B, S, h, w), shifts row by row.

    The cost volume of PWC-Net (Sun et al. 2018, section 3). All products come from one matrix
    product; the near ones are a band of it, taken as a strided view: its backward pass is many
    times faster than that of unfold.
    """
    batch, _, height, width = query_BChw.shape
    products = torch.bmm(query_BChw.flatten(2).transpose(1, 2), reference_BChw.flatten(2)).view(
        batch, -1, height, width
    )
    padded = functional.pad(products, (reach_w, reach_w, reach_h, reach_h)).contiguous()
    rows, columns = padded.shape[-2:]
    # the product of cell (y, x) with shift (i, j) lies at [y * width + x, y + i, x + j]
    near = padded.as_strided(
        (batch, height, width, 2 * reach_h + 1, 2 * reach_w + 1),
        (padded.stride(0), width * rows * columns + columns, rows * columns + 1, columns, 1),
    )
    return near.flatten(3).permute(0, 3, 1, 2)
