"""Accuracy and calibration of predicted code distributions against the relabeled codes.

Legend: N rows, S code slots, K codes.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional as F

from storage.errors import ArtifactError


@dataclass(frozen=True, slots=True)
class CodeAccuracy:
    """Agreement with the relabeled codes; a tuple has one value per slot."""

    rows: int  # rows with at least one valid code
    accuracy: float  # top-1 accuracy, all slots pooled
    majority_accuracy: float  # of predicting each slot's most frequent training code
    ratio: float  # accuracy / majority_accuracy
    cross_entropy_nats: float  # mean negative log-likelihood of the true code
    # entropy of the training codes, mean over slots: the cross-entropy of the marginal distribution
    marginal_entropy_nats: float
    calibration_error: float  # expected calibration error, 10 bins of confidence
    accuracy_by_slot: tuple[float, ...]
    majority_accuracy_by_slot: tuple[float, ...]
    calibration_error_by_slot: tuple[float, ...]


def code_accuracy(
    logits: np.ndarray,
    codes: np.ndarray,
    valid: np.ndarray,
    train_codes: np.ndarray,
    train_valid: np.ndarray,
) -> CodeAccuracy:
    """Compare logits (N, S, K) with codes (N, S) where `valid` (N, S).

    The training codes give each slot's majority code. Raises ArtifactError if a slot has no valid
    code.
    """
    if not (valid.any(axis=0).all() and train_valid.any(axis=0).all()):
        raise ArtifactError(
            "a code slot has no valid code",
            expected=f"valid codes in each of the {codes.shape[1]} slots",
            found=f"{int(valid.sum())} codes in {len(valid)} rows",
            do="make the codes again: latentvla run --until relabeled",
        )
    logits = logits.astype(np.float64)
    log_probability = logits - np.logaddexp.reduce(logits, axis=-1, keepdims=True)
    predicted, confidence = logits.argmax(axis=-1), np.exp(log_probability.max(axis=-1))
    hit = predicted == codes
    nll = -np.take_along_axis(log_probability, codes[..., None], axis=-1)[..., 0]
    counts = np.stack(
        [
            np.bincount(slot[valid_rows], minlength=logits.shape[-1])
            for slot, valid_rows in zip(train_codes.T, train_valid.T, strict=True)
        ]
    )
    frequency = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    majority_hit = codes == counts.argmax(axis=1)
    slots = range(codes.shape[1])
    accuracy, majority = float(hit[valid].mean()), float(majority_hit[valid].mean())
    return CodeAccuracy(
        rows=int(valid.any(axis=1).sum()),
        accuracy=accuracy,
        majority_accuracy=majority,
        ratio=accuracy / max(majority, 1e-9),
        cross_entropy_nats=float(nll[valid].mean()),
        marginal_entropy_nats=float(
            -(frequency * np.log(np.maximum(frequency, 1e-12))).sum(axis=1).mean()
        ),
        calibration_error=calibration_error(confidence[valid], hit[valid]),
        accuracy_by_slot=tuple(float(hit[valid[:, slot], slot].mean()) for slot in slots),
        majority_accuracy_by_slot=tuple(
            float(majority_hit[valid[:, slot], slot].mean()) for slot in slots
        ),
        calibration_error_by_slot=tuple(
            calibration_error(confidence[valid[:, slot], slot], hit[valid[:, slot], slot])
            for slot in slots
        ),
    )


def code_loss(
    logits_BSK: torch.Tensor, codes_BS: torch.Tensor, valid_BS: torch.Tensor
) -> tuple[torch.Tensor, dict[str, float]]:
    """Mean negative log-likelihood of the valid codes in nats, (), and their top-1 accuracy."""
    loss = F.cross_entropy(logits_BSK[valid_BS], codes_BS[valid_BS])
    hit = (logits_BSK.detach().argmax(dim=-1) == codes_BS)[valid_BS].float().mean()
    return loss, {"code_accuracy": float(hit)}


def calibration_error(confidence: np.ndarray, hit: np.ndarray, bins: int = 10) -> float:
    """Expected calibration error (Guo et al. 2017): |accuracy - confidence| of each confidence bin,
    weighted by its number of rows.
    """
    bin_index = np.minimum((confidence * bins).astype(int), bins - 1)
    rows = np.bincount(bin_index, minlength=bins)
    gap = np.abs(np.bincount(bin_index, hit, bins) - np.bincount(bin_index, confidence, bins))
    return float(gap.sum() / max(rows.sum(), 1))
