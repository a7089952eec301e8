"""Which Qwen2.5-VL, and how it is trained. Needs no torch."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class VlmConfig:
    """Which Qwen2.5-VL, and how it is trained. The sizes count only where `pretrained` is None."""

    # local folder with real weights, Hugging Face layout; None: a small new model
    pretrained: str | None = None
    hidden: int = 128  # width of the language model
    layers: int = 4  # blocks of the language model
    heads: int = 4  # query heads
    vision_layers: int = 2  # blocks of the vision tower, all with full attention
    vision_hidden: int = 128  # width of the vision tower
    dtype: str = "float32"  # parameters and activations: float32 or bfloat16
    attention: str = "sdpa"  # sdpa, eager or flash_attention_2
    # 0: train everything; else low-rank adapters on the language model
    lora_rank: int = 0
    gradient_checkpointing: bool = False
