"""The host planner: front image, ego status and command -> scene features -> scored trajectory
proposals.

The image is encoded twice: in the image plane, for traffic lights and everything above the ground,
and warped to a bird's-eye view, for the drivable ground. Each learned query is one proposal. A
decoder block attends to the scene and, where the planner has one, to a second memory (the VLM's
pooled hidden states), then predicts the plan as an offset from the constant-velocity anchor. Each
later block samples the ground features along the previous block's plan and refines it, as iPad does
(Guo et al. 2025). The plan is chosen by the mode (how likely a human would drive it) and by a PDM
score composed from predicted sub-scores.

Legend: B rows, K proposals, T scene tokens, M memory tokens, E auxiliary queries, Q = K + E
queries, D width, C channels, R sub-scores, N camera numbers, F ground features, X x Y cells ahead
and to the left; a plan is (8, 3): x, y, heading of the rear axle in m, m, rad.
"""

from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F

from models.conv_stack import ConvStack
from models.ground_view import GroundView
from models.linear_weights import linear_weights
from models.planners.attention import Attention, DecoderBlock, SwiGLU
from models.planners.config import PLAN_STEPS, STATUS_WIDTH, STEP_S, SUBSCORES, PlannerConfig
from models.planners.plan_feature_sampler import PLAN_UNITS, PlanFeatureSampler

_AUX_LAYER_WEIGHT = 0.3  # weight of the loss of each block before the last


@dataclass(frozen=True, slots=True)
class SceneFeatures:
    """Features of a batch that the proposals attend to and sample."""

    tokens_BTD: torch.Tensor  # cells of the image, then of the ground; the ego status is last
    ground_BFXY: torch.Tensor  # bird's-eye-view feature map of the ground


@dataclass(frozen=True, slots=True)
class Proposals:
    """Proposed plans of a batch."""

    plans_BK83: torch.Tensor  # m, m, rad in the ego frame
    mode_logits_BK: torch.Tensor  # how likely a human would drive each plan
    # plans and mode logits of the blocks before the last
    aux_layer_outputs: tuple[tuple[torch.Tensor, torch.Tensor], ...] = ()
    aux_BED: torch.Tensor | None = None  # final states of the auxiliary queries


def constant_velocity_anchor(status_B8: torch.Tensor) -> torch.Tensor:
    """Plans (B, 8, 3) that keep the present forward speed and heading: the anchor of every learned
    plan.
    """
    times_8 = torch.arange(1, PLAN_STEPS + 1, device=status_B8.device) * STEP_S
    x_B8 = status_B8[:, :1] * times_8
    return torch.stack([x_B8, torch.zeros_like(x_B8), torch.zeros_like(x_B8)], dim=-1)


def offset_scale(
    status_N8: torch.Tensor, future_N83: torch.Tensor
) -> tuple[tuple[float, float, float], ...]:
    """Root mean square offset of the recorded futures from the anchor, for each pose and axis, in
    m, m, rad; at least 0.02.
    """
    scale_83 = (
        (future_N83 - constant_velocity_anchor(status_N8))
        .square()
        .mean(dim=0)
        .sqrt()
        .clamp(min=0.02)
    )
    return tuple(tuple(round(float(value), 4) for value in row) for row in scale_83)  # type: ignore[misc]


class ScoreHead(nn.Module):
    """Predicts the PDM sub-scores of any plans from their poses, the ground features along them and
    the scene tokens.
    """

    def __init__(self, config: PlannerConfig) -> None:
        super().__init__()
        self.embed = nn.Linear(3 * PLAN_STEPS, config.width)
        self.sampler = PlanFeatureSampler(config.ground, config.width, PLAN_STEPS)
        self.status = nn.Linear(config.width, config.width)
        self.norms = nn.ModuleList(nn.LayerNorm(config.width) for _ in range(2))
        self.attention = Attention(config.width, config.heads)
        self.feed_forward = SwiGLU(config.width)
        self.out = nn.Linear(config.width, len(SUBSCORES))

    def forward(self, plans_BK83: torch.Tensor, scene: SceneFeatures) -> torch.Tensor:
        """Logits (B, K, R) of the sub-scores, in the order of SUBSCORES."""
        x = self.embed((plans_BK83 * plans_BK83.new_tensor(PLAN_UNITS)).flatten(-2)) + self.status(
            scene.tokens_BTD[:, -1:]
        )
        x = x + self.sampler(scene.ground_BFXY, plans_BK83)
        x = x + self.attention(self.norms[0](x), scene.tokens_BTD)
        return self.out(x + self.feed_forward(self.norms[1](x)))


class PlannerNet(nn.Module):
    """Scene features and proposals; with `second_memory`, the decoder blocks also attend to memory
    tokens given by the caller.
    """

    scale_83: torch.Tensor
    status_scale_8: torch.Tensor

    def __init__(self, config: PlannerConfig) -> None:
        super().__init__()
        self.config = config
        grid = [-(-size // 2 ** (len(config.channels) + 2)) for size in config.image_hw]
        self.backbone, self.ground = ConvStack(3, config.channels, 7, 4), GroundView(config.ground)
        self.to_tokens = nn.ModuleList(
            [
                nn.Linear(config.channels[-1], config.width),
                nn.Linear(config.ground.channels[-1], config.width),
            ]
        )
        self.position_embedding_TD = nn.Parameter(
            0.02 * torch.randn(grid[0] * grid[1] + config.ground.tokens, config.width)
        )
        self.status = nn.Sequential(
            nn.Linear(STATUS_WIDTH, config.width), nn.ReLU(), nn.Linear(config.width, config.width)
        )
        self.scene_norm = nn.LayerNorm(config.width)
        self.queries_KD = nn.Parameter(torch.randn(config.proposals, config.width))
        self.blocks = nn.ModuleList(
            DecoderBlock(config.width, config.heads, config.dropout, config.second_memory)
            for _ in range(config.blocks)
        )
        self.samplers = nn.ModuleList(
            PlanFeatureSampler(config.ground, config.width, PLAN_STEPS)
            for _ in range(config.blocks - 1)
        )
        self.norms = nn.ModuleList(nn.LayerNorm(config.width) for _ in range(config.blocks))
        self.to_plan = nn.ModuleList(
            nn.Sequential(
                nn.Linear(config.width, 2 * config.width),
                nn.ReLU(),
                nn.Linear(2 * config.width, 3 * PLAN_STEPS),
            )
            for _ in range(config.blocks)
        )
        self.to_mode = nn.Linear(config.width, 1)
        self.scorer = ScoreHead(config)
        self.register_buffer("scale_83", torch.tensor(config.offset_scale), persistent=False)
        self.register_buffer(
            "status_scale_8", torch.tensor([0.1, 1.0, 0.5, 0.5, 1, 1, 1, 1]), persistent=False
        )

    def hidden_matrices(self) -> list[torch.Tensor]:
        """Weights of the linear layers between inputs and outputs, for Muon."""
        scorer = self.scorer
        parts = (self.to_tokens, self.status[2], self.blocks, self.samplers, scorer.sampler)
        return linear_weights([*parts, scorer.status, scorer.attention, scorer.feed_forward])

    def scene(
        self,
        images_BHW3: torch.Tensor,
        image_locations: tuple[torch.Tensor, torch.Tensor],
        status_B8: torch.Tensor,
    ) -> SceneFeatures:
        """Scene features of images uint8 (B, H, W, 3) and ego status (B, 8); `image_locations` is
        self.ground.image_locations of the cameras.
        """
        # keeps the channels-last memory layout, which is faster on the CPU
        images_B3HW = images_BHW3.permute(0, 3, 1, 2).float() / 127.5 - 1.0
        grid_BTC = self.backbone(F.avg_pool2d(images_B3HW, 2))[-1].flatten(2).transpose(1, 2)
        ground_BFXY, coarse_BTC = self.ground(images_B3HW, *image_locations)
        cells_BTD = (
            torch.cat([self.to_tokens[0](grid_BTC), self.to_tokens[1](coarse_BTC)], dim=1)
            + self.position_embedding_TD
        )
        status_B1D = self.status(status_B8 * self.status_scale_8)[:, None]
        tokens_BTD = self.scene_norm(torch.cat([cells_BTD, status_B1D], dim=1))
        return SceneFeatures(tokens_BTD, ground_BFXY)

    def propose(
        self,
        scene: SceneFeatures,
        status_B8: torch.Tensor,
        memory_BMD: torch.Tensor | None = None,
        aux_queries_ED: torch.Tensor | None = None,
        return_aux: bool = True,
    ) -> Proposals:
        """Proposals from the scene, the ego status (B, 8) and, with `second_memory`, memory tokens
        (B, M, D).

        `aux_queries_ED` are decoded together with the proposals' queries, with self-attention among
        all of them, but propose no plans. With `return_aux=False` the last block does not compute
        their final states, and `aux_BED` is empty.
        """
        count = len(self.queries_KD)
        queries_QD = (
            self.queries_KD
            if aux_queries_ED is None
            else torch.cat([self.queries_KD, aux_queries_ED])
        )
        x_BQD = queries_QD + scene.tokens_BTD[:, -1:]
        plans_BK83, outputs = constant_velocity_anchor(status_B8)[:, None], []
        for number, block in enumerate(self.blocks):
            if number:
                refined_BKD = x_BQD[:, :count] + self.samplers[number - 1](
                    scene.ground_BFXY, plans_BK83
                )
                x_BQD = torch.cat([refined_BKD, x_BQD[:, count:]], dim=1)
            last = number + 1 == len(self.blocks)
            x_BQD = block(
                x_BQD, scene.tokens_BTD, memory_BMD, keep=count if last and not return_aux else None
            )
            normed_BKD = self.norms[number](x_BQD[:, :count])
            offsets_BK83 = (
                self.to_plan[number](normed_BKD).unflatten(-1, (PLAN_STEPS, 3)) * self.scale_83
            )
            outputs.append((plans_BK83 + offsets_BK83, self.to_mode(normed_BKD)[..., 0]))
            plans_BK83 = outputs[-1][0].detach()  # each block learns from its own offset alone
        return Proposals(*outputs[-1], tuple(outputs[:-1]), x_BQD[:, count:])

    def forward(
        self,
        images_BHW3: torch.Tensor,
        camera_BN: torch.Tensor,
        status_B8: torch.Tensor,
        memory_BMD: torch.Tensor | None = None,
    ) -> tuple[Proposals, SceneFeatures]:
        """Proposals and scene features from images uint8 (B, H, W, 3), camera numbers (B, 19) and
        ego status (B, 8): vx, vy, ax, ay in SI units and the one-hot command.
        """
        scene = self.scene(images_BHW3, self.ground.image_locations(camera_BN), status_B8)
        return self.propose(scene, status_B8, memory_BMD), scene

    def choose(self, proposals: Proposals, scene: SceneFeatures) -> torch.Tensor:
        """The best plan (B, 8, 3) by the mode and, with a trained score head, by the predicted PDM
        score.
        """
        selection_logits_BK = mode_preference(proposals)
        if self.config.score_weight > 0:
            selection_logits_BK = selection_logits_BK + self.judge(proposals.plans_BK83, scene)
        return best_plan(proposals.plans_BK83, selection_logits_BK)

    def judge(self, plans_BK83: torch.Tensor, scene: SceneFeatures) -> torch.Tensor:
        """What the predicted PDM score adds to the selection logits of any plans, (B, K)."""
        return self.config.score_weight * compose_log_score(self.scorer(plans_BK83, scene))


def mode_preference(proposals: Proposals) -> torch.Tensor:
    """What the mode adds to the selection logits of the proposals, (B, K)."""
    # the floor, 1e-4 as a probability, lets the score choose an unlikely plan
    return proposals.mode_logits_BK.log_softmax(dim=-1).clamp(min=-9.2)


def best_plan(plans_BK83: torch.Tensor, selection_logits_BK: torch.Tensor) -> torch.Tensor:
    """The plan (B, 8, 3) with the largest selection logit."""
    best_B = selection_logits_BK.argmax(dim=-1)
    index_B183 = best_B[:, None, None, None].expand(-1, 1, PLAN_STEPS, 3)
    return plans_BK83.gather(1, index_B183)[:, 0]


def compose_log_score(logits_BKR: torch.Tensor) -> torch.Tensor:
    """Log of PDMS = nc * dac * (5 ttc + 5 ep + 2 comfort) / 12 (NAVSIM v1), (B, K), from logits
    (B, K, R) in SUBSCORES' order.
    """
    # log(0) would make all proposals equal
    subscores_BKR = logits_BKR.clamp(-15, 15).sigmoid()
    weights_3 = subscores_BKR.new_tensor([5 / 12, 5 / 12, 2 / 12])
    average_BK = (subscores_BKR[..., 2:] * weights_3).sum(dim=-1)
    return subscores_BKR[..., :2].log().sum(dim=-1) + average_BK.log()


def plan_loss(
    proposals: Proposals, future_B83: torch.Tensor, scale_83: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Loss of a batch over all blocks, (), and the average displacement error in m of the nearest
    proposals of the last block, ().

    Rows whose future is NaN have none and are left out; one row at least must have a future.
    """
    known_B = future_B83.isfinite().flatten(1).all(dim=1)
    future_B83 = future_B83[known_B]
    loss, ade = _proposal_loss(
        proposals.plans_BK83[known_B], proposals.mode_logits_BK[known_B], future_B83, scale_83
    )
    for plans_BK83, mode_logits_BK in proposals.aux_layer_outputs:
        aux_loss, _ = _proposal_loss(
            plans_BK83[known_B], mode_logits_BK[known_B], future_B83, scale_83
        )
        loss = loss + _AUX_LAYER_WEIGHT * aux_loss
    return loss, ade


def score_loss(logits_BKR: torch.Tensor, subscores_BKR: torch.Tensor) -> torch.Tensor:
    """Binary cross-entropy with the sub-scores as soft targets, (); NaN marks a sub-score that is
    not known.
    """
    valid_BKR = subscores_BKR.isfinite()
    loss_BKR = F.binary_cross_entropy_with_logits(
        logits_BKR, subscores_BKR.nan_to_num(), reduction="none"
    )
    return (loss_BKR * valid_BKR).sum() / valid_BKR.sum().clamp(min=1)


def _proposal_loss(
    plans_BK83: torch.Tensor,
    mode_logits_BK: torch.Tensor,
    future_B83: torch.Tensor,
    scale_83: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Loss of one block's proposals, (), and the displacement error in m of the nearest ones, ().

    The first proposal learns from every recorded future, so it approaches the median. Of the others
    the nearest one gets 95 % of the weight (winner takes all), so they spread; 5 % goes to all of
    them, so that none stays untrained. Positions count as L1 in m, headings as L1 in units of their
    scale. The target of the mode is a softmax over the proposals' displacement errors (0.5 m).
    """
    error_BK83 = plans_BK83 - future_B83[:, None]
    ade_BK = error_BK83[..., :2].norm(dim=-1).mean(dim=-1)
    turn_BK = (error_BK83[..., 2] / scale_83[:, 2]).abs().mean(dim=-1)
    loss_BK = error_BK83[..., :2].abs().mean(dim=(-1, -2)) + 0.2 * turn_BK
    near_BK = (-ade_BK.detach() / 0.5).softmax(dim=-1)
    loss_B = loss_BK[:, 0] - 0.5 * (near_BK * mode_logits_BK.log_softmax(dim=-1)).sum(dim=-1)
    if loss_BK.shape[1] > 1:
        best_B1 = ade_BK[:, 1:].argmin(dim=-1, keepdim=True)
        loss_B = (
            loss_B
            + 0.95 * loss_BK[:, 1:].gather(1, best_B1)[:, 0]
            + 0.05 * loss_BK[:, 1:].mean(dim=-1)
        )
    return loss_B.mean(), ade_BK.detach().amin(dim=-1).mean()
