"""Attention and feed-forward blocks of the planner networks, exportable to ONNX.

Legend: B rows, Q queries, M memory tokens, D width, H heads.
"""

import torch
from torch import nn
from torch.nn import functional as F


class Attention(nn.Module):
    """Multi-head attention of queries over a memory, whose width may differ from the queries'."""

    def __init__(self, width: int, heads: int, memory_width: int | None = None) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(width, width)
        self.key, self.value = (nn.Linear(memory_width or width, width) for _ in range(2))
        self.out = nn.Linear(width, width)

    def forward(self, query_BQD: torch.Tensor, memory_BMD: torch.Tensor) -> torch.Tensor:
        query, key, value = (
            part.unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for part in (self.query(query_BQD), self.key(memory_BMD), self.value(memory_BMD))
        )
        return self.out(
            F.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2)
        )


class SwiGLU(nn.Module):
    """Gated feed-forward layer (Shazeer 2020) from `width` to `width`."""

    def __init__(self, width: int, expansion: int = 2) -> None:
        super().__init__()
        self.inner = nn.Linear(width, 2 * expansion * width)
        self.out = nn.Linear(expansion * width, width)

    def forward(self, x_BQD: torch.Tensor) -> torch.Tensor:
        value, gate = self.inner(x_BQD).chunk(2, dim=-1)
        return self.out(value * F.silu(gate))


class DecoderBlock(nn.Module):
    """Self-attention of the queries, cross-attention to the scene and, with `second_memory`, to a
    second memory, then a feed-forward layer; all residual, with layer norm before each.
    """

    def __init__(self, width: int, heads: int, dropout: float, second_memory: bool = False) -> None:
        super().__init__()
        self.self_attention = Attention(width, heads)
        self.scene_attention = Attention(width, heads)
        self.memory_attention = Attention(width, heads) if second_memory else None
        self.feed_forward = SwiGLU(width)
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(3 + second_memory))
        self.dropout = nn.Dropout(dropout)

    def forward(
        self,
        x_BQD: torch.Tensor,
        scene_BMD: torch.Tensor,
        memory_BMD: torch.Tensor | None = None,
        keep: int | None = None,
    ) -> torch.Tensor:
        """The updated queries (B, Q, D).

        With `keep`, only the first `keep` queries are updated and returned; the others serve as
        keys and values of the self-attention.
        """
        normed = self.norms[0](x_BQD)
        x_BQD = (x_BQD + self.dropout(self.self_attention(normed, normed)))[:, :keep]
        x_BQD = x_BQD + self.dropout(self.scene_attention(self.norms[1](x_BQD), scene_BMD))
        if self.memory_attention is not None:
            x_BQD = x_BQD + self.dropout(self.memory_attention(self.norms[3](x_BQD), memory_BMD))
        return x_BQD + self.dropout(self.feed_forward(self.norms[2](x_BQD)))
