"""Train the VLM to predict the codes of a frame, and run the frozen VLM on frames.

The VLM's inputs are the front image and a prompt with command and ego status, never the future. The
planner and the student use the outputs of its greedy decoding, without teacher forcing.

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
from torch.nn import functional as F

from models.vlm import ActionVlm
from models.vlm_config import VlmConfig
from models.vlm_inputs import VlmInputs, prompts
from ops.planners.training_arrays import TrainingArrays
from ops.pool import worker_pool
from ops.training.config import ComputeConfig, FitConfig
from ops.training.fit import fit
from ops.training.launch import Session
from storage.errors import ConfigError

# starting a process takes as long as running the small VLM on this many rows
_MIN_ROWS_PER_PROCESS = 500


@dataclass(frozen=True, slots=True)
class VlmOutputs:
    """Outputs of the frozen VLM on N rows, from greedy decoding."""

    codes: np.ndarray  # (N, S) int64
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
    assert arrays.images is not None and arrays.codes is not None and arrays.codes_valid is not None
    images, codes, valid = arrays.images, arrays.codes, arrays.codes_valid

    def loss_of(model: nn.Module, rows: np.ndarray) -> tuple[torch.Tensor, dict[str, float]]:
        codes_BS = torch.from_numpy(codes[rows]).to(session.device)
        valid_BS = torch.from_numpy(valid[rows]).to(session.device)
        logits_BSK = model(vlm_inputs(vlm, images[rows], arrays.status[rows]), codes_BS)
        return code_loss(logits_BSK.float(), codes_BS, valid_BS)

    fit(session, vlm, loss_of, len(arrays), config.fit, config.seed)
    if session.rank == 0:
        vlm.save(config.out)
    return {"parameters": sum(parameter.numel() for parameter in vlm.parameters())}


def code_loss(
    logits_BSK: torch.Tensor, codes_BS: torch.Tensor, valid_BS: torch.Tensor
) -> tuple[torch.Tensor, dict[str, float]]:
    """Mean negative log-likelihood of the valid codes in nats, (), and their top-1 accuracy."""
    loss = F.cross_entropy(logits_BSK[valid_BS], codes_BS[valid_BS])
    hit = (logits_BSK.detach().argmax(dim=-1) == codes_BS)[valid_BS].float().mean()
    return loss, {"code_accuracy": float(hit)}


def vlm_inputs(vlm: ActionVlm, images: np.ndarray, status: np.ndarray) -> VlmInputs:
    """Images (B, H, W, 3) uint8 and ego status (B, 8) as the VLM's inputs, on its device.

    Raises ConfigError unless the image sides are multiples of the patch size times the merge size.
    """
    multiple = vlm.processor.image_multiple()
    if images.shape[1] % multiple or images.shape[2] % multiple or 0 in images.shape[1:3]:
        raise ConfigError(
            "the VLM cannot cut these images into patches",
            found=images.shape[1:3],
            expected=f"sides that are multiples of {multiple}",
            do="read the frames at another size, 112 x 224 for example",
        )
    device = vlm.action_rows_KD.device
    pixels = torch.from_numpy(np.ascontiguousarray(images)).to(device)
    return vlm.processor(pixels, prompts(status), room=vlm.slots).to(device)


def open_vlm(folder: Path, device: str | None = None) -> ActionVlm:
    """A finished VLM, frozen, in its saved dtype; on the GPU if there is one and no other device is
    given.
    """
    where = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    return ActionVlm.from_pretrained(folder, dtype="auto").to(where).requires_grad_(False).eval()


def run_vlm(vlm: ActionVlm, images: np.ndarray, status: np.ndarray, batch: int = 32) -> VlmOutputs:
    """Run the VLM on images (N, H, W, 3) uint8 and ego status (N, 8), with greedy decoding.

    The outputs of each batch are moved to the CPU at once.
    """
    vlm.eval()
    dtypes = {
        "codes_BS": np.int64,
        "logits_BSK": np.float16,
        "action_BSD": np.float16,
        "visual_BVD": np.float16,
    }
    outputs: dict[str, np.ndarray] = {}
    for rows in _batches(len(images), batch):
        decoded = vlm.decode(vlm_inputs(vlm, images[rows], status[rows]))
        for name, dtype in dtypes.items():
            values = getattr(decoded, name).float().cpu().numpy()
            if name not in outputs:
                outputs[name] = np.empty((len(images), *values.shape[1:]), dtype)
            outputs[name][rows] = values
    return VlmOutputs(*(outputs[name] for name in dtypes))


def run_vlm_in_processes(
    folder: Path, images: np.ndarray, status: np.ndarray, compute: ComputeConfig
) -> VlmOutputs:
    """run_vlm() of the finished VLM in `folder`; without a GPU, many rows are split over up to
    `compute.at_once` processes.
    """
    most = 1 if torch.cuda.is_available() else compute.at_once
    processes = min(most, len(images) // _MIN_ROWS_PER_PROCESS)
    if processes <= 1:
        return run_vlm(open_vlm(folder), images, status)
    run_part = partial(_run_part, folder, compute.threads)
    image_parts, status_parts = (np.array_split(values, processes) for values in (images, status))
    with worker_pool(processes) as pool:
        parts = list(pool.map(run_part, image_parts, status_parts))
    return VlmOutputs(
        *(
            np.concatenate([getattr(part, item.name) for part in parts])
            for item in fields(VlmOutputs)
        )
    )


def _run_part(folder: Path, threads: int, images: np.ndarray, status: np.ndarray) -> VlmOutputs:
    torch.set_num_threads(threads)
    return run_vlm(open_vlm(folder), images, status)


def _batches(rows: int, batch: int) -> Iterator[slice]:
    return (slice(first, first + batch) for first in range(0, rows, batch))
