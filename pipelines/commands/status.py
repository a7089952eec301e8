"""What the command line prints: the summary of a run, the state of a pipeline, tables. Plain text;
nothing is computed.
"""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from storage.artifact import is_current, read_lineage
from storage.errors import ArtifactError
from storage.lake import PER_LOG_ASSETS, Lake

if TYPE_CHECKING:
    import pyarrow as pa

    from assets.chain.pipeline import Pipeline
    from pipelines.commands.run import RunSummary

SCORE_COLUMNS = ("pdms", "nc", "dac", "ddc", "ttc", "ep", "comfort", "epdms", "ade_m", "fde_m")
AS_RECORDED = ("ade_m", "fde_m")  # in metres; the others are shares and are printed times 100


def told(pipeline: "Pipeline", summary: "RunSummary", until: str) -> str:
    """What a run did, where the time went, and what came of it."""
    from assets.chain.asset_specs import ASSET_SPECS

    if summary.failed:
        return "\n".join(
            [
                f"\nfailed after {summary.seconds:.0f} s:",
                *(f"  {line}" for line in summary.failed),
                "the history is in the UI: dagster dev",
            ]
        )
    lines = [""]
    if summary.worked:
        whole = sum(summary.worked.values())
        lines += [
            f"  {asset:<14}{seconds:8.1f} s {100 * seconds / whole:5.0f} %"
            for asset in ASSET_SPECS
            if (seconds := summary.worked.get(asset))
        ]
        lines.append(
            f"  {'together':<14}{summary.seconds:8.1f} s        peak memory {summary.peak_mb / 1024:.2f} GB"
        )
    else:
        lines.append(
            f"nothing to do: every asset up to '{until}' is current ({summary.seconds:.1f} s)"
        )
    lines += [
        f"  in quarantine: {log} ({record.reason.splitlines()[0]})"
        for log, record in _quarantined(pipeline.lake).items()
    ]
    if summary.ends_at:
        return "\n".join([*lines, "", summary.ends_at])
    if until in ("evaluation", "report"):
        lines += ["", score_text(pipeline.lake), *zero_shot_lines(pipeline.lake)]
    if until == "report":
        lines += ["", f"report: {(pipeline.lake.asset('report') / 'report.html').absolute()}"]
    return "\n".join(lines)


def score_text(lake: Lake) -> str:
    """The score table of the evaluation: one row a planner, best first. Raises ArtifactError if
    there is none.
    """
    import pyarrow.parquet as pq

    file = lake.asset("evaluation") / "summary.parquet"
    if not file.exists():
        raise ArtifactError(
            "there is no evaluation in this lake",
            where=lake.root,
            expected=file,
            do="make it: latentvla run --until evaluation",
        )
    cells: dict[str, dict[str, float]] = {}
    scenes = 0
    for row in pq.read_table(file).to_pylist():
        if row["subset"] == "all":
            cells.setdefault(row["planner"], {})[row["measure"]] = row["mean"]
            scenes = max(scenes, row["n_expected"])
    ranked = sorted(cells, key=lambda planner: -_number(cells[planner].get("pdms")))
    rows = [
        {
            "planner": planner,
            **{name: _cell(cells[planner].get(name), name) for name in SCORE_COLUMNS},
        }
        for planner in ranked
    ]
    return "\n".join(
        [
            f"{scenes} scenes of the test logs; shares times 100, distances in metres",
            rows_text(rows),
        ]
    )


def zero_shot_lines(lake: Lake) -> list[str]:
    """The open-loop table of the place where nothing was trained, if the evaluation drove there."""
    from ops.evaluation.open_loop import open_loop_rows, read_open_loop

    table = read_open_loop(lake.asset("evaluation"))
    if table is None:
        return []
    rows = [
        {
            name: value
            if isinstance(value, (str, int))
            else "-"
            if value is None
            else f"{value:.2f}"
            for name, value in row.items()
        }
        for row in open_loop_rows(table)
    ]
    return [
        "",
        "zero shot, open loop where nothing was trained: L2 in metres, collisions in per cent, n rows;",
        "@k is the error at k s (as UniAD reports), <=k the mean up to k s (as ST-P3 and VAD report)",
        rows_text(rows),
    ]


def status_text(pipeline: "Pipeline") -> str:
    """Each asset of the pipeline: how much of it is current, and which logs are in quarantine."""
    from assets.chain.asset_specs import (
        ASSET_SPECS,
        asset_lineage,
        log_lineage,
        missing_capabilities,
        usable_logs,
    )
    from assets.chain.pipeline import RawLogs

    logs, lake = RawLogs(pipeline), pipeline.lake
    lines = [
        f"scale {pipeline.scale}, {pipeline.source} logs in {pipeline.raw_folder}, lake {lake.root}"
    ]
    known: dict[str, str] = {}
    for asset in ASSET_SPECS:
        if asset in PER_LOG_ASSETS:
            there = [log for log in logs.ids if (lake.log(asset, log) / "lineage.json").exists()]
            current = [
                log
                for log in there
                if is_current(lake.log(asset, log), log_lineage(pipeline, logs, asset, log).version)
            ]
            lines.append(
                f"  {asset:<14}{len(current)} of {len(logs.ids)} logs current"
                + (f", {len(there) - len(current)} stale" if len(there) > len(current) else "")
            )
            continue
        try:
            missing = missing_capabilities(lake, asset, usable_logs(pipeline))
            if missing:
                lines.append(
                    f"  {asset:<14}does not apply: the logs have no {' and no '.join(missing)}"
                )
                continue
            known[asset] = asset_lineage(pipeline, asset, known).version
        except ArtifactError:
            lines.append(f"  {asset:<14}missing")
            continue
        path = lake.asset(asset)
        there_is = (path / "lineage.json").exists()
        state = "current" if is_current(path, known[asset]) else "stale" if there_is else "missing"
        made = (
            f", {read_lineage(path).version}, made {read_lineage(path).created_utc}"
            if there_is
            else ""
        )
        lines.append(f"  {asset:<14}{state}{made}")
    return "\n".join(
        [
            *lines,
            *(
                f"  in quarantine: {log}\n    {record.reason}".replace("\n", "\n    ")
                for log, record in _quarantined(lake).items()
            ),
        ]
    )


def logs_text(pipeline: "Pipeline") -> str:
    """One line a log: its split, and how far it has come."""
    from assets.chain.pipeline import RawLogs
    from ops.ingest.inventory import read_inventory

    logs, lake, aside = RawLogs(pipeline), pipeline.lake, _quarantined(pipeline.lake)
    rows = []
    for log in logs.ids:
        there = (lake.log("raw_logs", log) / "lineage.json").exists()
        item = read_inventory(lake.log("raw_logs", log)) if there else None
        made = [
            asset for asset in PER_LOG_ASSETS if (lake.log(asset, log) / "lineage.json").exists()
        ]
        rows.append(
            {
                "log": log,
                "split": item.split if item else "?",
                "images": item.images if item else "",
                "MB": f"{item.bytes / 1e6:.1f}" if item else "",
                "until": f"quarantine at {aside[log].asset}"
                if log in aside
                else made[-1]
                if made
                else "raw",
            }
        )
    return rows_text(rows)


def table_text(table: "pa.Table", limit: int) -> str:
    """An Arrow table as text, at most `limit` rows."""
    rows = [
        {name: _plain(value) for name, value in row.items()}
        for row in table.slice(0, limit).to_pylist()
    ]
    more = f"\n... {len(table)} rows" if len(table) > limit else ""
    return (rows_text(rows) if rows else "  ".join(table.column_names) + "\n(no rows)") + more


def rows_text(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows with the same keys in columns; numbers are set to the right."""
    if not rows:
        return "(no rows)"
    names = list(rows[0])
    words = [[str(row[name]) for name in names] for row in rows]
    widths = [max(len(name), *(len(line[at]) for line in words)) for at, name in enumerate(names)]
    right = [all(_is_number(line[at]) for line in words) for at in range(len(names))]

    def line(cells: Sequence[str]) -> str:
        return "  ".join(
            cell.rjust(width) if to_right else cell.ljust(width)
            for cell, width, to_right in zip(cells, widths, right, strict=True)
        ).rstrip()

    return "\n".join([line(names), *(line(cells) for cells in words)])


def _quarantined(lake: Lake) -> dict[str, Any]:
    from ops.ingest.quarantine import quarantined

    return dict(quarantined(lake))


def _number(value: float | None) -> float:
    return -1.0 if value is None or math.isnan(value) else value


def _cell(value: float | None, name: str) -> str:
    if value is None or math.isnan(value):
        return "-"
    return f"{value:.2f}" if name in AS_RECORDED else f"{100 * value:.1f}"


def _plain(value: Any) -> str:
    return f"{value:.4f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)


def _is_number(word: str) -> bool:
    return word in ("-", "") or word.replace(".", "", 1).replace("-", "", 1).isdigit()
