"""Train the VLM to predict the codes of a frame, and run the frozen VLM on frames.

The VLM's inputs are the front image, the ground seen from above, a prompt with command and ego
status, and the ego status once more as numbers; never the future. Each slot's distribution is its
marginal: the student imitates it.

Legend: N rows, B rows of a batch, V visual tokens, S code slots, K codes, C hidden width.
"""

from collections.abc import Iterator
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from models.ground_view import ground_image_locations, warp_to_bev
from models.vlm import ActionVlm
from models.vlm_config import BevImageConfig, VlmConfig
from models.vlm_inputs import VlmInputs, prompts
from ops.planners.training_arrays import TrainingArrays
from ops.pool import worker_pool
from ops.training.config import ComputeConfig, FitConfig
from ops.training.fit import fit
from ops.training.launch import Session
from ops.vla.code_accuracy import code_loss
from storage.camera import fit_images
from storage.dataset import FrameSet
from storage.errors import ConfigError

# starting a process takes as long as running the small VLM on this many rows
_MIN_ROWS_PER_PROCESS = 500


@dataclass(frozen=True, slots=True)
class VlmRows:
    """What the VLM sees of N rows."""

    images: np.ndarray  # (N, H, W, 3) uint8 RGB, the front camera
    status: np.ndarray  # (N, 9) float32, FrameSet.motion_status
    camera: np.ndarray  # (N, 19) float32, FrameSet.camera of these images

    @classmethod
    def of(cls, frames: FrameSet, image_hw: tuple[int, int] | None = None) -> "VlmRows":
        """Rows of a FrameSet, with images at `image_hw` (None: as they are)."""
        images = frames.images if image_hw is None else fit_images(frames.images, image_hw)
        return cls(images, frames.motion_status, frames.camera)

    def __len__(self) -> int:
        return len(self.images)

    def take(self, rows: np.ndarray | slice) -> "VlmRows":
        """The given rows."""
        return VlmRows(self.images[rows], self.status[rows], self.camera[rows])

    def with_images_of(self, rows: np.ndarray) -> "VlmRows":
        """The same ego status with the images and cameras of other rows, by index."""
        return VlmRows(self.images[rows], self.status, self.camera[rows])


@dataclass(frozen=True, slots=True)
class VlmOutputs:
    """Outputs of the frozen VLM on N rows."""

    codes: np.ndarray  # (N, S) int64, the most likely code of each slot
    code_logits: np.ndarray  # (N, S, K) float16
    action: np.ndarray  # (N, S, C) float16, hidden states that predict the codes
    visual: np.ndarray  # (N, V, C) float16, hidden states at the image


@dataclass(frozen=True, slots=True)
class VlmTraining:
    """The training of the VLM."""

    arrays: Path  # folder of TrainingArrays
    out: Path  # folder of the VLM
    vlm: VlmConfig
    fit: FitConfig
    seed: int


def vlm_loop(config: VlmTraining, session: Session) -> dict[str, Any]:
    """Training loop of the VLM; writes it in the Hugging Face layout, and returns its number of
    parameters.
    """
    torch.manual_seed(config.seed)
    vlm = ActionVlm.build(config.vlm)
    arrays = TrainingArrays.open(config.arrays)
    assert arrays.images is not None and arrays.camera is not None
    assert arrays.codes is not None and arrays.codes_valid is not None
    seen = VlmRows(arrays.images, arrays.status, arrays.camera)
    codes, valid = arrays.codes, arrays.codes_valid

    def loss_of(model: nn.Module, rows: np.ndarray) -> tuple[torch.Tensor, dict[str, float]]:
        codes_BS = torch.from_numpy(codes[rows]).to(session.device)
        valid_BS = torch.from_numpy(valid[rows]).to(session.device)
        logits_BSK = model(*vlm_inputs(vlm, seen.take(rows)))
        return code_loss(logits_BSK.float(), codes_BS, valid_BS)

    fit(session, vlm, loss_of, len(arrays), config.fit, config.seed)
    if session.rank == 0:
        vlm.save(config.out)
    return {"parameters": sum(parameter.numel() for parameter in vlm.parameters())}


def vlm_inputs(vlm: ActionVlm, rows: VlmRows) -> tuple[VlmInputs, torch.Tensor]:
    """The VLM's inputs and the ego status (B, 9) of a batch of rows, on its device.

    Raises ConfigError unless the image sides are multiples of the patch size times the merge size.
    """
    multiple, front = vlm.processor.image_multiple(), rows.images
    if vlm.front_hw is not None:
        require_front_hw(vlm.front_hw, front.shape[1:3])
        front = fit_images(front, vlm.front_hw)
    if front.shape[1] % multiple or front.shape[2] % multiple or 0 in front.shape[1:3]:
        raise ConfigError(
            "the VLM cannot cut these images into patches",
            found=front.shape[1:3],
            expected=f"sides that are multiples of {multiple}",
            do="read the frames at another size, 112 x 224 for example, or set VlmConfig.front_hw",
        )
    device = vlm.action_rows_KD.device
    views = [torch.from_numpy(np.ascontiguousarray(front)).to(device)]
    if vlm.bev is not None:
        pixels_BHW3 = torch.from_numpy(np.ascontiguousarray(rows.images)).to(device)
        views.append(bev_images(pixels_BHW3, torch.from_numpy(rows.camera).to(device), vlm.bev))
    inputs = vlm.processor(views, prompts(rows.status), room=vlm.tokens_after_prompt)
    return inputs.to(device), torch.from_numpy(rows.status).to(device)


def require_front_hw(front_hw: tuple[int, int], image_hw: tuple[int, ...]) -> None:
    """Raise ConfigError unless the VLM's front image can be made of images of this size by making
    them smaller: another aspect ratio would be cropped.
    """
    if front_hw[0] * image_hw[1] != front_hw[1] * image_hw[0] or front_hw[0] > image_hw[0]:
        raise ConfigError(
            "the VLM's front image does not fit the images that are read",
            found=f"VlmConfig.front_hw={front_hw}, images of {tuple(image_hw)}",
            expected="the same aspect ratio, and no larger",
            do="change VlmConfig.front_hw, or VlaConfig.image_hw",
        )


def bev_images(
    images_BHW3: torch.Tensor, camera_BN: torch.Tensor, config: BevImageConfig
) -> torch.Tensor:
    """The ground as images uint8 (B, P, P, 3), far border on top; black where it is not visible."""
    cell_m = config.side_m / config.pixels
    far_m = config.near_m + config.side_m
    ahead_P = far_m - cell_m * (torch.arange(config.pixels, device=camera_BN.device) + 0.5)
    left_P = config.side_m / 2 - cell_m * (
        torch.arange(config.pixels, device=camera_BN.device) + 0.5
    )
    points_P2 = torch.stack(torch.meshgrid(ahead_P, left_P, indexing="ij"), dim=-1).flatten(0, 1)
    with torch.autocast(camera_BN.device.type, enabled=False):  # geometry needs float32
        locations = ground_image_locations(camera_BN.float(), points_P2, (config.pixels,) * 2)
        bev_B3PP = warp_to_bev(images_BHW3.permute(0, 3, 1, 2).float(), *locations)
    return bev_B3PP.round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1)


def open_vlm(folder: Path, device: str | None = None) -> ActionVlm:
    """A finished VLM, frozen, in its saved dtype; on the GPU if there is one and no other device is
    given.
    """
    where = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    return ActionVlm.from_pretrained(folder, dtype="auto").to(where).requires_grad_(False).eval()


def run_vlm(vlm: ActionVlm, rows: VlmRows, batch: int = 32) -> VlmOutputs:
    """Run the VLM on N rows. The outputs of each batch are moved to the CPU at once."""
    vlm.eval()
    dtypes = {
        "codes_BS": np.int64,
        "logits_BSK": np.float16,
        "action_BSD": np.float16,
        "visual_BVD": np.float16,
    }
    outputs: dict[str, np.ndarray] = {}
    for part in _batches(len(rows), batch):
        predicted = vlm.predict(*vlm_inputs(vlm, rows.take(part)))
        for name, dtype in dtypes.items():
            values = getattr(predicted, name).float().cpu().numpy()
            if name not in outputs:
                outputs[name] = np.empty((len(rows), *values.shape[1:]), dtype)
            outputs[name][part] = values
    return VlmOutputs(*(outputs[name] for name in dtypes))


def run_vlm_in_processes(folder: Path, rows: VlmRows, compute: ComputeConfig) -> VlmOutputs:
    """run_vlm() of the finished VLM in `folder`; without a GPU, many rows are split over up to
    `compute.at_once` processes.
    """
    most = 1 if torch.cuda.is_available() else compute.at_once
    processes = min(most, len(rows) // _MIN_ROWS_PER_PROCESS)
    if processes <= 1:
        return run_vlm(open_vlm(folder), rows)
    run_part = partial(_run_part, folder, compute.threads)
    row_parts = [rows.take(part) for part in np.array_split(np.arange(len(rows)), processes)]
    with worker_pool(processes) as pool:
        parts = list(pool.map(run_part, row_parts))
    return VlmOutputs(
        *(
            np.concatenate([getattr(part, item.name) for part in parts])
            for item in fields(VlmOutputs)
        )
    )


def _run_part(folder: Path, threads: int, rows: VlmRows) -> VlmOutputs:
    torch.set_num_threads(threads)
    return run_vlm(open_vlm(folder), rows)


def _batches(rows: int, batch: int) -> Iterator[slice]:
    return (slice(first, first + batch) for first in range(0, rows, batch))
