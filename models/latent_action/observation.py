"""What a latent-action model sees of an image: its pixels, or the patch features of a frozen vision
model. No training.

Legend: B batch, H x W pixels, C channels, h x w cells of the observation.
"""

import math

import torch
from torch import Tensor, nn


class Pixels(nn.Module):
    """Pixels as they are, in [0, 1]."""

    # strides 4 and 8 down to the grids of match and motion
    channels, match_downsamples, motion_downsamples = 3, 2, 3

    def __init__(self, image_hw: tuple[int, int]) -> None:
        super().__init__()
        self.grid_hw = image_hw

    def forward(self, images_BHW3: Tensor) -> Tensor:
        """uint8 images -> (B, 3, H, W) float."""
        return images_BHW3.permute(0, 3, 1, 2).float() / 255


class PatchFeatures(nn.Module):
    """Patch tokens of a vision model from a local folder (DINOv2 and its kin), frozen; never part
    of a checkpoint.
    """

    match_downsamples, motion_downsamples = 0, 0  # a patch is a cell already
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
                f"image size {image_hw} is no multiple of the patch size {patch} of {path}"
            )
        self.grid_hw = (image_hw[0] // patch, image_hw[1] // patch)
        self.channels = self.vision.config.hidden_size
        # ImageNet's, which these models were trained with
        self.register_buffer(
            "mean", torch.tensor([0.485, 0.456, 0.406])[:, None, None], persistent=False
        )
        self.register_buffer(
            "std", torch.tensor([0.229, 0.224, 0.225])[:, None, None], persistent=False
        )

    def train(self, mode: bool = True) -> "PatchFeatures":
        """Stay in evaluation mode: the vision model does not learn."""
        return super().train(False)

    @torch.no_grad()
    def forward(self, images_BHW3: Tensor) -> Tensor:
        """uint8 images -> (B, C, h, w): the last tokens of the sequence are the patches, after
        class and registers.
        """
        pixels_B3HW = (images_BHW3.permute(0, 3, 1, 2).float() / 255 - self.mean) / self.std
        tokens_BLC = self.vision(pixels_B3HW).last_hidden_state[:, -math.prod(self.grid_hw) :]
        return tokens_BLC.transpose(1, 2).unflatten(2, self.grid_hw)
