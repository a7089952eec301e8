"""An evaluation read back for the report, with the names and the order in which its planners are shown.
Not the tables it makes of them.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from ops.intervals import Interval
from ops.openloop import OPEN_LOOP
from ops.summarize import find
from storage.metrics_table import ZERO_SHOT_FILE, read_metrics

GROUPS = (("Blind: rules and ego status only", ("stopped", "constant_velocity", "constant_turn_rate",
                                                "ego_status_mlp")),
          ("Planners that see", ("planner_alone", "student_no_teacher", "vla", "student")),
          ("References", ("pdm_closed", "human")))
OURS = ("vla", "student")
_NAMES = {"vla": "VLA", "pdm_closed": "PDM-Closed", "ego_status_mlp": "ego-status MLP", "human": "human log",
          "student_no_teacher": "student without teacher"}
_IMAGES = {"_blank": "black images", "_shuffled": "shuffled images"}


@dataclass(frozen=True, slots=True)
class Findings:
    """An evaluation read back."""

    metric_version: str
    split: str
    n_expected: int
    n_scored: int
    n_logs: int
    unscored: tuple[tuple[str, int, str, str], ...]     # log, frame, planner or "" for all, reason
    scores: pa.Table
    plans: pa.Table
    summary: pa.Table
    differences: pa.Table
    latency: pa.Table
    zero_shot: pa.Table | None                          # OPEN_LOOP of the other town
    planners: tuple[str, ...]

    def mean(self, planner: str, measure: str = "pdms", subset: str = "all") -> Interval | None:
        """Mean with interval of one measure; a score in 0 ... 1."""
        return find(self.summary, planner=planner, measure=measure, subset=subset)

    def difference(self, planner: str, control: str, measure: str = "pdms", subset: str = "all") -> Interval | None:
        """Planner minus control on the same scenes."""
        return find(self.differences, planner=planner, control=control, measure=measure, subset=subset)


def read_findings(folder: Path) -> Findings:
    """Read what ops.evaluate wrote. Raises ArtifactError if the folder holds no evaluation."""
    tables = {name: read_metrics(folder, name) for name in ("scores", "plans", "summary", "differences", "latency")}
    head = json.loads((folder / "summary.json").read_text())
    zero_shot = folder / ZERO_SHOT_FILE
    return Findings(
        metric_version=head["metric_version"], split=head["split"], n_expected=head["n_expected"],
        n_scored=head["n_scored"], n_logs=head["n_logs"],
        unscored=tuple((item["log_id"], item["frame_index"], item["planner"], item["reason"])
                       for item in head["unscored"]),
        zero_shot=pq.read_table(zero_shot, schema=OPEN_LOOP) if zero_shot.exists() else None,
        planners=tuple(dict.fromkeys(tables["scores"]["planner"].to_pylist())), **tables)


def label(planner: str) -> str:
    """A planner's name for people."""
    for suffix, images in _IMAGES.items():
        if planner.endswith(suffix):
            return f"{label(planner.removesuffix(suffix))}, {images}"
    return _NAMES.get(planner, planner.replace("_", " "))


def percent(item: Interval | None) -> Interval | None:
    """An interval of a score in 0 ... 1 as 0 ... 100."""
    return item and Interval(100 * item.mean, 100 * item.low, 100 * item.high, item.n, item.logs)


def grouped(planners: Sequence[str]) -> list[tuple[str, list[str]]]:
    """The planners with their own images by group, in the order of the table; unknown ones last."""
    own = [name for name in planners if not name.endswith(tuple(_IMAGES))]
    known = {name for _, names in GROUPS for name in names}
    groups = [(title, [name for name in names if name in own]) for title, names in GROUPS]
    groups.append(("Others", [name for name in own if name not in known]))
    return [(title, names) for title, names in groups if names]
