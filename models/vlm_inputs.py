"""Inputs of the vision-language model: tokenizer, prompt, image patches and rotary positions.

The same code serves the small model and published Qwen2.5-VL weights from a local folder, which
differ in the tokenizer's merges and the image statistics. It is deterministic and needs neither a
hub nor torchvision.

Legend: B rows, L prompt tokens, T = L + number of tokens that follow, I images of all rows, gh x gw
patches of an image, H x W pixels, C colors.
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
    # (patches of all images, 3 * 2 * patch * patch) float32, Qwen2-VL's patch order
    pixels: torch.Tensor
    grid_thw_I3: torch.Tensor  # int64: 1, gh, gw of each image, row by row
    # int64: rotary positions of an unpadded row and of the tokens that follow it
    positions_3T: torch.Tensor

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
    """Prompt text of each row from its ego status (N, 8 or more): command, speed in m/s, forward
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

    def __call__(
        self, images: Sequence[torch.Tensor], texts: Sequence[str], room: int
    ) -> VlmInputs:
        """Inputs from one prompt a row and one or more images of it: each element of `images` is
        uint8 RGB (B, H, W, 3). `room` is the number of tokens that will follow the prompt.
        """
        batch = len(texts)
        grids = [
            (size[1] // self.patch, size[2] // self.patch)
            for size in (image.shape for image in images)
        ]
        merged = [(height // self.merge, width // self.merge) for height, width in grids]
        pads = "".join(
            f"<|vision_start|>{'<|image_pad|>' * (height * width)}<|vision_end|>"
            for height, width in merged
        )
        chats = [
            f"<|im_start|>user\n{pads}{text}<|im_end|>\n<|im_start|>assistant\n" for text in texts
        ]
        tokens = self.tokenizer(chats, padding=True, return_tensors="pt")
        ids_BL, pad_B = tokens["input_ids"], (tokens["attention_mask"] == 0).sum(dim=1)
        # all images of a row follow each other, in the order of their tokens
        patches = [self.patchify(image).unflatten(0, (batch, -1)) for image in images]
        grid_I3 = torch.tensor([[1, *grid] for grid in grids])
        return VlmInputs(
            input_ids_BL=ids_BL,
            pad_B=pad_B,
            pixels=torch.cat(patches, dim=1).flatten(0, 1),
            grid_thw_I3=grid_I3.repeat(batch, 1),
            positions_3T=rope_positions(
                self._image_starts(ids_BL[0, pad_B[0] :], merged), merged, ids_BL.shape[1] + room
            ),
        )

    def _image_starts(self, ids_L: torch.Tensor, grids: Sequence[tuple[int, int]]) -> list[int]:
        """Index of the first token of each image of an unpadded row."""
        pads, starts, first = (ids_L == self.image_pad).nonzero()[:, 0].tolist(), [], 0
        for height, width in grids:
            starts.append(pads[first])
            first += height * width
        return starts

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


def rope_positions(
    image_starts: Sequence[int], merged_grids: Sequence[tuple[int, int]], length: int
) -> torch.Tensor:
    """Three-axis rotary positions (3, length) of an unpadded row with images: M-RoPE (Wang et al.
    2024, Qwen2-VL, section 2.1).

    Text tokens count up on all axes; the tokens of an image keep the time position and count rows
    and columns; the text after it continues from its larger side. The images have the same
    positions in every row, so one table serves a whole batch.
    """
    parts, index, position = [], 0, 0
    for start, grid in zip(image_starts, merged_grids, strict=True):
        text = torch.arange(start - index) + position
        position += start - index
        rows, columns = torch.meshgrid(*(torch.arange(size) for size in grid), indexing="ij")
        image = torch.stack([torch.zeros_like(rows), rows, columns]).flatten(1) + position
        parts += [text.expand(3, -1), image]
        index, position = start + image.shape[1], position + max(grid)
    return torch.cat([*parts, (torch.arange(length - index) + position).expand(3, -1)], dim=1)
