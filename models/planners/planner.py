"""The host planner: front image, ego status and command -> scene -> scored trajectory proposals.
Not the VLM.

It sees the image twice: as it is, for lights and everything that stands up, and laid out on the
ground, for where one can drive. Learned queries, one a proposal, look at the scene (and at a second
memory, the VLM's pooled states, or at queries beside them, the student's) and say a plan as an
offset from driving straight on at the present speed; between two blocks each looks at the ground
under its plan so far and mends it, as iPad's proposals do. Two judgements choose among the plans:
how a human would go (mode), and the PDM sub-scores predicted for each (score). Legend: B rows, K
proposals, T scene tokens, M memory tokens, D width, R sub-scores, N camera numbers, E companions, Q
= K + E; a plan is (8, 3).
"""

from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F

from models.conv_stack import ConvStack
from models.ground_view import GroundView
from models.planners.attention import Attention, DecoderBlock, SwiGLU
from models.planners.config import PLAN_STEPS, STATUS_WIDTH, STEP_S, SUBSCORES, PlannerConfig
from models.planners.plan_feature_sampler import PLAN_UNITS, PlanFeatureSampler

_AUX_LAYER_WEIGHT = 0.3  # of the loss of plans that a later block still mends


@dataclass(frozen=True, slots=True)
class SceneFeatures:
    """What the planner sees of a batch."""

    tokens_BTD: torch.Tensor  # the image's grid, the ground's grid, the ego status last
    ground_BFXY: torch.Tensor  # features on the ground


@dataclass(frozen=True, slots=True)
class Proposals:
    """What the planner proposes for a batch."""

    plans_BK83: torch.Tensor  # m, m, rad in the ego frame
    mode_logits_BK: torch.Tensor  # how likely a human would take it
    aux_layer_outputs: tuple[
        tuple[torch.Tensor, torch.Tensor], ...
    ] = ()  # plans and logits of the blocks before the last
    aux_BED: torch.Tensor | None = None  # what the queries beside them came to


def constant_velocity_anchor(status_B8: torch.Tensor) -> torch.Tensor:
    """Plans (B, 8, 3) of driving straight on at the present forward speed: the anchor of every
    learned plan.
    """
    times_8 = torch.arange(1, PLAN_STEPS + 1, device=status_B8.device) * STEP_S
    x_B8 = status_B8[:, :1] * times_8
    return torch.stack([x_B8, torch.zeros_like(x_B8), torch.zeros_like(x_B8)], dim=-1)


def offset_scale(
    status_N8: torch.Tensor, future_N83: torch.Tensor
) -> tuple[tuple[float, float, float], ...]:
    """Root mean square offset of the recorded futures from the anchor, for each step and axis (at
    least 0.02).
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
    """Predicts the PDM sub-scores of any plans from their shape, the ground on their way, and a
    look at the scene.
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
        """Logits (B, K, R)."""
        x = self.embed((plans_BK83 * plans_BK83.new_tensor(PLAN_UNITS)).flatten(-2)) + self.status(
            scene.tokens_BTD[:, -1:]
        )
        x = x + self.sampler(scene.ground_BFXY, plans_BK83)
        x = x + self.attention(self.norms[0](x), scene.tokens_BTD)
        return self.out(x + self.feed_forward(self.norms[1](x)))


class PlannerNet(nn.Module):
    """Scene features and proposals; with `second_memory`, its blocks also attend to memory tokens
    given from outside.
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
        self.place_TD = nn.Parameter(
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

    def scene(
        self,
        images_BHW3: torch.Tensor,
        places: tuple[torch.Tensor, torch.Tensor],
        status_B8: torch.Tensor,
    ) -> SceneFeatures:
        """What is seen: tokens (B, T, D) and features on the ground; `places` are
        self.ground.places of the cameras.
        """
        images_B3HW = (
            images_BHW3.permute(0, 3, 1, 2).float() / 127.5 - 1.0
        )  # strides of channels_last: faster on the CPU
        grid_BTC = self.backbone(F.avg_pool2d(images_B3HW, 2))[-1].flatten(2).transpose(1, 2)
        ground_BFXY, coarse_BTC = self.ground(images_B3HW, *places)
        seen_BTD = (
            torch.cat([self.to_tokens[0](grid_BTC), self.to_tokens[1](coarse_BTC)], dim=1)
            + self.place_TD
        )
        status_B1D = self.status(status_B8 * self.status_scale_8)[:, None]
        return SceneFeatures(self.scene_norm(torch.cat([seen_BTD, status_B1D], dim=1)), ground_BFXY)

    def propose(
        self,
        scene: SceneFeatures,
        status_B8: torch.Tensor,
        memory_BMD: torch.Tensor | None = None,
        aux_queries_ED: torch.Tensor | None = None,
        return_aux: bool = True,
    ) -> Proposals:
        """Proposals from the scene, ego status, and the second memory where the planner has one.

        `aux_queries_ED` are queries that stand beside the proposals' and propose nothing: all look
        at each other. Where they are not `return_aux`, what they come to in the last block is not
        worked out.
        """
        count = len(self.queries_KD)
        queries_QD = (
            self.queries_KD
            if aux_queries_ED is None
            else torch.cat([self.queries_KD, aux_queries_ED])
        )
        x_BQD = queries_QD + scene.tokens_BTD[:, -1:]
        plans_BK83, said = constant_velocity_anchor(status_B8)[:, None], []
        for number, block in enumerate(self.blocks):
            if number:
                mended_BKD = x_BQD[:, :count] + self.samplers[number - 1](
                    scene.ground_BFXY, plans_BK83
                )
                x_BQD = torch.cat([mended_BKD, x_BQD[:, count:]], dim=1)
            last = number + 1 == len(self.blocks)
            x_BQD = block(
                x_BQD, scene.tokens_BTD, memory_BMD, keep=count if last and not return_aux else None
            )
            normed_BKD = self.norms[number](x_BQD[:, :count])
            offsets_BK83 = (
                self.to_plan[number](normed_BKD).unflatten(-1, (PLAN_STEPS, 3)) * self.scale_83
            )
            said.append((plans_BK83 + offsets_BK83, self.to_mode(normed_BKD)[..., 0]))
            plans_BK83 = said[-1][0].detach()  # a block answers for its own step only
        return Proposals(*said[-1], tuple(said[:-1]), x_BQD[:, count:])

    def forward(
        self,
        images_BHW3: torch.Tensor,
        camera_BN: torch.Tensor,
        status_B8: torch.Tensor,
        memory_BMD: torch.Tensor | None = None,
    ) -> tuple[Proposals, SceneFeatures]:
        """Images uint8 (B, H, W, 3), camera numbers (B, 19), ego status (B, 8): vx, vy, ax, ay in
        SI units and the one-hot command.
        """
        scene = self.scene(images_BHW3, self.ground.places(camera_BN), status_B8)
        return self.propose(scene, status_B8, memory_BMD), scene

    def choose(self, found: Proposals, scene: SceneFeatures) -> torch.Tensor:
        """The best plan (B, 8, 3): mode, and where a scorer was trained the PDM score composed from
        its sub-scores.
        """
        selection_logits_BK = found.mode_logits_BK.log_softmax(dim=-1).clamp(min=-9.2)
        if self.config.score_weight > 0:
            selection_logits_BK = (
                selection_logits_BK
                + self.config.score_weight * compose_log_score(self.scorer(found.plans_BK83, scene))
            )
        best_B = selection_logits_BK.argmax(dim=-1)
        return found.plans_BK83.gather(1, best_B[:, None, None, None].expand(-1, 1, PLAN_STEPS, 3))[
            :, 0
        ]


def compose_log_score(logits_BKR: torch.Tensor) -> torch.Tensor:
    """log of PDMS = nc * dac * (5 ttc + 5 ep + 2 comfort) / 12 (NAVSIM v1) from logits in
    SUBSCORES' order.
    """
    factors_BKR = logits_BKR.clamp(-15, 15).sigmoid()  # log(0) would tie all proposals
    weighed_BK = (factors_BKR[..., 2:] * factors_BKR.new_tensor([5 / 12, 5 / 12, 2 / 12])).sum(
        dim=-1
    )
    return factors_BKR[..., :2].log().sum(dim=-1) + weighed_BK.log()


def plan_loss(
    found: Proposals, future_B83: torch.Tensor, scale_83: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Loss of a batch, aux_layer_outputs included, and the displacement error in m of its nearest
    proposals.
    """
    loss, ade = _proposal_loss(found.plans_BK83, found.mode_logits_BK, future_B83, scale_83)
    for plans_BK83, mode_logits_BK in found.aux_layer_outputs:
        loss = (
            loss
            + _AUX_LAYER_WEIGHT
            * _proposal_loss(plans_BK83, mode_logits_BK, future_B83, scale_83)[0]
        )
    return loss, ade


def score_loss(logits_BKR: torch.Tensor, subscores_BKR: torch.Tensor) -> torch.Tensor:
    """Binary cross-entropy with the sub-scores as soft targets; NaN marks a plan without a score."""
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
    """The first proposal is drawn to every recorded future, so it learns the middle of what may
    happen; of the others only the nearest one is (winner takes all), so they spread; all feel 5 %
    of it, so that none is lost. Distances are L1 in metres, headings in units of their scale. The
    mode learns which proposals lie near (soft, 0.5 m).
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
