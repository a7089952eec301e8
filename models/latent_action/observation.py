"""Observation of an image by a latent-action model: its pixels, or the patch features of a frozen
vision model.

Legend: B rows, H x W pixels, L tokens, C channels, h x w cells of the observation.
"""

import math

import torch
from torch import Tensor, nn


class Pixels(nn.Module):
    """Pixels scaled to [0, 1]."""

    # matching happens at 1/4 of the resolution, forward dynamics at 1/8
    channels, match_downsamples, motion_downsamples = 3, 2, 3

    def __init__(self, image_hw: tuple[int, int]) -> None:
        super().__init__()
        self.grid_hw = image_hw

    def forward(self, images_BHW3: Tensor) -> Tensor:
        """Images uint8 (B, H, W, 3) -> (B, 3, H, W) float32."""
        return images_BHW3.permute(0, 3, 1, 2).float() / 255


class PatchFeatures(nn.Module):
    """Patch tokens of a frozen vision model (DINOv2 and similar) from a local folder; not part of a
    checkpoint.

    Raises ValueError if the image size is not a multiple of the patch size.
    """

    match_downsamples, motion_downsamples = 0, 0  # each patch is one cell
    mean: Tensor
    std: Tensor

    def __init__(self, path: str, image_hw: tuple[int, int]) -> None:
        super().__init__()
        from transformers import AutoModel

        self.vision = (
            AutoModel.from_pretrained(path, local_files_only=True).eval().requires_grad_(False)
        )
        patch = self.vision.config.patch_size
        if image_hw[0] % patch or image_hw[1] % patch:
            raise ValueError(
                f"the image size {image_hw} is not a multiple of the patch size of {path}: "
                f"choose a height and a width that are multiples of {patch}"
            )
        self.grid_hw = (image_hw[0] // patch, image_hw[1] // patch)
        self.channels = self.vision.config.hidden_size
        # statistics of ImageNet, with which these models were trained
        self.register_buffer(
            "mean", torch.tensor([0.485, 0.456, 0.406])[:, None, None], persistent=False
        )
        self.register_buffer(
            "std", torch.tensor([0.229, 0.224, 0.225])[:, None, None], persistent=False
        )

    def train(self, mode: bool = True) -> "PatchFeatures":
        """Stay in evaluation mode whatever `mode` is: the vision model is frozen."""
        return super().train(False)

    @torch.no_grad()
    def forward(self, images_BHW3: Tensor) -> Tensor:
        """Images uint8 (B, H, W, 3) -> (B, C, h, w): the last tokens of the sequence are the
        patches, after class and register tokens.
        """
        pixels_B3HW = (images_BHW3.permute(0, 3, 1, 2).float() / 255 - self.mean) / self.std
        tokens_BLC = self.vision(pixels_B3HW).last_hidden_state[:, -math.prod(self.grid_hw) :]
        return tokens_BLC.transpose(1, 2).unflatten(2, self.grid_hw)
