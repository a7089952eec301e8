"""Configuration of the vision-language model. Imports no torch."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class VlmConfig:
    """Weights or sizes of the Qwen2.5-VL, and how it is trained.

    The sizes (hidden to vision_hidden) apply only if `pretrained` is None.
    """

    # local folder with published weights in the Hugging Face layout; None: a small new model
    pretrained: str | None = None
    codes: int = 16  # entries of the codebook; filled in from the codebook
    slots: int = 12  # codes of a row; filled in from the relabeled rows
    hidden: int = 128  # width of the language model
    layers: int = 4  # blocks of the language model
    heads: int = 4  # query heads of the language model and heads of the vision tower
    vision_layers: int = 2  # blocks of the vision tower, all with full attention
    vision_hidden: int = 128  # width of the vision tower
    dtype: str = "float32"  # parameters and activations: float32 or bfloat16
    attention: str = "sdpa"  # sdpa, eager or flash_attention_2
    # 0: train all weights; otherwise the rank of the adapters (LoRA) on the language model
    lora_rank: int = 0
    gradient_checkpointing: bool = False  # recompute activations in the backward pass
