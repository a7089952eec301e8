"""Configuration of the latent-action model and of its parts. Imports no torch."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal


@dataclass(frozen=True, slots=True)
class EncoderConfig:
    """Sizes of an encoder of observation pairs."""

    match_width: int = 32  # channels of the features that are matched
    reach_h: int = 3  # search range of the matching up and down, in cells
    reach_w: int = 5  # search range of the matching left and right, in cells
    width: int = 64  # channels on the coarsest grid
    hidden: int = 128  # units between the coarsest grid and the tokens


@dataclass(frozen=True, slots=True)
class DynamicsConfig:
    """Sizes of one stage of forward dynamics."""

    width: int = 64  # channels on the coarse grid
    fields: int = 12  # flow fields that a stage mixes, F
    hidden: int = 64  # units between the condition and the mixing weights
    # True: predict the residual to the second observation without a flow (for comparison)
    direct: bool = False


@dataclass(frozen=True, slots=True)
class SweepConfig:
    """Ground patch that is compared, and grid of candidate motions."""

    near_m: float = 4.0  # from the rear axle ahead; nearer ground is below the image
    far_m: float = 8.0  # from the rear axle ahead; the image resolves farther ground too coarsely
    side_m: float = 1.5  # half width of the patch, to the left and to the right
    cell_m: float = 0.25  # spacing of the ground cells and of the candidate distances
    reach_m: float = 8.0  # largest candidate distance
    turn_rad: float = 0.3  # largest candidate turn, to both sides
    turns: int = 31  # number of candidate turns, R; odd

    @property
    def distances(self) -> int:
        """Number of candidate distances, D."""
        return round(self.reach_m / self.cell_m) + 1


@dataclass(frozen=True, slots=True)
class QuantizerConfig:
    """Kind, size and training of a codebook."""

    # rotation: rotation trick; ema: straight-through gradient; fsq: fixed grid
    kind: Literal["rotation", "ema", "fsq"] = "rotation"
    codes: int = 16  # entries of the codebook, shared by all tokens; fsq: 16 or 64
    tokens: int = 4  # codes of one transition, K
    code_dim: int = 8  # length of an entry, D
    decay: float = 0.95  # of the moving averages that form the codebook (rotation, ema)
    commitment: float = 0.25  # weight of the commitment loss (rotation, ema)
    warmup_steps: int = 60  # training steps with continuous tokens before quantisation starts
    # an entry is replaced when its moving average of uses a batch falls below this (rotation, ema)
    dead_below: float = 2.0


@dataclass(frozen=True, slots=True)
class LatentActionConfig:
    """Parts and sizes of the latent-action model."""

    # height and width in pixels; multiples of 16, or of the vision model's patch size
    image_hw: tuple[int, int] = (48, 80)
    # what the model compares: pixels, or patch features of a frozen vision model
    observation: Literal["pixels", "features"] = "pixels"
    # local folder of the frozen vision model; for features
    vision_model: str = field(default="", metadata={"content": True})
    # none: no environment codes, phase 2 alone (ablation)
    environment: Literal["frozen", "none"] = "frozen"
    motion: int = 32  # length of the motion embedding that conditions a stage, M
    # loss weight of a head that predicts the motion from the ego codes; 0: no motion supervision
    ego_motion_weight: float = 0.0
    environment_quantizer: QuantizerConfig = field(
        default_factory=lambda: QuantizerConfig(warmup_steps=30)
    )
    ego_quantizer: QuantizerConfig = field(
        default_factory=lambda: QuantizerConfig(kind="ema", tokens=2, code_dim=1, warmup_steps=80)
    )
    environment_encoder: EncoderConfig = field(
        default_factory=lambda: EncoderConfig(match_width=16, reach_h=1, reach_w=2, width=48)
    )
    encoder: EncoderConfig = field(default_factory=EncoderConfig)  # of the ego codes
    # motion sweep of the ego encoder; None: without, as features require
    sweep: SweepConfig | None = field(default_factory=SweepConfig)
    # stage that applies the environment codes
    change: DynamicsConfig = field(default_factory=lambda: DynamicsConfig(width=32, fields=6))
    # stage that applies the ego motion
    move: DynamicsConfig = field(default_factory=DynamicsConfig)

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> "LatentActionConfig":
        """The configuration from the result of dataclasses.asdict, also after a round trip through
        JSON.
        """
        parts = {
            "environment_quantizer": QuantizerConfig,
            "ego_quantizer": QuantizerConfig,
            "environment_encoder": EncoderConfig,
            "encoder": EncoderConfig,
            "change": DynamicsConfig,
            "move": DynamicsConfig,
            "sweep": SweepConfig,
        }
        nested = {
            name: kind(**plain[name]) for name, kind in parts.items() if plain[name] is not None
        }
        return cls(**{**plain, **nested, "image_hw": tuple(plain["image_hw"])})
