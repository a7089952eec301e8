"""Sizes of the latent-action model's parts. Needs no torch."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal


@dataclass(frozen=True, slots=True)
class EncoderConfig:
    """Sizes of an encoder of observation pairs."""

    match_width: int = 32  # channels in which places are matched
    reach_h: int = 3  # cells up and down within which a place is looked for
    reach_w: int = 5  # cells left and right
    width: int = 64  # channels on the coarsest grid
    hidden: int = 128  # units between the coarsest grid and the tokens


@dataclass(frozen=True, slots=True)
class DynamicsConfig:
    """Sizes of one stage of forward dynamics."""

    width: int = 64  # channels on the coarse grid
    fields: int = 12  # flow fields that a stage mixes
    hidden: int = 64  # units between the condition and the mixing weights
    # True: paint the second observation without moving the first (for comparison)
    direct: bool = False


@dataclass(frozen=True, slots=True)
class SweepConfig:
    """The ground that is compared, and the motions that are tried."""

    near_m: float = 4.0  # from the rear axle: nearer ground is below the image
    far_m: float = 8.0  # further ground is too coarse in the image
    side_m: float = 1.5  # to both sides
    cell_m: float = 0.25  # between the places, and between the distances tried
    reach_m: float = 8.0  # longest distance tried
    turn_rad: float = 0.3  # largest turn tried, to both sides
    turns: int = 31  # R, odd

    @property
    def distances(self) -> int:
        """D."""
        return round(self.reach_m / self.cell_m) + 1


@dataclass(frozen=True, slots=True)
class QuantizerConfig:
    """What the bottleneck is."""

    # gradient: rotation trick, straight through; or fixed grid
    kind: Literal["rotation", "ema", "fsq"] = "rotation"
    codes: int = 16  # entries of the codebook, shared by all tokens; fsq: 16 or 64
    tokens: int = 4  # codes of one transition
    code_dim: int = 8  # numbers an entry has
    decay: float = 0.95  # of the moving averages that are the codebook (rotation, ema)
    commitment: float = 0.25  # weight that pulls the encoder to its code (rotation, ema)
    # steps of training with continuous tokens before the first discrete one
    warmup_steps: int = 60
    # a code whose moving average of uses a batch falls below is placed anew (rotation, ema)
    dead_below: float = 2.0


@dataclass(frozen=True, slots=True)
class LatentActionConfig:
    """The model's parts and sizes."""

    image_hw: tuple[int, int] = (48, 80)  # pixels; multiples of 16, or of the vision model's patch
    observation: Literal["pixels", "features"] = "pixels"
    vision_model: str = ""  # local folder of the frozen vision model, for features
    environment: Literal["frozen", "none"] = (
        "frozen"  # none: one phase only, without environment codes (ablation)
    )
    motion: int = 32  # numbers in which codes or trajectory tell a stage the motion
    ego_motion_weight: float = (
        0.0  # of a head that reads the motion off the ego codes; 0: images alone
    )
    environment_quantizer: QuantizerConfig = field(
        default_factory=lambda: QuantizerConfig(warmup_steps=30)
    )
    ego_quantizer: QuantizerConfig = field(
        default_factory=lambda: QuantizerConfig(kind="ema", code_dim=1, warmup_steps=80)
    )
    environment_encoder: EncoderConfig = field(
        default_factory=lambda: EncoderConfig(match_width=16, reach_h=1, reach_w=2, width=48)
    )
    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    sweep: SweepConfig | None = field(
        default_factory=SweepConfig
    )  # the ego encoder's look at the road; of pixels only
    # stages: what the environment codes decide, and what the motion decides
    change: DynamicsConfig = field(default_factory=lambda: DynamicsConfig(width=32, fields=6))
    move: DynamicsConfig = field(default_factory=DynamicsConfig)

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> "LatentActionConfig":
        """The configuration that dataclasses.asdict made plain, also after a trip through JSON."""
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
