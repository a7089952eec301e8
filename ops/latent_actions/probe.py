"""Statistics of codes: how evenly they are used, and linear probes of the ego motion.

Legend: P pairs, N rows, S code slots, K tokens, C codes, F features, T targets.
"""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from storage.trajectory_table import code_layout

RIDGE = 1.0  # penalty on the weights of a probe, for features that are 0 or 1


def perplexity(codes: np.ndarray, size: int) -> float:
    """Perplexity of the codes, 1 ... size: the number of evenly used codes of the same entropy."""
    shares = np.bincount(codes.ravel(), minlength=size) / codes.size
    used = shares[shares > 0]
    return float(np.exp(-(used * np.log(used)).sum()))


def dead_codes(codes: np.ndarray, size: int) -> int:
    """Number of codes, 0 ... size, that never occur."""
    return int((np.bincount(codes.ravel(), minlength=size) == 0).sum())


@dataclass(frozen=True, slots=True)
class CodeUsage:
    """How often each code occurs in a relabeled table."""

    counts_KC: np.ndarray  # per token, in the first transition of each row; valid codes only
    complete_rows: int  # rows whose codes are all valid

    @property
    def shares_KC(self) -> np.ndarray:
        """Share of each code among the valid codes of its token; zeros for a token without any."""
        return self.counts_KC / np.maximum(self.counts_KC.sum(axis=1, keepdims=True), 1)


def code_usage(relabeled: pa.Table) -> CodeUsage:
    """Count the codes of a table with the columns `codes` and `codes_valid`.

    Only the first transition of a row is counted: the others are also the first of later rows.
    Raises ArtifactError for a table without the layout of its codes.
    """
    layout = code_layout(relabeled)
    codes_NS, valid_NS = (
        relabeled[name]
        .combine_chunks()
        .flatten()
        .to_numpy(zero_copy_only=False)
        .reshape(-1, layout.slots)
        for name in ("codes", "codes_valid")
    )
    counts_KC = np.stack(
        [
            np.bincount(codes_NS[valid_NS[:, token], token], minlength=layout.codes)
            for token in range(layout.tokens)
        ]
    )
    return CodeUsage(counts_KC, int(valid_NS.all(axis=1).sum()))


def one_hot(codes_PK: np.ndarray, size: int) -> np.ndarray:
    """(P, K * size) float64: one indicator for each token and code."""
    return np.eye(size)[codes_PK].reshape(len(codes_PK), -1)


class Ridge:
    """A linear probe: ridge regression of targets on features, fitted in closed form."""

    def __init__(
        self, features_PF: np.ndarray, targets_PT: np.ndarray, penalty: float = RIDGE
    ) -> None:
        self.mean_F, self.mean_T = features_PF.mean(0), targets_PT.mean(0)
        centered = features_PF - self.mean_F
        self.weights_FT = np.linalg.solve(
            centered.T @ centered + penalty * np.eye(centered.shape[1]),
            centered.T @ (targets_PT - self.mean_T),
        )

    def __call__(self, features_PF: np.ndarray) -> np.ndarray:
        """Predicted targets (P, T)."""
        return (features_PF - self.mean_F) @ self.weights_FT + self.mean_T


def r_squared(predicted_PT: np.ndarray, true_PT: np.ndarray) -> list[float | None]:
    """R2 of each target: the share of its variance that is predicted; None if it is constant."""
    residual, variation = (
        ((predicted_PT - true_PT) ** 2).sum(0),
        ((true_PT - true_PT.mean(0)) ** 2).sum(0),
    )
    return [
        float(1 - error / total) if total > 1e-12 else None
        for error, total in zip(residual, variation, strict=True)
    ]


def thumbnails(images_PHW3: np.ndarray, side: int = 8) -> np.ndarray:
    """Block means of images, divided by 64, as features (P, F): the baseline of one frame alone."""
    count, height, width, _ = images_PHW3.shape
    rows, columns = height // side * side, width // side * side
    blocks = images_PHW3[:, :rows, :columns].reshape(
        count, rows // side, side, columns // side, side, 3
    )
    return blocks.mean(axis=(2, 4)).reshape(count, -1) / 64
