"""Inputs of the vision-language model: tokenizer, prompt, image patches and rotary positions.

The same code serves the small model and published Qwen2.5-VL weights from a local folder, which
differ in the tokenizer's merges and the image statistics. It is deterministic and needs neither a
hub nor torchvision.

Legend: B rows, L prompt tokens, T = L + number of codes, gh x gw image patches, H x W pixels, C
colors.
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

_SPECIAL = [
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|image_pad|>",
    "<|video_pad|>",
]
# in the order of the one-hot command in the ego status
_COMMANDS = ("left", "straight", "right", "unknown")
# words of the prompt that are one token each
_WORDS = ["user\n", "assistant\n", *_COMMANDS, " v=", " a="]


@dataclass(frozen=True, slots=True)
class VlmInputs:
    """A batch, padded on the left so that the prompts of all rows end at the same position."""

    input_ids_BL: torch.Tensor  # int64
    pad_B: torch.Tensor  # int64, number of padding tokens on the left of each row
    pixels: torch.Tensor  # (B * gh * gw, 3 * 2 * patch * patch) float32, Qwen2-VL's patch order
    grid_thw_B3: torch.Tensor  # int64: 1, gh, gw
    positions_3T: torch.Tensor  # int64: rotary positions of an unpadded row and its codes

    def to(self, device: torch.device) -> "VlmInputs":
        """The same batch on another device."""
        return VlmInputs(*(getattr(self, name).to(device) for name in VlmInputs.__slots__))


def build_tokenizer() -> PreTrainedTokenizerBase:
    """A byte-level tokenizer without merges: it encodes and decodes any text without loss; each
    word of the prompt is one token.
    """
    vocabulary = {
        symbol: index for index, symbol in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))
    }
    byte_tokenizer = Tokenizer(tokenizer_models.BPE(vocab=vocabulary, merges=[]))
    byte_tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    byte_tokenizer.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=byte_tokenizer,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        additional_special_tokens=_SPECIAL,
        padding_side="left",
    )
    tokenizer.add_tokens(_WORDS)
    return tokenizer


def prompts(status: np.ndarray) -> list[str]:
    """Prompt text of each row from its ego status (N, 8): command, speed in m/s, forward
    acceleration in m/s2.

    Numbers have a fixed width, so rows with the same command have equal length.
    """
    speed_mps = np.hypot(status[:, 0], status[:, 1])
    return [
        f"{_COMMANDS[command]} v={speed:04.1f} a={acceleration:+04.1f}"
        for command, speed, acceleration in zip(
            status[:, 4:8].argmax(axis=1), speed_mps, status[:, 2], strict=True
        )
    ]


class VlmProcessor:
    """Converts images and prompts to VlmInputs; saved with the model in the Hugging Face layout."""

    def __init__(
        self, tokenizer: PreTrainedTokenizerBase, image_processor: ImageProcessor, codes: int
    ) -> None:
        names = [f"<ACT_{code}>" for code in range(codes)]
        tokenizer.padding_side = "left"
        self.codes = codes
        self.new_actions = bool(tokenizer.add_tokens(names, special_tokens=True))
        self.tokenizer, self.image_processor = tokenizer, image_processor
        vocabulary = tokenizer.get_vocab()
        actions = [vocabulary[name] for name in names]
        self.first_action, self.image_pad = actions[0], vocabulary["<|image_pad|>"]
        assert actions == list(range(actions[0], actions[0] + codes)), (
            "action tokens must be contiguous"
        )
        self.patch, self.merge = image_processor.patch_size, image_processor.merge_size
        self.temporal = image_processor.temporal_patch_size
        self._mean = torch.tensor(image_processor.image_mean).view(1, 3, 1, 1)
        self._std = torch.tensor(image_processor.image_std).view(1, 3, 1, 1)

    @classmethod
    def build(cls, codes: int) -> "VlmProcessor":
        """The processor of the small model: a byte-level tokenizer, and the image statistics and
        patch size of Qwen2-VL.
        """
        return cls(
            build_tokenizer(),
            ImageProcessor(patch_size=14, temporal_patch_size=2, merge_size=2),
            codes,
        )

    @classmethod
    def from_pretrained(cls, folder: Path, codes: int) -> "VlmProcessor":
        """Tokenizer and image statistics from a local folder, written by save() or published."""
        return cls(
            AutoTokenizer.from_pretrained(folder, local_files_only=True),
            AutoImageProcessor.from_pretrained(folder, local_files_only=True),
            codes,
        )

    def save(self, folder: Path) -> None:
        """Write tokenizer and image processor files."""
        self.tokenizer.save_pretrained(folder)
        self.image_processor.save_pretrained(folder)

    def image_multiple(self) -> int:
        """Number of pixels of which an image's height and width must be multiples."""
        return self.patch * self.merge

    def __call__(self, images_BHWC: torch.Tensor, texts: Sequence[str], room: int) -> VlmInputs:
        """Inputs from images uint8 RGB (B, H, W, 3) and one prompt each; `room` is the number of
        code tokens that will follow the prompt.
        """
        batch, height, width, _ = images_BHWC.shape
        grid = (height // self.patch, width // self.patch)
        pads = "<|image_pad|>" * (grid[0] * grid[1] // self.merge**2)
        chats = [
            f"<|im_start|>user\n<|vision_start|>{pads}<|vision_end|>{text}<|im_end|>\n"
            "<|im_start|>assistant\n"
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
        """Normalised patches in Qwen2-VL's order, bit-equal to its image processor; the image is
        repeated along time.
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
    """Three-axis rotary positions (3, length) of an unpadded row with one image: M-RoPE (Wang et
    al. 2024, Qwen2-VL, section 2.1).

    Text tokens count up on all axes; image tokens keep the time position and count rows and
    columns; the text after the image continues from its larger side. The image has the same
    position in every row, so one table serves a whole batch.
    """
    rows, columns = torch.meshgrid(*(torch.arange(size) for size in merged_grid), indexing="ij")
    image = torch.stack([torch.zeros_like(rows), rows, columns]).flatten(1) + image_start
    after = torch.arange(length - image_start - image.shape[1]) + image_start + max(merged_grid)
    return torch.cat([torch.arange(image_start).expand(3, -1), image, after.expand(3, -1)], dim=1)
