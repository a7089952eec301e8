"""The report's section on what each part of the method is worth over several seeds. Not the
ablation, which is no asset of the pipeline: `latentvla ablate` makes it when asked.
"""

from typing import Any

import pyarrow.parquet as pq

from ops.ablation.table import MEASURES, SUBSETS
from ops.drawing.charts import planner_colour
from ops.drawing.names import OURS, label
from ops.drawing.page import Cell, Row, Section, Table
from ops.report.scores import signed, verdict
from storage.artifact import read_lineage
from storage.lake import Lake

_MAKE = "make it: latentvla ablate --seeds 5"


def ablation_section(lake: Lake) -> Section | str:
    """The ablation's two tables; or why they are not shown: never made, or made from other rows
    than those of the pipeline.
    """
    folder = lake.root / "ablation"
    if not (folder / "differences.parquet").exists():
        return f"What each part is worth over several seeds: not measured yet; {_MAKE}"
    learned_from = {
        read_lineage(run).parents.get("relabeled") for run in (folder / "vla").glob("[0-9]*")
    }
    if learned_from != {read_lineage(lake.asset("relabeled")).version}:
        return f"What each part is worth over several seeds: measured on other rows than those of this pipeline; {_MAKE}"
    planners, differences = (
        pq.read_table(folder / f"{name}.parquet").to_pylist()
        for name in ("planners", "differences")
    )
    columns = [(subset, measure) for subset in SUBSETS for measure in MEASURES]
    head = [
        f"{MEASURES[measure].replace(',', '')}, {SUBSETS[subset]}" for subset, measure in columns
    ]
    means = {(row["planner"], row["subset"], row["measure"]): row for row in planners}
    apart = {
        (row["planner"], row["control"], row["subset"], row["measure"]): row for row in differences
    }
    rows = [
        Row(
            [
                Cell(label(name), dot=planner_colour(name)),
                *(_mean(means.get((name, *column))) for column in columns),
            ],
            ours=name in OURS,
        )
        for name in dict.fromkeys(row["planner"] for row in planners)
    ]
    pairs = dict.fromkeys((row["planner"], row["control"]) for row in differences)
    worth = [
        Row(
            [
                Cell(f"{label(planner)} − {label(control)}", dot=planner_colour(planner)),
                verdict(
                    *(apart[planner, control, "all", "pdms"][bound] for bound in ("low", "high"))
                ),
                *(_difference(apart.get((planner, control, *column))) for column in columns[:-1]),
            ]
        )
        for planner, control in pairs
    ]
    seeds, scenes, logs = (
        max(row[name] for row in planners) for name in ("seeds", "n_scored", "logs")
    )
    times = "once" if seeds == 1 else f"{seeds} times from different first weights"
    return Section(
        "ablation",
        "What each part is worth",
        [
            Table(
                ["planner − control", "verdict", *head[:-1]],
                worth,
                "Same scenes, same seed. In brackets the 95 % interval, paired by scene and drawn over logs; ± is the standard "
                "deviation of the seeds. 'Better' and 'worse' mean that the interval of the PDMS leaves zero out.",
            ),
            Table(
                ["planner", *head],
                rows,
                "Mean over scenes and seeds, ± the standard deviation of the seeds' means.",
            ),
        ],
        f"Everything trained {times}, and scored on {scenes} scenes of {logs} logs. A "
        "planner and its control share rows, seeds and recipe; only the part that is named differs.",
    )


def _mean(row: dict[str, Any] | None) -> Cell:
    if row is None:
        return Cell("–")
    scale, digits = _scale(row)
    return Cell(f"{scale * row['mean']:.{digits}f}", _spread(row))


def _difference(row: dict[str, Any] | None) -> Cell:
    if row is None:
        return Cell("–")
    scale, digits = _scale(row)
    bounds = f"[{signed(scale * row['low'], digits)}, {signed(scale * row['high'], digits)}]"
    return Cell(signed(scale * row["mean"], digits), f"{bounds} {_spread(row)}".strip())


def _spread(row: dict[str, Any]) -> str:
    scale, digits = _scale(row)
    return "" if row["std"] is None else f"± {scale * row['std']:.{digits}f}"


def _scale(row: dict[str, Any]) -> tuple[int, int]:
    return (100, 1) if row["measure"] == "pdms" else (1, 2)
