"""Aggregate the scores of single scenes to means with intervals: per planner, per subset of the
scenes, per paired difference.

Legend: N scenes, P planners.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from ops.evaluation.config import IntervalConfig
from ops.evaluation.intervals import Interval, intervals
from storage.metrics_table import DIFFERENCES, MEASURES, SUMMARY

DIFFERENCE_MEASURES = ("pdms", "epdms", "ade_m", "nc", "dac", "ttc", "ep", "comfort")


@dataclass(frozen=True, slots=True)
class ScoreCube:
    """A scores table arranged by scene and planner."""

    planners: tuple[str, ...]
    log_id: np.ndarray  # (N,) object
    frame_index: np.ndarray  # (N,)
    subsets: dict[str, np.ndarray]  # name -> (N,) bool: all, rare, ordinary, tag:<name>
    table: pa.Table  # sorted by scene, then by planner in the order above

    def measure(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """Values (N, P) and the mask (N, P) of those that exist; the others are zero."""
        values = (
            self.table[name]
            .to_numpy(zero_copy_only=False)
            .astype(np.float64)
            .reshape(-1, len(self.planners))
        )
        known = np.isfinite(values)
        return np.where(known, values, 0.0), known


def score_cube(scores: pa.Table) -> ScoreCube:
    """Arrange a scores table by scene and planner; every scene must have every planner once."""
    planners = tuple(dict.fromkeys(scores["planner"].to_pylist()))
    rank = {name: at for at, name in enumerate(planners)}
    table = scores.append_column(
        "rank", pa.array([rank[name] for name in scores["planner"].to_pylist()], pa.int32())
    )
    table = table.sort_by(
        [("log_id", "ascending"), ("frame_index", "ascending"), ("rank", "ascending")]
    )
    assert len(table) % len(planners) == 0, "a scene lacks a planner"
    ranks = table["rank"].to_numpy().reshape(-1, len(planners))
    assert (ranks == np.arange(len(planners))).all(), "a scene has a planner twice"
    first = np.arange(0, len(table), len(planners))
    tags = table["tags"].take(pa.array(first)).to_pylist()
    rare = np.array([bool(items) for items in tags], bool)
    subsets = {"all": np.ones(len(first), bool), "rare": rare, "ordinary": ~rare}
    subsets |= {
        f"tag:{tag}": np.array([tag in items for items in tags])
        for tag in sorted({t for items in tags for t in items})
    }
    return ScoreCube(
        planners,
        table["log_id"].to_numpy()[first],
        table["frame_index"].to_numpy()[first],
        subsets,
        table,
    )


def summary_table(scores: pa.Table, config: IntervalConfig) -> pa.Table:
    """Mean and interval over logs of every measure per planner and subset
    (storage.metrics_table.SUMMARY).
    """
    cube = score_cube(scores)
    out = []
    for measure in MEASURES:
        values, known = cube.measure(measure)
        for subset, member in cube.subsets.items():
            means = intervals(values, known & member[:, None], cube.log_id, config)
            out += [
                {
                    "planner": planner,
                    "subset": subset,
                    "measure": measure,
                    "n_expected": int(member.sum()),
                    **_interval_columns(item),
                }
                for planner, item in zip(cube.planners, means, strict=True)
                if item is not None
            ]
    return pa.Table.from_pylist(out, SUMMARY)


def differences_table(
    scores: pa.Table, pairs: Sequence[tuple[str, str]], config: IntervalConfig
) -> pa.Table:
    """Planner minus control on the scenes where both have a value: all, rare and ordinary ones
    (DIFFERENCES). Pairs with a planner that was not evaluated have no row.
    """
    cube = score_cube(scores)
    present = [pair for pair in pairs if set(pair) <= set(cube.planners)]
    first, second = ([cube.planners.index(pair[side]) for pair in present] for side in (0, 1))
    out = []
    for measure in DIFFERENCE_MEASURES if present else ():
        values, known = cube.measure(measure)
        for subset in ("all", "rare", "ordinary"):
            both = known[:, first] & known[:, second] & cube.subsets[subset][:, None]
            means = intervals(values[:, first] - values[:, second], both, cube.log_id, config)
            out += [
                {
                    "planner": pair[0],
                    "control": pair[1],
                    "subset": subset,
                    "measure": measure,
                    **_interval_columns(item),
                }
                for pair, item in zip(present, means, strict=True)
                if item is not None
            ]
    return pa.Table.from_pylist(out, DIFFERENCES)


def find_interval(table: pa.Table, **where: str) -> Interval | None:
    """The one row of a summary or differences table with these column values; None if there is
    none.
    """
    mask = np.ones(len(table), bool)
    for name, value in where.items():
        mask &= table[name].to_numpy(zero_copy_only=False) == value
    rows = table.filter(pa.array(mask)).to_pylist()
    assert len(rows) <= 1, f"{len(rows)} rows for {where}"
    return (
        Interval(*(rows[0][name] for name in ("mean", "low", "high", "n_scored", "logs")))
        if rows
        else None
    )


def _interval_columns(item: Interval) -> dict[str, float | int]:
    return {
        "mean": item.mean,
        "low": item.low,
        "high": item.high,
        "n_scored": item.n,
        "logs": item.logs,
    }
