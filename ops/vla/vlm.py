"""Train the VLM to say the codes of a frame, and read from the frozen VLM what it says about
frames. Not the planner.

The VLM sees the front image and a prompt of command and ego status, never the future. What the
planner and the student get comes from its own greedy decoding: the true codes stay outside. Legend:
N rows, B rows of a batch, V visual tokens, S = 12 slots, K = 16 codes, C hidden width.
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

from models.vlm import CODE_SLOTS, ActionVlm
from models.vlm_inputs import VlmInputs, prompts
from ops.planners.training_arrays import TrainingArrays
from ops.pool import worker_pool
from ops.training.config import ComputeConfig, FitConfig
from ops.training.fit import fit
from ops.training.launch import Session
from storage.errors import ConfigError

# a process takes as long to start as the small model to read this many rows
_ROWS_A_PROCESS = 500


@dataclass(frozen=True, slots=True)
class VlmOutputs:
    """What the frozen VLM says about N rows, from its own greedy decoding."""

    codes: np.ndarray  # (N, S) int64
    code_logits: np.ndarray  # (N, S, K) float16
    action: np.ndarray  # (N, S, C) float16 hidden states that predict the codes
    visual: np.ndarray  # (N, V, C) float16 hidden states at the image


def vlm_loop(config: dict[str, Any]) -> dict[str, Any]:
    """Training loop of the VLM. `config`: arrays, out (folders), vlm (VlmConfig), fit (FitConfig),
    seed.
    """
    session = Session(config)
    torch.manual_seed(config["seed"])
    vlm = ActionVlm.build(config["vlm"])
    arrays = TrainingArrays.open(Path(config["arrays"]))
    settings: FitConfig = config["fit"]
    assert arrays.images is not None and arrays.codes is not None and arrays.codes_valid is not None
    images, codes, valid = arrays.images, arrays.codes, arrays.codes_valid

    def loss_of(model: nn.Module, rows: np.ndarray) -> tuple[torch.Tensor, dict[str, float]]:
        codes_BS = torch.from_numpy(codes[rows]).to(session.device)
        valid_BS = torch.from_numpy(valid[rows]).to(session.device)
        logits_BSK = model(vlm_inputs(vlm, images[rows], arrays.status[rows]), codes_BS)
        return code_loss(logits_BSK.float(), codes_BS, valid_BS)

    fit(session, vlm, loss_of, len(arrays), settings, config["seed"])
    if session.rank == 0:
        vlm.save(Path(config["out"]))
    return {"parameters": sum(parameter.numel() for parameter in vlm.parameters())}


def code_loss(
    logits_BSK: torch.Tensor, codes_BS: torch.Tensor, valid_BS: torch.Tensor
) -> tuple[torch.Tensor, dict[str, float]]:
    """Mean negative log-likelihood of the codes that exist, in nats, and the share of them that are
    most likely.
    """
    loss = F.cross_entropy(logits_BSK[valid_BS], codes_BS[valid_BS])
    hit = (logits_BSK.detach().argmax(dim=-1) == codes_BS)[valid_BS].float().mean()
    return loss, {"code_accuracy": float(hit)}


def vlm_inputs(vlm: ActionVlm, images: np.ndarray, status: np.ndarray) -> VlmInputs:
    """Images (B, H, W, 3) uint8 and ego status (B, 8) as the VLM's input, on its device.

    Raises ConfigError for images whose sides are no multiples of the patch size times the merge
    size.
    """
    multiple = vlm.processor.image_multiple()
    if images.shape[1] % multiple or images.shape[2] % multiple or 0 in images.shape[1:3]:
        raise ConfigError(
            "the VLM cannot cut these images into patches",
            found=images.shape[1:3],
            expected=f"sides that are multiples of {multiple}",
            do="read the frames at 112 x 224, say",
        )
    device = vlm.action_rows_KD.device
    pixels = torch.from_numpy(np.ascontiguousarray(images)).to(device)
    return vlm.processor(pixels, prompts(status), room=CODE_SLOTS).to(device)


def open_vlm(folder: Path, device: str | None = None) -> ActionVlm:
    """A finished VLM, frozen, in the number format it was saved in; on a GPU if there is one."""
    place = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    return ActionVlm.from_pretrained(folder, dtype="auto").to(place).requires_grad_(False).eval()


def run_vlm(vlm: ActionVlm, images: np.ndarray, status: np.ndarray, batch: int = 32) -> VlmOutputs:
    """Decode N rows greedily: image and prompt once, then one step a code. Each batch leaves the
    VLM's device at once.
    """
    vlm.eval()
    kinds = {
        "codes_BS": np.int64,
        "logits_BSK": np.float16,
        "action_BSD": np.float16,
        "visual_BVD": np.float16,
    }
    read: dict[str, np.ndarray] = {}
    for rows in _batches(len(images), batch):
        said = vlm.decode(vlm_inputs(vlm, images[rows], status[rows]))
        for name, kind in kinds.items():
            values = getattr(said, name).float().cpu().numpy()
            if name not in read:
                read[name] = np.empty((len(images), *values.shape[1:]), kind)
            read[name][rows] = values
    return VlmOutputs(*(read[name] for name in kinds))


def run_vlm_in_processes(
    folder: Path, images: np.ndarray, status: np.ndarray, compute: ComputeConfig
) -> VlmOutputs:
    """What the finished VLM in `folder` says about N rows; many rows on a machine without a GPU are
    shared out.
    """
    shares = (
        1 if torch.cuda.is_available() else min(compute.at_once, len(images) // _ROWS_A_PROCESS)
    )
    if shares <= 1:
        return run_vlm(open_vlm(folder), images, status)
    read = partial(_read_share, folder, compute.threads)
    with worker_pool(shares) as pool:
        parts = list(pool.map(read, np.array_split(images, shares), np.array_split(status, shares)))
    return VlmOutputs(
        *(
            np.concatenate([getattr(part, item.name) for part in parts])
            for item in fields(VlmOutputs)
        )
    )


def _read_share(folder: Path, threads: int, images: np.ndarray, status: np.ndarray) -> VlmOutputs:
    torch.set_num_threads(threads)
    return run_vlm(open_vlm(folder), images, status)


def _batches(rows: int, batch: int) -> Iterator[slice]:
    return (slice(first, first + batch) for first in range(0, rows, batch))
