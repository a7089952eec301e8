"""The report's zero-shot section: open-loop L2 and collision rate in a new town."""

from collections.abc import Mapping
from functools import partial
from typing import Any

from ops.drawing.names import grouped
from ops.drawing.page import Cell, Paragraph, Section, Table
from ops.evaluation.open_loop import HORIZONS_S
from ops.report.cells import group_rows
from ops.report.results import EvaluationResults

HEADINGS = {
    "at": "Error at k seconds (as UniAD reports)",
    "upto": "Mean up to k seconds (as ST-P3 and VAD report)",
}
COLUMNS = (
    "planner",
    *(f"L2 {k}\u00a0s" for k in HORIZONS_S),
    *(f"collisions {k}\u00a0s, %" for k in HORIZONS_S),
    "L2 3\u00a0s straight",
    "L2 3\u00a0s turning",
    "rows",
)
KEY = (
    "L2 in metres. Collisions: rows in which the planned ego box overlaps another road user. Rows: "
    "in L2 at 3 s, in the collision rate at 3 s / all."
)


def zero_shot_section(results: EvaluationResults) -> Section | None:
    """L2 and collision rate on the zero-shot logs in both conventions; None if the evaluation has
    none.
    """
    if results.zero_shot is None or not len(results.zero_shot):
        return None
    planners = list(dict.fromkeys(results.zero_shot["planner"].to_pylist()))
    groups = grouped(planners)
    controls = [name for name in planners if not any(name in names for _, names in groups)]
    groups += (
        [("Image ablation: black images, and images of other logs", controls)] if controls else []
    )
    blocks: list[Table | Paragraph] = []
    for convention, heading in HEADINGS.items():
        table = {
            (row["planner"], row["subset"], row["horizon_s"]): row
            for row in results.zero_shot.to_pylist()
            if row["convention"] == convention
        }
        blocks += [
            Paragraph(heading=heading),
            Table(COLUMNS, group_rows(groups, partial(_cells, table)), KEY),
        ]
    return Section(
        "zero-shot",
        "Zero-shot: a town without training data",
        blocks,
        "Open-loop L2 and collision rate on logs in nuScenes' format (the synthetic town B, or "
        "nuScenes if its folder is given). Published tables use two definitions of 'at k seconds' "
        "that differ by almost a factor of two; both are shown. 'At k seconds' masks each pose "
        "without a recorded human pose; 'up to k seconds' uses only rows whose 3 s are complete. "
        "Poses at which the human's own box overlaps another are in no collision rate; boxes are "
        "rotated by the planned heading. Turning: the human is 2 m or more to a side after 3 s.",
    )


def _cells(table: Mapping[tuple[str, str, int], dict[str, Any]], planner: str) -> list[Cell]:
    horizons = [table[planner, "all", k] for k in HORIZONS_S]
    subsets = [table[planner, subset, HORIZONS_S[-1]] for subset in ("straight", "turning")]
    last = horizons[-1]
    return [
        *(_metres(row["l2_m"]) for row in horizons),
        *(
            Cell("–" if row["collision"] is None else f"{100 * row['collision']:.2f}")
            for row in horizons
        ),
        *(_metres(row["l2_m"]) for row in subsets),
        Cell(f"{last['n_rows']}, {last['n_collision']} / {last['n_expected']}"),
    ]


def _metres(value: float | None) -> Cell:
    return Cell("–" if value is None else f"{value:.2f}")
