"""The report's ablation section: each part of the method over several seeds.

The ablation is not an asset of the pipeline; `latentvla ablate` makes it.
"""

from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from ops.ablation.table import DIFFERENCES, MEASURES, PLANNERS, SUBSETS, interval_source
from ops.drawing.page import Cell, Row, Section, Table
from ops.report.cells import pair_cell, planner_row, signed, verdict_cell
from storage.artifact import LINEAGE_FILE, read_lineage
from storage.lake import Lake

_COLUMNS = [(subset, measure) for subset in SUBSETS for measure in MEASURES]
_HEAD = [f"{MEASURES[measure].replace(',', '')}, {SUBSETS[subset]}" for subset, measure in _COLUMNS]
_RUN = "run: latentvla ablate --seeds 5"


def ablation_section(lake: Lake) -> Section | str:
    """The ablation's two tables; or the reason why they are missing: never made, or made from other
    rows than those of the pipeline.
    """
    folder = lake.root / "ablation"
    if not (folder / "differences.parquet").exists():
        return f"Ablation over several seeds: not measured yet; {_RUN}"
    vla = lake.asset("vla")
    trained_on = [_rows_behind(run) for run in (folder / "vla").glob("[0-9]*")]
    present = _rows_behind(vla) if (vla / LINEAGE_FILE).exists() else None
    if not trained_on or any(rows != present for rows in trained_on):
        return (
            "Ablation over several seeds: measured on other rows than those of this pipeline; "
            f"{_RUN}"
        )
    tables = [pq.read_table(folder / f"{name}.parquet") for name in ("planners", "differences")]
    if not all(
        table.schema.equals(schema)
        for table, schema in zip(tables, (PLANNERS, DIFFERENCES), strict=True)
    ):
        return f"Ablation over several seeds: tables of another version; {_RUN}"
    planners, differences = (table.to_pylist() for table in tables)
    seeds, scenes, logs = (
        max(row[name] for row in planners) for name in ("seeds", "n_scored", "logs")
    )
    times = "once" if seeds == 1 else f"{seeds} times, with {seeds} seeds"
    return Section(
        "ablation",
        "Ablation over seeds",
        [_differences_table(differences, seeds), _planners_table(planners, seeds)],
        f"Everything trained {times}, and scored on {scenes} scenes of {logs} logs. A planner and "
        "its control share rows, seeds and recipe; only the named part differs.",
    )


def _differences_table(differences: list[dict[str, Any]], seeds: int) -> Table:
    cells = {
        (row["planner"], row["control"], row["subset"], row["measure"]): row for row in differences
    }
    rows = []
    for pair in dict.fromkeys((row["planner"], row["control"]) for row in differences):
        pdms = cells[*pair, "all", "pdms"]
        rows.append(
            Row(
                [
                    pair_cell(*pair),
                    verdict_cell(pdms["low"], pdms["high"]),
                    *(_difference(cells.get((*pair, *column))) for column in _COLUMNS[:-1]),
                ]
            )
        )
    return Table(
        ["planner − control", "verdict", *_HEAD[:-1]],
        rows,
        f"Same scenes, same seed. {_interval_caption(seeds)} "
        "'Better' and 'worse': the interval of the PDMS excludes zero.",
    )


def _planners_table(planners: list[dict[str, Any]], seeds: int) -> Table:
    means = {(row["planner"], row["subset"], row["measure"]): row for row in planners}
    return Table(
        ["planner", *_HEAD],
        [
            planner_row(name, [_mean(means.get((name, *column))) for column in _COLUMNS])
            for name in dict.fromkeys(row["planner"] for row in planners)
        ],
        f"Mean over scenes and seeds. {_interval_caption(seeds)}",
    )


def _interval_caption(seeds: int) -> str:
    return (
        f"In brackets the 95 % interval, bootstrapped over {interval_source(range(seeds))}. "
        "± is the standard deviation of the seeds' means."
    )


def _rows_behind(artifact: Path) -> dict[str, str]:
    """Logs whose relabeled rows an artefact was trained on -> their version."""
    parents = read_lineage(artifact).parents
    return {name: parents[name] for name in parents if name.startswith("relabeled/")}


def _mean(row: dict[str, Any] | None) -> Cell:
    if row is None:
        return Cell("–")
    scale, digits = _scale(row)
    mean, low, high = (f"{scale * row[name]:.{digits}f}" for name in ("mean", "low", "high"))
    return Cell(mean, f"[{low}, {high}] {_std(row)}".strip())


def _difference(row: dict[str, Any] | None) -> Cell:
    if row is None:
        return Cell("–")
    scale, digits = _scale(row)
    mean, low, high = (signed(scale * row[name], digits) for name in ("mean", "low", "high"))
    return Cell(mean, f"[{low}, {high}] {_std(row)}".strip())


def _std(row: dict[str, Any]) -> str:
    scale, digits = _scale(row)
    return "" if row["std"] is None else f"± {scale * row['std']:.{digits}f}"


def _scale(row: dict[str, Any]) -> tuple[int, int]:
    """Factor and digits: PDMS in %, ADE in metres."""
    return (100, 1) if row["measure"] == "pdms" else (1, 2)
