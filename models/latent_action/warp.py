"""Warping an image by a flow, and comparing two images at several scales.

Legend: B rows, C channels, H x W pixels. A flow is in units of half an image side, as in torch's
grid_sample: +1 in x moves the sampling point by half the image's width to the right.
"""

import torch
from torch import Tensor
from torch.nn import functional

from models.precision import without_autocast

SCALES = (1, 2, 4, 8)  # block sizes, in pixels, at which two images are compared


@without_autocast
def warp(image_BCHW: Tensor, flow_B2HW: Tensor) -> Tensor:
    """Sample `image` bilinearly at each pixel's position plus the flow, (B, C, H, W); outside the
    image the border repeats.
    """
    height, width = image_BCHW.shape[-2:]
    rows = (torch.arange(height, dtype=flow_B2HW.dtype, device=flow_B2HW.device) + 0.5) * (
        2 / height
    ) - 1
    columns = (torch.arange(width, dtype=flow_B2HW.dtype, device=flow_B2HW.device) + 0.5) * (
        2 / width
    ) - 1
    position_HW2 = torch.stack(torch.meshgrid(columns, rows, indexing="xy"), dim=-1)
    return functional.grid_sample(
        image_BCHW,
        position_HW2 + flow_B2HW.permute(0, 2, 3, 1),
        padding_mode="border",
        align_corners=False,
    )


def multiscale_l1(
    predicted_BCHW: Tensor, target_BCHW: Tensor, scales: tuple[int, ...] = SCALES
) -> Tensor:
    """Sum over scales of the mean absolute difference of block means, (); scales larger than the
    image are left out.
    """
    difference_BCHW = predicted_BCHW - target_BCHW
    total, pooled = difference_BCHW.new_zeros(()), 1
    for scale in scales:
        if scale > min(predicted_BCHW.shape[-2:]):
            break
        if scale != pooled:  # each scale is pooled from the one before: its blocks nest
            difference_BCHW = functional.avg_pool2d(difference_BCHW, scale // pooled)
            pooled = scale
        total = total + difference_BCHW.abs().mean()
    return total


def psnr_db(predicted_BCHW: Tensor, target_BCHW: Tensor) -> Tensor:
    """Peak signal-to-noise ratio in dB of each image of range [0, 1], (B,); at most 60, as rounding
    to 8 bits gives 59.
    """
    return -10 * (predicted_BCHW - target_BCHW).square().mean(dim=(1, 2, 3)).clamp(min=1e-6).log10()
