"""From sub-scores to scores: the formulas of both versions, the human filter, two-stage evaluation.

Source: docs/metrics.md, "From a plan to a score", "EP" and "Two-stage evaluation"; devkit
pdm_planner/scoring/pdm_scorer.py `_aggregate_scores` (v1) and `_aggregate_pdm_scores` (v2),
navsim/evaluate/pdm_score.py, planning/script/run_pdm_score*.py, scoring/scene_aggregator.py.
K plans.
"""

import numpy as np

PROGRESS_THRESHOLD_M = 5.0  # if the best progress is not above this, EP is 1
W_EP, W_TTC, W_COMFORT, W_LK, W_HC, W_EC = 5.0, 5.0, 2.0, 2.0, 2.0, 2.0
_KERNEL_VARIANCE_M2 = 0.1  # of the weights of second-stage scenes


def progress_v1(raw_m: np.ndarray, product: np.ndarray, best_m: np.ndarray) -> np.ndarray:
    """EP of v1: raw progress times the product over the best of the batch.

    If the best is <= 5 m, EP is 1, or 0 where the product is 0.
    """
    masked = raw_m * product
    enough = best_m > PROGRESS_THRESHOLD_M
    return np.where(
        enough, masked / np.where(enough, best_m, 1.0), np.where(product == 0.0, 0.0, 1.0)
    )


def progress_v2(raw_m: np.ndarray, best_m: np.ndarray) -> np.ndarray:
    """EP of v2: raw progress over the best masked progress, at most 1.

    The raw progress is not masked, so a plan that collides can have EP = 1.
    """
    enough = best_m > PROGRESS_THRESHOLD_M
    return np.where(enough, np.clip(raw_m / np.where(enough, best_m, 1.0), 0.0, 1.0), 1.0)


def pdms(
    nc: np.ndarray, dac: np.ndarray, ttc: np.ndarray, ep: np.ndarray, comfort: np.ndarray
) -> np.ndarray:
    """PDMS of v1.1. DDC is reported and has weight 0."""
    return nc * dac * ((W_EP * ep + W_TTC * ttc + W_COMFORT * comfort) / (W_EP + W_TTC + W_COMFORT))


def epdms(
    product: np.ndarray,
    ep: np.ndarray,
    ttc: np.ndarray,
    lk: np.ndarray,
    hc: np.ndarray,
    ec: np.ndarray | None = None,
) -> np.ndarray:
    """EPDMS of v2.2; `product` = NC DAC DDC TLC. Where EC is None or NaN (no earlier frame) its
    weight is left out.
    """
    total = W_EP * ep + W_TTC * ttc + W_LK * lk + W_HC * hc
    weight = np.full(np.shape(total), W_EP + W_TTC + W_LK + W_HC)
    if ec is not None:
        known = ~np.isnan(ec)
        total = total + W_EC * np.where(known, ec, 0.0)
        weight = weight + W_EC * known
    return product * (total / weight)


def human_filter(plan: np.ndarray, human: np.ndarray) -> np.ndarray:
    """Sub-scores (K, S) of plans, set to 1 wherever the human's (S,) are exactly 0."""
    return np.where(human == 0.0, 1.0, plan)


def second_stage_weights(end_xy: np.ndarray, start_xy: np.ndarray) -> np.ndarray:
    """(n,) weights, of sum 1, of second-stage scenes that start at (n, 2), for a first-stage plan
    that ends at (2,): a Gaussian of the distance. All weights are equal if all scenes are too far.
    """
    weight = np.exp(-((start_xy - end_xy) ** 2).sum(axis=1) / (2 * _KERNEL_VARIANCE_M2))
    total = weight.sum()
    return (
        np.full(len(weight), 1.0 / len(weight))
        if np.isclose(total, 0.0) or np.isnan(total)
        else weight / total
    )


def two_stage_score(
    first_now: float,
    first_before: float,
    second_now: np.ndarray,
    second_before: np.ndarray,
    weights_now: np.ndarray,
    weights_before: np.ndarray,
) -> tuple[float, float, float]:
    """Combined, stage-1 and stage-2 score of a pair of frames 0.5 s apart.

    Each frame has the scores (n,) and weights (n,) of its second stage.
    """
    stage_now, stage_before = float(second_now @ weights_now), float(second_before @ weights_before)
    combined = (first_now * stage_now + first_before * stage_before) / 2
    return combined, (first_now + first_before) / 2, (stage_now + stage_before) / 2
