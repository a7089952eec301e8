"""The host planner: image backbone, ego status and command -> scene tokens -> scored trajectory proposals. Not the VLM.

Learned queries, one a proposal, look at the scene (and at a second memory: the VLM's pooled states, or the student's
imitation of them). Each gives a plan as an offset from driving straight on at the present speed. Two judgements choose
among them: how a human would go (mode), and the PDM sub-scores predicted for the plan (score).
Legend: B rows, K proposals, T scene tokens, M memory tokens, D width, R sub-scores; a plan is (8, 3): x, y, heading.
"""

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import nn

from models.attention import Attention, DecoderBlock, SwiGLU

PLAN_STEPS, STEP_S = 8, 0.5
STATUS_WIDTH = 8                                            # vx, vy, ax, ay, one-hot command
_PLAN_UNITS = (0.05, 0.2, 2.0)                              # 1 / m, 1 / m, 1 / rad: brings a plan's poses to about 1
SUBSCORES = ("nc", "dac", "ttc", "ep", "comfort")           # what the score head predicts, in this order


@dataclass(frozen=True, slots=True)
class PlannerConfig:
    """Sizes of the host planner, and the constants of its outputs."""

    image_hw: tuple[int, int] = (56, 112)           # pixels of the backbone's input
    channels: tuple[int, ...] = (48, 96, 128)       # of the backbone's stages: 1/4, 1/8, 1/16 of the image
    width: int = 96                                 # of the tokens
    heads: int = 4
    blocks: int = 2                                 # decoder blocks
    proposals: int = 12                             # K
    dropout: float = 0.1
    second_memory: bool = False                     # cross-attention to the VLM's (or student's) memory tokens
    offset_scale: tuple[tuple[float, float, float], ...] = ((1.0, 1.0, 1.0),) * PLAN_STEPS  # m, m, rad: offset_scale()
    score_weight: float = 0.0                       # of the predicted PDM score against the mode; 0: no scorer trained


@dataclass(frozen=True, slots=True)
class Proposals:
    """What the planner proposes for a batch."""

    plans_BK83: torch.Tensor        # m, m, rad in the ego frame
    mode_logits_BK: torch.Tensor    # how likely a human would take it
    features_BKD: torch.Tensor      # the proposals' queries after the decoder
    scene_BTD: torch.Tensor         # scene tokens


def straight_on(status_B8: torch.Tensor) -> torch.Tensor:
    """Plans (B, 8, 3) of driving straight on at the present forward speed: the anchor of every learned plan."""
    times_8 = torch.arange(1, PLAN_STEPS + 1, device=status_B8.device) * STEP_S
    x_B8 = status_B8[:, :1] * times_8
    return torch.stack([x_B8, torch.zeros_like(x_B8), torch.zeros_like(x_B8)], dim=-1)


def offset_scale(status_N8: torch.Tensor, future_N83: torch.Tensor) -> tuple[tuple[float, float, float], ...]:
    """Root mean square offset of the recorded futures from the anchor, for each step and axis (at least 0.02)."""
    scale_83 = (future_N83 - straight_on(status_N8)).square().mean(dim=0).sqrt().clamp(min=0.02)
    return tuple(tuple(round(float(value), 4) for value in row) for row in scale_83)     # type: ignore[misc]


class Backbone(nn.Module):
    """A small convolutional stack: 7x7 with stride 4, then 3x3 with stride 2, each followed by a residual 3x3."""

    def __init__(self, channels: tuple[int, ...]) -> None:
        super().__init__()
        self.down = nn.ModuleList([_conv(3, channels[0], 7, 4)])
        self.down.extend(_conv(fan_in, fan_out, 3, 2) for fan_in, fan_out in pairwise(channels))
        self.mix = nn.ModuleList(_conv(width, width, 3, 1) for width in channels)

    def forward(self, images_BHW3: torch.Tensor) -> torch.Tensor:
        """uint8 images -> features (B, C, h, w)."""
        x = images_BHW3.permute(0, 3, 1, 2).float() / 127.5 - 1.0      # strides of channels_last: faster on the CPU
        for down, mix in zip(self.down, self.mix, strict=True):
            x = down(x)
            x = x + mix(x)
        return x


def _conv(fan_in: int, fan_out: int, kernel: int, stride: int) -> nn.Sequential:
    conv = nn.Conv2d(fan_in, fan_out, kernel, stride, kernel // 2, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(fan_out), nn.ReLU())


class ScoreHead(nn.Module):
    """Predicts the PDM sub-scores of plans from their shape, their queries, and a look at the scene."""

    def __init__(self, config: PlannerConfig) -> None:
        super().__init__()
        self.embed = nn.Linear(3 * PLAN_STEPS, config.width)
        self.norms = nn.ModuleList(nn.LayerNorm(config.width) for _ in range(2))
        self.attention = Attention(config.width, config.heads)
        self.feed_forward = SwiGLU(config.width)
        self.out = nn.Linear(config.width, len(SUBSCORES))

    def forward(self, features_BKD: torch.Tensor, plans_BK83: torch.Tensor, scene_BTD: torch.Tensor) -> torch.Tensor:
        """Logits (B, K, R)."""
        x = features_BKD + self.embed((plans_BK83 * plans_BK83.new_tensor(_PLAN_UNITS)).flatten(-2))
        x = x + self.attention(self.norms[0](x), scene_BTD)
        return self.out(x + self.feed_forward(self.norms[1](x)))


class Planner(nn.Module):
    """Scene tokens and proposals; with `second_memory`, its blocks also attend to memory tokens given from outside."""

    scale_83: torch.Tensor
    status_scale_8: torch.Tensor

    def __init__(self, config: PlannerConfig) -> None:
        super().__init__()
        self.config = config
        grid = [-(-size // 2 ** (len(config.channels) + 1)) for size in config.image_hw]
        self.backbone = Backbone(config.channels)
        self.to_tokens = nn.Linear(config.channels[-1], config.width)
        self.place_TD = nn.Parameter(0.02 * torch.randn(grid[0] * grid[1], config.width))
        self.status = nn.Sequential(nn.Linear(STATUS_WIDTH, config.width), nn.ReLU(),
                                    nn.Linear(config.width, config.width))
        self.scene_norm = nn.LayerNorm(config.width)
        self.queries_KD = nn.Parameter(torch.randn(config.proposals, config.width))
        self.blocks = nn.ModuleList(DecoderBlock(config.width, config.heads, config.dropout, config.second_memory)
                                    for _ in range(config.blocks))
        self.norm = nn.LayerNorm(config.width)
        self.to_plan = nn.Sequential(nn.Linear(config.width, 2 * config.width), nn.ReLU(),
                                     nn.Linear(2 * config.width, 3 * PLAN_STEPS))
        self.to_mode = nn.Linear(config.width, 1)
        self.scorer = ScoreHead(config)
        self.register_buffer("scale_83", torch.tensor(config.offset_scale), persistent=False)
        self.register_buffer("status_scale_8", torch.tensor([0.1, 1.0, 0.5, 0.5, 1, 1, 1, 1]), persistent=False)

    def scene(self, images_BHW3: torch.Tensor, status_B8: torch.Tensor) -> torch.Tensor:
        """Scene tokens (B, T, D): the image grid row by row, then the ego status."""
        grid_BTC = self.backbone(images_BHW3).flatten(2).transpose(1, 2)
        status_B1D = self.status(status_B8 * self.status_scale_8)[:, None]
        return self.scene_norm(torch.cat([self.to_tokens(grid_BTC) + self.place_TD, status_B1D], dim=1))

    def propose(self, scene_BTD: torch.Tensor, status_B8: torch.Tensor, memory_BMD: torch.Tensor | None) -> Proposals:
        """Proposals from scene tokens, ego status, and the second memory where the planner has one."""
        x_BKD = self.queries_KD + scene_BTD[:, -1:]
        for block in self.blocks:
            x_BKD = block(x_BKD, scene_BTD, memory_BMD)
        x_BKD = self.norm(x_BKD)
        offsets_BK83 = self.to_plan(x_BKD).unflatten(-1, (PLAN_STEPS, 3)) * self.scale_83
        return Proposals(straight_on(status_B8)[:, None] + offsets_BK83, self.to_mode(x_BKD)[..., 0], x_BKD, scene_BTD)

    def forward(self, images_BHW3: torch.Tensor, status_B8: torch.Tensor,
                memory_BMD: torch.Tensor | None = None) -> Proposals:
        """Images uint8 (B, H, W, 3), ego status (B, 8): vx, vy, ax, ay in SI units and the one-hot command."""
        return self.propose(self.scene(images_BHW3, status_B8), status_B8, memory_BMD)

    def score(self, found: Proposals) -> torch.Tensor:
        """Logits (B, K, R) of the proposals' PDM sub-scores."""
        return self.scorer(found.features_BKD, found.plans_BK83, found.scene_BTD)

    def choose(self, found: Proposals) -> torch.Tensor:
        """The best plan (B, 8, 3): mode, and where a scorer was trained the PDM score composed from its sub-scores."""
        merit_BK = found.mode_logits_BK.log_softmax(dim=-1).clamp(min=-9.2)
        if self.config.score_weight > 0:
            merit_BK = merit_BK + self.config.score_weight * compose_log_score(self.score(found))
        best_B = merit_BK.argmax(dim=-1)
        return found.plans_BK83.gather(1, best_B[:, None, None, None].expand(-1, 1, PLAN_STEPS, 3))[:, 0]


def compose_log_score(logits_BKR: torch.Tensor) -> torch.Tensor:
    """log of PDMS = nc * dac * (5 ttc + 5 ep + 2 comfort) / 12 (NAVSIM v1) from logits in SUBSCORES' order."""
    nc, dac, ttc, ep, comfort = logits_BKR.clamp(-15, 15).sigmoid().unbind(dim=-1)     # log(0) would tie all proposals
    return nc.log() + dac.log() + ((5 * ttc + 5 * ep + 2 * comfort) / 12).log()


def plan_loss(found: Proposals, future_B83: torch.Tensor, scale_83: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Loss of a batch and the displacement error in m of its nearest proposals.

    The first proposal is drawn to every recorded future, so it learns the middle of what may happen; of the others only
    the nearest one is (winner takes all), so they spread; all feel 5 % of it, so that none is lost. Distances are L1 in
    metres, headings in units of their scale. The mode learns which proposals lie near (soft, 0.5 m).
    """
    error_BK83 = found.plans_BK83 - future_B83[:, None]
    ade_BK = error_BK83[..., :2].norm(dim=-1).mean(dim=-1)
    turn_BK = (error_BK83[..., 2] / scale_83[:, 2]).abs().mean(dim=-1)
    loss_BK = error_BK83[..., :2].abs().mean(dim=(-1, -2)) + 0.2 * turn_BK
    near_BK = (-ade_BK.detach() / 0.5).softmax(dim=-1)
    loss_B = loss_BK[:, 0] - 0.5 * (near_BK * found.mode_logits_BK.log_softmax(dim=-1)).sum(dim=-1)
    if loss_BK.shape[1] > 1:
        best_B1 = ade_BK[:, 1:].argmin(dim=-1, keepdim=True)
        loss_B = loss_B + 0.95 * loss_BK[:, 1:].gather(1, best_B1)[:, 0] + 0.05 * loss_BK[:, 1:].mean(dim=-1)
    return loss_B.mean(), ade_BK.detach().amin(dim=-1).mean()
