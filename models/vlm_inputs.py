"""What the vision-language model reads: tokenizer, prompt, image patches, rotary positions. Not the
network.

The same code serves the small model made here and real Qwen2.5-VL weights from a local folder: only
the tokenizer's merges and the image statistics differ. Everything is deterministic array code; no
hub, no torchvision. Legend: B rows, L prompt tokens, V visual tokens, gh x gw image patches, H x W
pixels.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from einops import rearrange, repeat
from tokenizers import Tokenizer, decoders, pre_tokenizers
from tokenizers import models as tokenizer_models
from transformers import (
    AutoImageProcessor,
    AutoTokenizer,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
)
from transformers import Qwen2VLImageProcessorPil as ImageProcessor

CODE_COUNT = 16
_ACTIONS = [f"<ACT_{code}>" for code in range(CODE_COUNT)]
_SPECIAL = [
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|image_pad|>",
    "<|video_pad|>",
]
_WORDS = [
    "user\n",
    "assistant\n",
    "left",
    "straight",
    "right",
    "unknown",
    " v=",
    " a=",
]  # one token each
_COMMANDS = (
    "left",
    "straight",
    "right",
    "unknown",
)  # order of the one-hot command in the ego status


@dataclass(frozen=True, slots=True)
class VlmInputs:
    """One batch, padded on the left so that every row ends at the same place."""

    input_ids_BL: torch.Tensor  # int64
    pad_B: torch.Tensor  # int64, padding tokens on the left of each row
    pixels: torch.Tensor  # (B * gh * gw, 3 * 2 * patch * patch) float32, Qwen2-VL's patch order
    grid_thw_B3: torch.Tensor  # int64: 1, gh, gw
    positions_3T: (
        torch.Tensor
    )  # int64 (3, L + room for the codes): rotary positions of an unpadded row

    def to(self, device: torch.device) -> "VlmInputs":
        """The same batch on another device."""
        return VlmInputs(*(getattr(self, name).to(device) for name in VlmInputs.__slots__))


def build_tokenizer() -> PreTrainedTokenizerBase:
    """A byte-level tokenizer without merges: any text encodes and decodes back; the prompt's words
    are one token.
    """
    vocabulary = {
        symbol: index for index, symbol in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))
    }
    bytes_only = Tokenizer(tokenizer_models.BPE(vocab=vocabulary, merges=[]))
    bytes_only.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bytes_only.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=bytes_only,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        additional_special_tokens=_SPECIAL,
        padding_side="left",
    )
    tokenizer.add_tokens(_WORDS)
    return tokenizer


def prompts(status: np.ndarray) -> list[str]:
    """The text of each row from its ego status (N, 8): command, speed in m/s, forward acceleration
    in m/s2.

    The width is fixed, so that rows of one command need no padding.
    """
    speed_mps = np.hypot(status[:, 0], status[:, 1])
    return [
        f"{_COMMANDS[command]} v={speed:04.1f} a={acceleration:+04.1f}"
        for command, speed, acceleration in zip(
            status[:, 4:8].argmax(axis=1), speed_mps, status[:, 2], strict=True
        )
    ]


class VlmProcessor:
    """Turns images and prompts into a VlmInputs; saved beside the model in the Hugging Face layout."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, image_processor: ImageProcessor) -> None:
        tokenizer.padding_side = "left"
        self.new_actions = bool(tokenizer.add_tokens(_ACTIONS, special_tokens=True))
        self.tokenizer, self.image_processor = tokenizer, image_processor
        vocabulary = tokenizer.get_vocab()
        actions = [vocabulary[token] for token in _ACTIONS]
        self.first_action, self.image_pad = actions[0], vocabulary["<|image_pad|>"]
        assert actions == list(range(actions[0], actions[0] + CODE_COUNT)), (
            "action tokens must be contiguous"
        )
        self.patch, self.merge = image_processor.patch_size, image_processor.merge_size
        self.temporal = image_processor.temporal_patch_size
        self._mean = torch.tensor(image_processor.image_mean).view(1, 3, 1, 1)
        self._std = torch.tensor(image_processor.image_std).view(1, 3, 1, 1)

    @classmethod
    def build(cls) -> "VlmProcessor":
        """The processor of the small model: byte tokenizer, Qwen2-VL's image statistics and patch
        size.
        """
        return cls(
            build_tokenizer(), ImageProcessor(patch_size=14, temporal_patch_size=2, merge_size=2)
        )

    @classmethod
    def from_pretrained(cls, folder: Path) -> "VlmProcessor":
        """Tokenizer and image statistics from a local folder, ours or Qwen's own."""
        return cls(
            AutoTokenizer.from_pretrained(folder, local_files_only=True),
            AutoImageProcessor.from_pretrained(folder, local_files_only=True),
        )

    def save(self, folder: Path) -> None:
        """Write tokenizer and image processor files."""
        self.tokenizer.save_pretrained(folder)
        self.image_processor.save_pretrained(folder)

    def image_multiple(self) -> int:
        """Height and width of an image must be multiples of this number of pixels."""
        return self.patch * self.merge

    def __call__(self, images_BHWC: torch.Tensor, texts: Sequence[str], room: int) -> VlmInputs:
        """Images uint8 RGB and one prompt each; `room` is the number of code tokens that will
        follow.
        """
        batch, height, width, _ = images_BHWC.shape
        grid = (height // self.patch, width // self.patch)
        pads = "<|image_pad|>" * (grid[0] * grid[1] // self.merge**2)
        chats = [
            f"<|im_start|>user\n<|vision_start|>{pads}<|vision_end|>{text}<|im_end|>\n<|im_start|>assistant\n"
            for text in texts
        ]
        tokens = self.tokenizer(chats, padding=True, return_tensors="pt")
        ids_BL, pad_B = tokens["input_ids"], (tokens["attention_mask"] == 0).sum(dim=1)
        image_start = int((ids_BL[0] == self.image_pad).nonzero()[0, 0] - pad_B[0])
        return VlmInputs(
            input_ids_BL=ids_BL,
            pad_B=pad_B,
            pixels=self.patchify(images_BHWC),
            grid_thw_B3=torch.tensor([[1, *grid]]).expand(batch, 3).contiguous(),
            positions_3T=rope_positions(
                image_start, (grid[0] // self.merge, grid[1] // self.merge), ids_BL.shape[1] + room
            ),
        )

    def patchify(self, images_BHWC: torch.Tensor) -> torch.Tensor:
        """Normalised patches in Qwen2-VL's order, bit-equal to its image processor; the frame is
        repeated in time.
        """
        device, patch, merge = images_BHWC.device, self.patch, self.merge
        split = rearrange(
            images_BHWC,
            "b (gh mh ph) (gw mw pw) c -> (b gh gw mh mw) c ph pw",
            ph=patch,
            pw=patch,
            mh=merge,
            mw=merge,
        )
        values = (split.float() / 255 - self._mean.to(device)) / self._std.to(device)
        return repeat(values, "n c ph pw -> n (c t ph pw)", t=self.temporal)


def rope_positions(image_start: int, merged_grid: tuple[int, int], length: int) -> torch.Tensor:
    """Three-axis rotary positions (3, length) of an unpadded row with one image: the M-RoPE of
    Qwen2-VL, section 2.1.

    Text counts on all axes; the image holds time still and counts rows and columns; text then goes
    on after the larger side of the image. The image stands at the same place in every row, so one
    table serves a whole batch.
    """
    rows, columns = torch.meshgrid(*(torch.arange(size) for size in merged_grid), indexing="ij")
    image = torch.stack([torch.zeros_like(rows), rows, columns]).flatten(1) + image_start
    after = torch.arange(length - image_start - image.shape[1]) + image_start + max(merged_grid)
    return torch.cat([torch.arange(image_start).expand(3, -1), image, after.expand(3, -1)], dim=1)
