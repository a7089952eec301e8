"""Configurations of the planner networks and constants of their inputs and outputs.

Imports no torch.
"""

from dataclasses import dataclass, field

from models.ground_config import CAMERA_NUMBERS, GroundConfig

PLAN_STEPS = 8  # poses of a plan
STEP_S = 0.5  # time between two poses
STATUS_WIDTH = 8  # vx, vy in m/s, ax, ay in m/s2, one-hot command
SUBSCORES = ("nc", "dac", "ttc", "ep", "comfort")  # PDM sub-scores, in the score head's order


@dataclass(frozen=True, slots=True)
class PlannerConfig:
    """Sizes of the host planner and constants that it takes from its training data."""

    image_hw: tuple[int, int] = (112, 224)  # height and width of the input image in pixels
    channels: tuple[int, ...] = (32, 64, 96)  # of the backbone's stages at 1/8, 1/16, 1/32
    ground: GroundConfig = field(default_factory=GroundConfig)
    width: int = 96  # of the tokens
    heads: int = 4  # attention heads
    blocks: int = 2  # decoder blocks
    proposals: int = 8  # plans that the planner proposes, K
    dropout: float = 0.1
    second_memory: bool = False  # cross-attention to the VLM's memory tokens
    # scale of the offsets from the anchor in m, m, rad, one row a pose: planner.offset_scale()
    offset_scale: tuple[tuple[float, float, float], ...] = ((1.0, 1.0, 1.0),) * PLAN_STEPS
    # calibration of the training logs' camera, for rows without a calibration
    camera: tuple[float, ...] = (0.0,) * CAMERA_NUMBERS
    # weight of the predicted log PDM score beside the mode's log probability when choosing a plan;
    # 0: the planner has no trained score head
    score_weight: float = 0.0


@dataclass(frozen=True, slots=True)
class FusionConfig:
    """Sizes of the module that pools the VLM's hidden states into the planner's memory tokens."""

    vlm_width: int = 128  # width of the VLM's hidden states; filled in from the VLM
    width: int = 96  # width of the planner; filled in from the planner's configuration
    heads: int = 4  # attention heads
    tokens: int = 2  # pooled tokens of each of the two streams
    pool: str = "attention"  # attention, or average (ablation)


@dataclass(frozen=True, slots=True)
class EgoMlpConfig:
    """NAVSIM's ego-status MLP: three hidden layers; predicts offsets from the constant-velocity
    anchor.
    """

    hidden: int = 256  # units of each hidden layer
    # scale of the offsets from the anchor in m, m, rad, one row a pose: planner.offset_scale()
    offset_scale: tuple[tuple[float, float, float], ...] = ((1.0, 1.0, 1.0),) * PLAN_STEPS


@dataclass(frozen=True, slots=True)
class ImitatorConfig:
    """Sizes of the student's auxiliary queries and heads, which imitate the teacher."""

    memory_tokens: int = 4  # memory tokens of the teacher's fusion module
    code_slots: int = 12  # codes of a row that the teacher predicts
    codes: int = 16  # entries of the codebook
