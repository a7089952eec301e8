"""An evaluation read back for the report, with the names and the order in which its planners are
shown. Not the tables it makes of them.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from ops.evaluation.intervals import Interval
from ops.evaluation.open_loop import OPEN_LOOP
from ops.evaluation.summarize import find
from storage.metrics_table import ZERO_SHOT_FILE, read_metrics


@dataclass(frozen=True, slots=True)
class EvaluationResults:
    """An evaluation read back."""

    metric_version: str
    split: str
    n_expected: int
    n_scored: int
    n_logs: int
    unscored: tuple[tuple[str, int, str, str], ...]  # log, frame, planner or "" for all, reason
    scores: pa.Table
    plans: pa.Table
    summary: pa.Table
    differences: pa.Table
    latency: pa.Table
    zero_shot: pa.Table | None  # OPEN_LOOP of the other town
    planners: tuple[str, ...]

    def mean(self, planner: str, measure: str = "pdms", subset: str = "all") -> Interval | None:
        """Mean with interval of one measure; a score in 0 ... 1."""
        return find(self.summary, planner=planner, measure=measure, subset=subset)

    def difference(
        self, planner: str, control: str, measure: str = "pdms", subset: str = "all"
    ) -> Interval | None:
        """Planner minus control on the same scenes."""
        return find(
            self.differences, planner=planner, control=control, measure=measure, subset=subset
        )


def read_results(folder: Path) -> EvaluationResults:
    """Read what ops.evaluate wrote. Raises ArtifactError if the folder holds no evaluation."""
    tables = {
        name: read_metrics(folder, name)
        for name in ("scores", "plans", "summary", "differences", "latency")
    }
    head = json.loads((folder / "summary.json").read_text())
    zero_shot = folder / ZERO_SHOT_FILE
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
        zero_shot=pq.read_table(zero_shot, schema=OPEN_LOOP) if zero_shot.exists() else None,
        planners=tuple(dict.fromkeys(tables["scores"]["planner"].to_pylist())),
        **tables,
    )


def percent(item: Interval | None) -> Interval | None:
    """An interval of a score in 0 ... 1 as 0 ... 100."""
    return item and Interval(100 * item.mean, 100 * item.low, 100 * item.high, item.n, item.logs)
