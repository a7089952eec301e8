"""Fusion of a frozen VLM with the planner: hidden states are pooled into memory tokens, which the
planner attends to.

The pooled tokens are keys and values of the cross-attention in the planner's decoder blocks. The
pooling is the attention block of UniVLA's action decoder, as in LatentVLA; average pooling is the
ablation.

Legend: B rows, V visual tokens, S code slots, T tokens of either stream, Q pooled tokens of a
stream, C VLM width, D planner width.
"""

import torch
from torch import nn

from models.planners.attention import Attention, SwiGLU
from models.planners.config import FusionConfig, PlannerConfig
from models.planners.planner import PlannerNet, Proposals, SceneFeatures


class AttentionPool(nn.Module):
    """Learned queries attend to a stream of hidden states: Linear, attention, SwiGLU."""

    def __init__(self, config: FusionConfig) -> None:
        super().__init__()
        self.project = nn.Sequential(
            nn.RMSNorm(config.vlm_width), nn.Linear(config.vlm_width, config.width)
        )
        self.queries_QD = nn.Parameter(0.02 * torch.randn(config.tokens, config.width))
        self.norms = nn.ModuleList(nn.RMSNorm(config.width) for _ in range(3))
        self.attention = Attention(config.width, config.heads)
        self.feed_forward = SwiGLU(config.width)

    def forward(
        self, hidden_BTC: torch.Tensor, condition_BQD: torch.Tensor | None = None
    ) -> torch.Tensor:
        stream_BTD = self.norms[0](self.project(hidden_BTC))
        query_BQD = self.queries_QD.expand(len(hidden_BTC), -1, -1)
        if condition_BQD is not None:
            query_BQD = query_BQD + condition_BQD
        pooled_BQD = query_BQD + self.attention(self.norms[1](query_BQD), stream_BTD)
        return pooled_BQD + self.feed_forward(self.norms[2](pooled_BQD))


class AveragePool(nn.Module):
    """The ablation: the mean over the stream, with one projection for each pooled token."""

    def __init__(self, config: FusionConfig) -> None:
        super().__init__()
        self.tokens = config.tokens
        self.project = nn.Sequential(
            nn.RMSNorm(config.vlm_width), nn.Linear(config.vlm_width, config.tokens * config.width)
        )

    def forward(
        self, hidden_BTC: torch.Tensor, condition_BQD: torch.Tensor | None = None
    ) -> torch.Tensor:
        pooled_BQD = self.project(hidden_BTC.mean(dim=1)).unflatten(-1, (self.tokens, -1))
        return pooled_BQD if condition_BQD is None else pooled_BQD + condition_BQD


class VlmFusion(nn.Module):
    """Pools the visual stream, then the action stream with queries conditioned on the visual
    tokens.
    """

    def __init__(self, config: FusionConfig) -> None:
        super().__init__()
        pool = {"attention": AttentionPool, "average": AveragePool}[config.pool]
        self.visual_pool, self.action_pool = pool(config), pool(config)
        self.norm = nn.RMSNorm(config.width)

    def forward(self, visual_BVC: torch.Tensor, action_BSC: torch.Tensor) -> torch.Tensor:
        """Memory tokens (B, 2 Q, D): keys and values of the planner's second cross-attention."""
        visual_BQD = self.visual_pool(visual_BVC)
        return self.norm(torch.cat([visual_BQD, self.action_pool(action_BSC, visual_BQD)], dim=1))


class FusedPlannerNet(nn.Module):
    """The host planner with the VLM's pooled hidden states as its second memory."""

    def __init__(self, config: PlannerConfig, fusion: FusionConfig) -> None:
        super().__init__()
        assert config.second_memory and config.width == fusion.width, (
            "the planner needs second_memory and the width of the fusion's memory tokens"
        )
        self.planner, self.fusion = PlannerNet(config), VlmFusion(fusion)
        self.fusion_config = fusion

    def hidden_matrices(self) -> list[torch.Tensor]:
        """Those of the planner, for Muon."""
        return self.planner.hidden_matrices()

    def forward(
        self,
        images_BHW3: torch.Tensor,
        camera_BN: torch.Tensor,
        status_B8: torch.Tensor,
        visual_BVC: torch.Tensor,
        action_BSC: torch.Tensor,
    ) -> tuple[Proposals, SceneFeatures]:
        """Images uint8 (B, H, W, 3), camera numbers (B, 19), ego status (B, 8), and the VLM's
        hidden states.
        """
        return self.planner(images_BHW3, camera_BN, status_B8, self.fusion(visual_BVC, action_BSC))
