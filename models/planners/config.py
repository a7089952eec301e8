"""Sizes of the networks that plan, and the constants of their inputs and outputs. Needs no torch."""

from dataclasses import dataclass, field

PLAN_STEPS, STEP_S = 8, 0.5
STATUS_WIDTH = 8  # vx, vy, ax, ay, one-hot command
SUBSCORES = ("nc", "dac", "ttc", "ep", "comfort")  # what the score head predicts, in this order


# storage.dataset.camera_numbers: ego -> camera (3, 4), fx, fy, cx, cy of +-1 images, k1, k2, k3
CAMERA_NUMBERS = 19


@dataclass(frozen=True, slots=True)
class GroundConfig:
    """The grid on the ground and the network over it."""

    # from the rear axle ahead to the grid's first border
    near_m: float = 3.0
    far_m: float = 45.0  # and to its last one
    side_m: float = 18.0  # to both sides
    cell_m: float = 1.0
    channels: tuple[int, ...] = (32, 64, 96)  # of the stages: 1/2, 1/4, 1/8 of the grid
    # F of the map that plans look at, at 1/2 of the grid
    features: int = 48

    @property
    def cells(self) -> tuple[int, int]:
        """(X, Y)."""
        return round((self.far_m - self.near_m) / self.cell_m), round(2 * self.side_m / self.cell_m)

    @property
    def tokens(self) -> int:
        """How many cells the coarsest stage has."""
        ahead, side = self.cells
        for _ in self.channels:
            ahead, side = -(-ahead // 2), -(-side // 2)
        return ahead * side


@dataclass(frozen=True, slots=True)
class PlannerConfig:
    """Sizes of the host planner, and the constants of its inputs and outputs."""

    image_hw: tuple[int, int] = (112, 224)  # pixels of its input
    channels: tuple[int, ...] = (32, 64, 96)  # of the image's stages: 1/8, 1/16, 1/32 of the image
    ground: GroundConfig = field(default_factory=GroundConfig)
    width: int = 96  # of the tokens
    heads: int = 4
    blocks: int = 2  # decoder blocks
    proposals: int = 8  # K
    dropout: float = 0.1
    second_memory: bool = False  # cross-attention to the VLM's memory tokens
    offset_scale: tuple[tuple[float, float, float], ...] = (
        (1.0, 1.0, 1.0),
    ) * PLAN_STEPS  # m, m, rad: offset_scale()
    camera: tuple[float, ...] = (
        0.0,
    ) * CAMERA_NUMBERS  # of the training logs: where a row brings none of its own
    score_weight: float = 0.0  # of the predicted PDM score against the mode; 0: no scorer trained


@dataclass(frozen=True, slots=True)
class FusionConfig:
    """How the VLM's hidden states enter the planner."""

    vlm_width: int = 128  # width of the hidden states; filled in from the VLM
    width: int = 96  # width of the planner; filled in from its configuration
    heads: int = 4
    tokens: int = 2  # pooled tokens of each of the two streams
    pool: str = "attention"  # attention, or average as ablation


@dataclass(frozen=True, slots=True)
class EgoMlpConfig:
    """NAVSIM's ego-status baseline: three hidden layers; the output is an offset from driving
    straight on.
    """

    hidden: int = 256  # units of each layer
    # m, m, rad
    offset_scale: tuple[tuple[float, float, float], ...] = ((1.0, 1.0, 1.0),) * PLAN_STEPS


@dataclass(frozen=True, slots=True)
class ImitatorConfig:
    """What stands beside the proposals."""

    memory_tokens: int = 4  # as many as the teacher's fusion module gives
