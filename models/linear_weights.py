"""The weights of linear layers, which Muon can train."""

from collections.abc import Iterable

import torch
from torch import nn


def linear_weights(parts: Iterable[nn.Module]) -> list[torch.Tensor]:
    """Weights of all linear layers in these modules."""
    return [
        module.weight
        for part in parts
        for module in part.modules()
        if isinstance(module, nn.Linear)
    ]
