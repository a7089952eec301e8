"""How well code distributions agree with the codes that were recorded. Not how they are made.

Legend: N rows, S = 12 slots, K = 16 codes.
"""

from dataclasses import dataclass

import numpy as np

from storage.errors import ArtifactError


@dataclass(frozen=True, slots=True)
class CodeAccuracy:
    """Agreement with the recorded codes, for each of the 12 slots where it is a tuple."""

    rows: int  # rows with at least one recorded code
    # share of recorded codes that were said, all slots together
    accuracy: float
    # the same for always saying the slot's most frequent training code
    majority_accuracy: float
    ratio: float  # accuracy / majority_accuracy
    cross_entropy_nats: float  # mean negative log-likelihood of the recorded code
    # of the training codes, mean over slots: what knowing nothing costs
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
    """Compare logits (N, S, K) with codes (N, S) where `valid`; the training codes tell what the
    majority would say.

    Raises ArtifactError if a slot has no recorded code at all.
    """
    if not (valid.any(axis=0).all() and train_valid.any(axis=0).all()):
        raise ArtifactError(
            "there are slots without a single code",
            expected="codes for each of the 12 slots",
            found=f"{int(valid.sum())} codes in {len(valid)} rows",
            do="relabel the logs again",
        )
    logits = logits.astype(np.float64)
    log_probability = logits - np.logaddexp.reduce(logits, axis=-1, keepdims=True)
    said, confidence = logits.argmax(axis=-1), np.exp(log_probability.max(axis=-1))
    hit = said == codes
    nll = -np.take_along_axis(log_probability, codes[..., None], axis=-1)[..., 0]
    counts = np.stack(
        [
            np.bincount(slot[ok], minlength=logits.shape[-1])
            for slot, ok in zip(train_codes.T, train_valid.T, strict=True)
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


def calibration_error(confidence: np.ndarray, hit: np.ndarray, bins: int = 10) -> float:
    """Expected calibration error (Guo et al. 2017): |accuracy - confidence| over confidence bins,
    by rows.
    """
    which = np.minimum((confidence * bins).astype(int), bins - 1)
    rows = np.bincount(which, minlength=bins)
    gap = np.abs(np.bincount(which, hit, bins) - np.bincount(which, confidence, bins))
    return float(gap.sum() / max(rows.sum(), 1))
