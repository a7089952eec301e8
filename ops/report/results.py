"""The evaluation's tables as the report reads them."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from ops.evaluation.intervals import Interval
from ops.evaluation.open_loop import read_open_loop
from ops.evaluation.score_table import ScoreTable, score_table
from ops.evaluation.summarize import find_interval
from storage.metrics_table import read_metrics


@dataclass(frozen=True, slots=True)
class EvaluationResults:
    """An evaluation, read from its folder."""

    metric_version: str
    split: str
    n_expected: int
    n_scored: int
    n_logs: int
    unscored: tuple[tuple[str, int, str, str], ...]  # log, frame, planner or "" for all, reason
    scores: pa.Table
    plans: pa.Table
    score_tables: Mapping[str, ScoreTable]  # subset of the scenes -> means
    differences: pa.Table
    latency: pa.Table
    zero_shot: pa.Table | None  # OPEN_LOOP on the zero-shot logs
    planners: tuple[str, ...]  # in the order of the scores table

    def mean(self, planner: str, measure: str = "pdms", subset: str = "all") -> Interval | None:
        """Mean with interval of one measure (a score in 0 ... 1, a distance in metres); None if it
        is missing.
        """
        table = self.score_tables.get(subset)
        return None if table is None else table.mean(planner, measure)

    def difference(
        self, planner: str, control: str, measure: str = "pdms", subset: str = "all"
    ) -> Interval | None:
        """Planner minus control on the same scenes; None if the pair was not evaluated."""
        return find_interval(
            self.differences, planner=planner, control=control, measure=measure, subset=subset
        )


def read_results(folder: Path) -> EvaluationResults:
    """Read an evaluation written by ops/evaluation/evaluate.py. Raises ArtifactError if the folder
    holds none.
    """
    tables = {
        name: read_metrics(folder, name)
        for name in ("scores", "plans", "summary", "differences", "latency")
    }
    head = json.loads((folder / "summary.json").read_text())
    summary = tables.pop("summary")
    subsets = dict.fromkeys(summary["subset"].to_pylist())
    return EvaluationResults(
        metric_version=head["metric_version"],
        split=head["split"],
        n_expected=head["n_expected"],
        n_scored=head["n_scored"],
        n_logs=head["n_logs"],
        unscored=tuple(
            (item["log_id"], item["frame_index"], item["planner"], item["reason"])
            for item in head["unscored"]
        ),
        score_tables={subset: score_table(summary, subset) for subset in subsets},
        zero_shot=read_open_loop(folder),
        planners=tuple(dict.fromkeys(tables["scores"]["planner"].to_pylist())),
        **tables,
    )
