"""Drift: whether new logs look like those that the codebook was trained on.

The measure is the population stability index (PSI) of histograms, summed over logs: the sum of
(q - p) ln(q / p) over the bins, with shares p of the training set and q of the new logs. Frames of
a log are alike, so a few logs differ from many by chance alone; the PSI of as many training logs
drawn at random says by how much. Legend: L logs, B bins.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

MIN_TRAINING, MIN_NEW = 10, 3  # logs, below which nothing can be said
DRAWS = 200
QUANTILE = 0.99  # of the PSI of draws


@dataclass(frozen=True, slots=True)
class Drift:
    """How far new logs lie from the training set in one column."""

    column: str
    psi: float
    by_chance: float  # QUANTILE of the PSI of as many training logs

    def is_beyond(self, limit: float) -> bool:
        """True if the PSI is above the limit and above what chance gives."""
        return self.psi > max(limit, self.by_chance)


def psi(expected_B: np.ndarray, found_B: np.ndarray) -> np.ndarray:
    """PSI of counts (..., B) against counts (B,); half a count is added to each bin."""
    p = (expected_B + 0.5) / (expected_B + 0.5).sum(-1, keepdims=True)
    q = (found_B + 0.5) / (found_B + 0.5).sum(-1, keepdims=True)
    return ((q - p) * np.log(q / p)).sum(-1)


def drifts(training: Mapping[str, np.ndarray], new: Mapping[str, np.ndarray]) -> list[Drift] | None:
    """Drift of each column; counts (L, B) of each log by column. None if there are too few logs."""
    both = [column for column in training if column in new]
    if not both or len(training[both[0]]) < MIN_TRAINING or len(new[both[0]]) < MIN_NEW:
        return None
    generator = np.random.default_rng(0)
    result = []
    for column in both:
        counts_LB = training[column]
        whole = counts_LB.sum(0)
        size = min(len(new[column]), len(counts_LB) // 2)
        drawn = np.stack(
            [
                counts_LB[generator.choice(len(counts_LB), size, replace=False)].sum(0)
                for _ in range(DRAWS)
            ]
        )
        by_chance = np.quantile(psi(whole - drawn, drawn), QUANTILE)
        value = psi(whole, new[column].sum(0))
        result.append(Drift(column, float(value), float(by_chance)))
    return result
