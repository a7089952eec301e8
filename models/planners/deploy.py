"""Attention folded for deployment: the same outputs from fewer and larger matrix products.

A plan of the student takes a few million multiplications, so latency depends on the number of
operations as much as on their size. Folding is exact but for rounding: the softmax's scale goes
into the query's weights; the key's bias adds the same number to every logit of a query, which
cancels in the softmax; the value's bias is added to the output's bias, as attention weights sum to
one. Keys and values are one matrix product; in self-attention the queries are part of it too.

Legend: B rows, Q queries, M memory tokens, T tokens, D width, H heads, d width of a head.
"""

import copy
from typing import TypeVar

import torch
from torch import nn

from models.planners.attention import Attention

Network = TypeVar("Network", bound=nn.Module)


class FoldedAttention(nn.Module):
    """models.planners.attention.Attention for inference."""

    def __init__(self, trained: Attention) -> None:
        super().__init__()
        self.heads, self.head_width = trained.heads, trained.query.out_features // trained.heads
        scale = self.head_width**-0.5
        key, value, out = trained.key, trained.value, trained.out
        with torch.no_grad():
            self.query = _linear(scale * trained.query.weight, scale * trained.query.bias)
            self.key_value = _linear(torch.cat([key.weight, value.weight]), None)
            self.out = _linear(out.weight, out.bias + out.weight @ value.bias)
            if key.in_features == trained.query.in_features:
                no_bias = torch.zeros(len(self.key_value.weight), device=value.bias.device)
                self.all = _linear(
                    torch.cat([self.query.weight, self.key_value.weight]),
                    torch.cat([self.query.bias, no_bias]),
                )

    def forward(self, query_BQD: torch.Tensor, memory_BMD: torch.Tensor) -> torch.Tensor:
        if query_BQD is memory_BMD:
            query, key, value = self._heads(self.all(query_BQD)).split([self.heads] * 3, dim=1)
        else:
            query = self._heads(self.query(query_BQD))
            key, value = self._heads(self.key_value(memory_BMD)).split([self.heads] * 2, dim=1)
        attended_BHQd = (query @ key.transpose(-1, -2)).softmax(dim=-1) @ value
        return self.out(attended_BHQd.transpose(1, 2).flatten(2))

    def _heads(self, x_BTD: torch.Tensor) -> torch.Tensor:
        """Split the last axis into heads: (B, all heads of all parts, T, d)."""
        return x_BTD.unflatten(-1, (-1, self.head_width)).transpose(1, 2)


def fold(network: Network) -> Network:
    """A copy of a trained network in evaluation mode, with each Attention folded."""
    folded = copy.deepcopy(network).eval()
    for module in [*folded.modules()]:
        for name, child in [*module.named_children()]:
            if isinstance(child, Attention):
                setattr(module, name, FoldedAttention(child))
    return folded


def _linear(weight: torch.Tensor, bias: torch.Tensor | None) -> nn.Linear:
    layer = nn.Linear(
        weight.shape[1],
        weight.shape[0],
        bias=bias is not None,
        device=weight.device,
        dtype=weight.dtype,
    )
    layer.weight = nn.Parameter(weight.detach().clone())
    if bias is not None:
        layer.bias = nn.Parameter(bias.detach().clone())
    return layer
