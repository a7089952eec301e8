"""Means with bootstrap confidence intervals over logs (cluster bootstrap, percentile method).

Scenes of one log overlap in time and share road and traffic, so resampling scenes would make the
intervals too narrow. Whole logs are drawn with replacement instead, the same draws for every
column, so differences are paired. Over several seeds, seeds are drawn as well. Legend: N scenes, L
logs, M columns, S seeds of an axis F of one or more, B resamples.
"""

import math
from dataclasses import dataclass

import numpy as np

from ops.evaluation.config import IntervalConfig


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean over scenes and the bounds of its confidence interval over logs.

    With a single log the bounds are equal and carry no information.
    """

    mean: float
    low: float
    high: float
    n: int  # scenes that went into the mean
    logs: int  # logs they come from


def percent(item: Interval | None) -> Interval | None:
    """An interval of a score in 0 ... 1, in %."""
    return item and Interval(100 * item.mean, 100 * item.low, 100 * item.high, item.n, item.logs)


def intervals(
    values_NM: np.ndarray, valid_NM: np.ndarray, log_id: np.ndarray, config: IntervalConfig
) -> list[Interval | None]:
    """Mean over the valid scenes of each of M columns with a percentile interval over logs; None
    without a valid scene.

    A column holds one quantity, or the difference of two planners on the same scene for a paired
    interval.
    """
    return crossed_intervals(values_NM[..., None], valid_NM, log_id, config)


def crossed_intervals(
    values_NMF: np.ndarray, valid_NM: np.ndarray, log_id: np.ndarray, config: IntervalConfig
) -> list[Interval | None]:
    """Mean over the valid scenes and all seeds of each of M columns with a percentile interval over
    seeds and logs; None without a valid scene.

    `values_NMF` (N, M, S) has one axis of seeds, or several: (N, M, T, S) for teachers and
    students. Crossed (pigeonhole) bootstrap: each resample draws seeds with replacement, for each
    axis independently, and logs with replacement, and averages all scenes of the drawn logs for all
    drawn seeds (Owen, "The pigeonhole bootstrap", Annals of Applied Statistics 1, 2007). With one
    seed only the logs are drawn. A valid scene has a value for every seed.
    """
    logs, log_of_N = np.unique(log_id.astype(str), return_inverse=True)
    columns, *seeds = values_NMF.shape[1:]
    sums_LMF = np.zeros((len(logs), columns, *seeds))
    counts_LM = np.zeros((len(logs), columns))
    valid_NMF = valid_NM.reshape(*valid_NM.shape, *(1 for _ in seeds))
    np.add.at(sums_LMF, log_of_N, np.where(valid_NMF, values_NMF, 0.0))
    np.add.at(counts_LM, log_of_N, valid_NM.astype(np.float64))
    generator = np.random.default_rng(config.seed)
    logs_BL, *draws = (
        generator.multinomial(count, np.full(count, 1.0 / max(count, 1)), size=config.resamples)
        for count in (len(logs), *seeds)
    )
    drawn_BM = logs_BL.astype(np.float64) @ counts_LM
    sums_BM = (logs_BL.astype(np.float64) @ sums_LMF.reshape(len(logs), -1)).reshape(
        -1, columns, *seeds
    )
    for drawn_BS in reversed(draws):  # the last axis first
        between = (1 for _ in range(sums_BM.ndim - 2))
        weights = drawn_BS.reshape(len(drawn_BS), *between, -1)
        sums_BM = (sums_BM * weights).sum(axis=-1) / max(drawn_BS.shape[1], 1)
    # a draw without a valid scene of a column is left out of that column's percentiles
    means_BM = np.where(drawn_BM > 0, sums_BM / np.maximum(drawn_BM, 1.0), np.nan)
    tail = 50.0 * (1.0 - config.confidence)
    out: list[Interval | None] = []
    for column, count in enumerate(counts_LM.sum(axis=0)):
        if count == 0:
            out.append(None)
            continue
        low, high = np.nanpercentile(means_BM[:, column], [tail, 100.0 - tail])
        out.append(
            Interval(
                float(sums_LMF[:, column].sum() / (count * math.prod(seeds))),
                float(low),
                float(high),
                int(count),
                int((counts_LM[:, column] > 0).sum()),
            )
        )
    return out
