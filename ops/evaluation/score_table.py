"""The score table of an evaluation: the mean of every measure per planner, best PDMS first."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from ops.evaluation.intervals import Interval
from storage.metrics_table import read_metrics


@dataclass(frozen=True, slots=True)
class ScoreTable:
    """Means of one subset of the scenes."""

    planners: tuple[str, ...]  # best PDMS first; those without a PDMS last
    means: Mapping[str, Mapping[str, Interval]]  # planner -> measure -> mean, as stored
    n_expected: int  # scenes of the subset, scored or not

    def mean(self, planner: str, measure: str = "pdms") -> Interval | None:
        """Mean with its interval: a score in 0 ... 1, a distance in metres; None where it is
        missing.
        """
        return self.means.get(planner, {}).get(measure)

    def text(self, planner: str, measure: str, missing: str = "-") -> str:
        """A mean for display: scores in % with one digit, distances in metres with two."""
        item = self.mean(planner, measure)
        if item is None:
            return missing
        return f"{item.mean:.2f}" if measure.endswith("_m") else f"{100 * item.mean:.1f}"

    @property
    def unscored(self) -> dict[str, int]:
        """Scenes without a PDM score of each planner that lacks one somewhere."""
        pdms = {planner: self.mean(planner) for planner in self.planners}
        missing = {
            planner: self.n_expected - (item.n if item is not None else 0)
            for planner, item in pdms.items()
        }
        return {planner: count for planner, count in missing.items() if count}

    def title(self, measure: str) -> str:
        """Column title of a measure: its name; see epdms_title() for the EPDMS."""
        return epdms_title(self.means, measure) if measure == "epdms" else measure

    def short_title(self, measure: str) -> str:
        """Column title of a measure in a terminal: "*" refers to `footnote`."""
        if measure == "epdms" and self.footnote:
            return "epdms*"
        return "comf" if measure == "comfort" else measure

    @property
    def footnote(self) -> str:
        """What the "*" of a short title stands for; "" without one."""
        title = self.title("epdms")
        return "" if title == "epdms" else f"*: {title}; EC is the two-frame comfort"


def epdms_title(
    means: Mapping[str, Mapping[str, object]],
    name: str = "EPDMS",
    *,
    epdms: str = "epdms",
    ec: str = "ec_v2",
) -> str:
    """Title of the EPDMS of some planners: `name`; "... without EC" where no scene of a planner has
    a two-frame comfort, as when no two scored plans are 0.5 s apart. EC and its weight are then
    left out of the EPDMS. If that applies to some planners only, the title names them.

    `means` are the means that exist, planner -> measure -> mean; `epdms` and `ec` are the names of
    the two measures there.
    """
    scored = [planner for planner, measures in means.items() if epdms in measures]
    without_ec = [planner for planner in scored if ec not in means[planner]]
    if not without_ec:
        return name
    if len(without_ec) == len(scored):
        return f"{name} without EC"
    return f"{name} ({', '.join(without_ec)}: without EC)"


def read_score_table(folder: Path) -> ScoreTable:
    """The score table over all scenes of the evaluation in `folder`. Raises ArtifactError if it
    holds none.
    """
    return score_table(read_metrics(folder, "summary"))


def score_table(summary: pa.Table, subset: str = "all") -> ScoreTable:
    """Pivot a summary (storage.metrics_table.SUMMARY) to planner -> measure -> mean for one subset
    of the scenes. Planners of equal PDMS keep the order of the summary.
    """
    means: dict[str, dict[str, Interval]] = {}
    n_expected = 0
    for row in summary.to_pylist():
        if row["subset"] != subset:
            continue
        n_expected = max(n_expected, row["n_expected"])
        measures = means.setdefault(row["planner"], {})
        if not math.isnan(row["mean"]):
            measures[row["measure"]] = Interval(
                row["mean"], row["low"], row["high"], row["n_scored"], row["logs"]
            )

    def rank(planner: str) -> float:
        pdms = means[planner].get("pdms")
        return math.inf if pdms is None else -pdms.mean

    return ScoreTable(tuple(sorted(means, key=rank)), means, n_expected)
