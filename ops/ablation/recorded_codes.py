"""The recorded codes of rows, for the runs of the ablation that are given them.

Legend: N rows, S code slots, K codes.
"""

import numpy as np

from storage.dataset import FrameSet
from storage.errors import ArtifactError

IMPOSSIBLE = -1e4  # logit of a code that is not the recorded one; float16 holds it


def recorded_code_logits(codes: np.ndarray, valid: np.ndarray, num_codes: int) -> np.ndarray:
    """The recorded codes (N, S) for certain, as logits (N, S, K) float16; NaN, no target, where
    `valid` (N, S) is False.
    """
    logits = np.where(codes[..., None] == np.arange(num_codes), 0.0, IMPOSSIBLE)
    return np.where(valid[..., None], logits, np.nan).astype(np.float16)


def require_codes(rows: FrameSet, num_codes: int) -> None:
    """Raise ArtifactError if the rows have no codes, or a code that the codebook does not have."""
    slots = rows.codes.shape[1]
    largest = int(rows.codes[rows.codes_valid].max(initial=-1))
    if slots == 0 or largest >= num_codes:
        raise ArtifactError(
            "the rows have no codes of this codebook",
            expected=f"codes 0 to {num_codes - 1}",
            found=f"{slots} codes a row, the largest is {largest}",
            do="relabel the rows: latentvla run --until relabeled",
        )


def one_hot_codes(rows: FrameSet, num_codes: int) -> np.ndarray:
    """The recorded codes (N, S, K) bool, one-hot; False where a code is not valid.

    Raises ArtifactError as require_codes().
    """
    require_codes(rows, num_codes)
    return (rows.codes[..., None] == np.arange(num_codes)) & rows.codes_valid[..., None]
