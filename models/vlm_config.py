"""Configuration of the vision-language model. Imports no torch."""

from dataclasses import dataclass, field

STATUS_WIDTH = 9  # vx, vy, ax, ay, one-hot command, past yaw rate: FrameSet.motion_status


@dataclass(frozen=True, slots=True)
class BevImageConfig:
    """The ground in metres as a second image: a square ahead of the ego, seen from above."""

    near_m: float = 3.0  # from the rear axle ahead to the near border
    side_m: float = 42.0  # of the square
    pixels: int = 112  # of each side; a multiple of the patch size times the merge size


@dataclass(frozen=True, slots=True)
class VlmConfig:
    """Weights or sizes of the Qwen2.5-VL, and how it is trained.

    The sizes (hidden to vision_hidden) apply only if `pretrained` is None.
    """

    # local folder with published weights in the Hugging Face layout; None: a small new model
    pretrained: str | None = field(default=None, metadata={"content": True})
    codes: int = 16  # entries of the codebook; filled in from the codebook
    slots: int = 12  # codes of a row; filled in from the relabeled rows
    # height and width of the front image in pixels, multiples of the patch size times the merge
    # size; None: as it is read. The ground is laid out from the image as it is read.
    front_hw: tuple[int, int] | None = None
    bev: BevImageConfig | None = field(
        default_factory=BevImageConfig
    )  # None: the camera image only
    hidden: int = 128  # width of the language model
    layers: int = 4  # blocks of the language model
    heads: int = 4  # query heads of the language model and heads of the vision tower
    vision_layers: int = 2  # blocks of the vision tower, all with full attention
    vision_hidden: int = 128  # width of the vision tower
    dtype: str = "float32"  # parameters and activations: float32 or bfloat16
    attention: str = "sdpa"  # sdpa, eager or flash_attention_2
    # 0: train all weights; otherwise the rank of the adapters (LoRA) on the language model
    lora_rank: int = 0
    # recompute activations in the backward pass, with the same result
    gradient_checkpointing: bool = field(default=False, metadata={"how": True})
