"""The tables of an evaluation with one row per scene and planner, and the recomputation of each
score from its sub-scores.

Legend: N scenes, P planners, M measures, 8 steps of 0.5 s, 3 = x, y, heading in the ego frame.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from ops.evaluation.displacement import displacement
from ops.pdm.score_rows import SCORE_COLUMNS, ScoredPlans
from storage.dataset import FrameSet
from storage.metrics_table import PLANS, SCORES, V1_PARTS, V2_PARTS
from storage.trajectory_table import FUTURE_STEPS


def scores_table(
    scenes: FrameSet,
    names: tuple[str, ...],
    plans_NP83: np.ndarray,
    scored: ScoredPlans,
    tags: list[list[str]],
    split: str,
    seeds: Mapping[str, int],
    metric_version: str,
) -> pa.Table:
    """One row per scene and planner in storage.metrics_table.SCORES, scenes outermost.

    `scored` holds the sub-scores of `plans_NP83`; `tags` the active events of each scene; `seeds`
    the training seed of each trained planner.
    """
    count, planners = len(scenes), len(names)
    finite = np.isfinite(plans_NP83).all(axis=(2, 3))
    error = displacement(
        np.where(finite[:, :, None, None], plans_NP83, 0.0), scenes.future, scenes.future_valid
    )

    def per_planner(values_N: np.ndarray) -> np.ndarray:
        return np.repeat(values_N, planners)

    def nullable(values_NP: np.ndarray, known_NP: np.ndarray) -> pa.Array:
        return pa.array(
            values_NP.ravel(),
            pa.float64(),
            mask=~np.broadcast_to(known_NP, values_NP.shape).ravel(),
        )

    columns = {
        "log_id": per_planner(scenes.log_id),
        "frame_index": per_planner(scenes.frame_index),
        "split": [split] * (count * planners),
        "planner": [*names] * count,
        "metric_version": [metric_version] * (count * planners),
        "seed": [seeds.get(name) for name in names] * count,
        "scored": scored.valid_NP.ravel(),
        "reason": scored.reason_NP.ravel(),
        **{
            name: nullable(
                scored.values_NPM[..., at],
                scored.valid_NP & np.isfinite(scored.values_NPM[..., at]),
            )
            for at, name in enumerate(SCORE_COLUMNS)
        },
        "ade_m": nullable(error.ade_m, finite & error.ade_valid[:, None]),
        "fde_m": nullable(error.fde_m, finite & error.fde_valid[:, None]),
        "lateral_m": nullable(error.lateral_m, finite & error.ade_valid[:, None]),
        "speed_mps": per_planner(np.hypot(*scenes.velocity.T).astype(np.float64)),
        "command": per_planner(scenes.command.astype(np.int8)),
        "tags": [item for item in tags for _ in names],
    }
    return pa.table({name: columns[name] for name in SCORES.names}, schema=SCORES)


def plans_table(scenes: FrameSet, names: tuple[str, ...], plans_NP83: np.ndarray) -> pa.Table:
    """Plans (N, P, 8, 3) as storage.metrics_table.PLANS, scenes outermost."""
    count, planners = plans_NP83.shape[:2]
    flat = pa.array(plans_NP83.astype(np.float32).ravel())
    return pa.table(
        {
            "log_id": np.repeat(scenes.log_id, planners),
            "frame_index": np.repeat(scenes.frame_index, planners),
            "planner": [*names] * count,
            "plan_xyyaw": pa.FixedSizeListArray.from_arrays(flat, 3 * FUTURE_STEPS),
        },
        schema=PLANS,
    )


@dataclass(frozen=True, slots=True)
class Recomputed:
    """Agreement of the stored scores with their sub-scores."""

    rows: int  # rows whose score was recomputed
    worst: float  # largest absolute difference
    keys: tuple[str, ...]  # log/frame/planner of the first 20 rows that differ by more than 1e-9


def recompute(scores: pa.Table) -> Recomputed:
    """Recompute every PDMS and EPDMS of a scores table from its sub-scores (formulas:
    docs/metrics.md).
    """

    def column(name: str) -> np.ndarray:
        return scores[name].to_numpy(zero_copy_only=False).astype(np.float64)

    part = {name: column(name) for name in (*V1_PARTS, *V2_PARTS)}
    pdms = part["nc"] * part["dac"] * (5 * part["ttc"] + 5 * part["ep"] + 2 * part["comfort"]) / 12
    # a frame without a predecessor has no EC, and its weight is dropped
    paired = np.isfinite(part["ec_v2"])
    weighted = 5 * part["ep_v2"] + 5 * part["ttc_v2"] + 2 * part["lk_v2"] + 2 * part["hc_v2"]
    weighted = (weighted + 2 * np.where(paired, part["ec_v2"], 0.0)) / np.where(paired, 16, 14)
    epdms = part["nc_v2"] * part["dac_v2"] * part["ddc_v2"] * part["tlc_v2"] * weighted
    error = np.stack([np.abs(pdms - column("pdms")), np.abs(epdms - column("epdms"))])
    known = np.isfinite(np.stack([column("pdms"), column("epdms")]))
    # a score whose sub-scores are missing counts as an infinite difference
    error = np.where(known, np.where(np.isfinite(error), error, np.inf), 0.0).max(axis=0)
    differing = np.flatnonzero(error > 1e-9)[:20]
    keys = tuple(
        f"{scores['log_id'][int(row)]}/{scores['frame_index'][int(row)]}/{scores['planner'][int(row)]}"
        for row in differing
    )
    return Recomputed(int(known.any(axis=0).sum()), float(error.max(initial=0.0)), keys)
