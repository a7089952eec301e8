"""How far codes stay the same when something changes that is not the ego's motion. Not the change,
and no threshold.

Legend: P pairs, K tokens.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from models.latent_action.model import LatentActionModel
from ops.latent_actions import probe
from ops.latent_actions.frame_pairs import FramePairs
from ops.latent_actions.health import PROBE_PAIRS, codes_of_pairs

SEEN_LEVELS = 8  # of 255: by so much a pixel must differ to count as changed

# codes (P, K) -> speed m/s, yaw rate rad/s, acceleration m/s2 (P, 3)
ReadMotion = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True, slots=True)
class Agreement:
    """Codes of pairs against those of the same pairs after a change; a correlation is None where
    nothing varies.
    """

    pairs: int
    equal_tokens: float  # share
    speed_difference_mps: float  # mean absolute difference of what is read of both
    speed_correlation: float | None
    yaw_rate_difference_radps: float
    yaw_rate_correlation: float | None


def fit_reading(model: LatentActionModel, train: FramePairs) -> ReadMotion:
    """The linear reading of ego codes by which a codebook's health is measured, fitted on training
    pairs.
    """
    fitted, size = train.some(PROBE_PAIRS), model.config.ego_quantizer.codes
    read = probe.Ridge(probe.one_hot(codes_of_pairs(model, fitted)[0], size), fitted.motion)
    return lambda codes_PK: read(probe.one_hot(codes_PK, size))


def agreement(before_PK: np.ndarray, after_PK: np.ndarray, read: ReadMotion) -> Agreement:
    """Compare codes of the same pairs before and after a change."""
    before, after = read(before_PK), read(after_PK)
    difference = np.abs(after - before).mean(0)
    return Agreement(
        len(before_PK),
        float((before_PK == after_PK).mean()),
        float(difference[0]),
        _correlation(before[:, 0], after[:, 0]),
        float(difference[1]),
        _correlation(before[:, 1], after[:, 1]),
    )


def other_pairs(pairs: int, rng: np.random.Generator) -> np.ndarray:
    """For each pair another one by chance, (P,); no pair is its own. Needs two pairs."""
    order = rng.permutation(pairs)
    other = np.empty(pairs, dtype=int)
    other[order] = np.roll(order, 1)
    return other


def changed_share(before: FramePairs, after: FramePairs) -> np.ndarray:
    """Share of the pixels of both images of a pair that differ visibly, (P,)."""
    differs = np.abs(before.images.astype(np.int16) - after.images).max(axis=3) > SEEN_LEVELS
    return differs.mean(axis=(1, 2))[before.rows].mean(axis=1)


def _correlation(one: np.ndarray, other: np.ndarray) -> float | None:
    varies = len(one) > 1 and min(one.std(), other.std()) > 1e-9
    return float(np.corrcoef(one, other)[0, 1]) if varies else None
