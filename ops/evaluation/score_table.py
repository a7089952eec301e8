"""The tables of an evaluation's single scores: how they are drawn up, and the score built again
from its columns. Not the means.

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
    """One row a scene and planner in storage.metrics_table.SCORES, scenes outermost."""
    count, planners = len(scenes), len(names)
    finite = np.isfinite(plans_NP83).all(axis=(2, 3))
    error = displacement(
        np.where(finite[:, :, None, None], plans_NP83, 0.0), scenes.future, scenes.future_valid
    )

    def each(values: np.ndarray) -> np.ndarray:
        return np.repeat(values, planners)

    def measured(values_NP: np.ndarray, known_NP: np.ndarray) -> pa.Array:
        return pa.array(
            values_NP.ravel(),
            pa.float64(),
            mask=~np.broadcast_to(known_NP, values_NP.shape).ravel(),
        )

    columns = {
        "log_id": each(scenes.log_id),
        "frame_index": each(scenes.frame_index),
        "split": [split] * (count * planners),
        "planner": [*names] * count,
        "metric_version": [metric_version] * (count * planners),
        "seed": [seeds.get(name) for name in names] * count,
        "scored": scored.valid_NP.ravel(),
        "reason": scored.reason_NP.ravel(),
        **{
            name: measured(
                scored.values_NPM[..., at],
                scored.valid_NP & np.isfinite(scored.values_NPM[..., at]),
            )
            for at, name in enumerate(SCORE_COLUMNS)
        },
        "ade_m": measured(error.ade_m, finite & error.ade_valid[:, None]),
        "fde_m": measured(error.fde_m, finite & error.fde_valid[:, None]),
        "lateral_m": measured(error.lateral_m, finite & error.ade_valid[:, None]),
        "speed_mps": each(np.hypot(*scenes.velocity.T).astype(np.float64)),
        "command": each(scenes.command.astype(np.int8)),
        "tags": [item for item in tags for _ in names],
    }
    return pa.table({name: columns[name] for name in SCORES.names}, schema=SCORES)


def plans_table(scenes: FrameSet, names: tuple[str, ...], plans_NP83: np.ndarray) -> pa.Table:
    """The plans themselves in storage.metrics_table.PLANS, scenes outermost."""
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
    """How the stored scores agree with their parts."""

    rows: int  # rows whose score was built again
    worst: float  # largest absolute difference
    keys: tuple[str, ...]  # the first rows that differ by more than 1e-9


def recompute(scores: pa.Table) -> Recomputed:
    """Build every PDMS and EPDMS of a scores table again from its columns (docs/metrics.md has the
    formulas).
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
    off = np.stack([np.abs(pdms - column("pdms")), np.abs(epdms - column("epdms"))])
    known = np.isfinite(np.stack([column("pdms"), column("epdms")]))
    off = np.where(known, np.where(np.isfinite(off), off, np.inf), 0.0).max(
        axis=0
    )  # a score without its parts differs
    bad = np.flatnonzero(off > 1e-9)[:20]
    keys = tuple(
        f"{scores['log_id'][int(row)]}/{scores['frame_index'][int(row)]}/{scores['planner'][int(row)]}"
        for row in bad
    )
    return Recomputed(int(known.any(axis=0).sum()), float(off.max(initial=0.0)), keys)
