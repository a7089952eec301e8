"""Asset 2 of 9: the decoded images of each log in a Zarr store, one partition a log."""

from collections.abc import Sequence
from typing import Any

import dagster as dg

from assets.chain.asset_specs import code_version
from assets.chain.checks import Finding, asset_checks, data_check_results
from assets.chain.ledger import ledger_of_run
from assets.chain.metadata import evenly_chosen, jpeg_picture, table
from assets.chain.one_artifact import MaterializeConfig
from assets.chain.per_log import LOGS, ONE_RUN, events, from_raw_log, ingest, summaries
from assets.chain.pipeline import Pipeline
from assets.chain.quality_checks import quality_findings, quality_specs
from assets.raw_logs import raw_logs

# columns of the table of logs
COLUMNS = ("log_id", "frames", "width", "height", "mean_hz", "black", "frozen", "gaps")
MAX_NOTES = 12  # corrections that are shown; each log's summary holds all of its own
SHEET_ROWS, SHEET_COLUMNS = 3, 4  # images in the contact sheet


@dg.asset(
    deps=[raw_logs],
    partitions_def=LOGS,
    backfill_policy=ONE_RUN,
    group_name="ingest",
    kinds={"zarr"},
    owners=["team:data"],
    code_version=code_version("frames"),
)
def frames(
    context: dg.AssetExecutionContext,
    pipeline: dg.ResourceParam[Pipeline],
    config: MaterializeConfig,
):
    """Camera images of each log as one sharded Zarr v3 array, uint8 (frame, height, width, RGB),
    with time stamps.

    `frame_index` is the number of the frame in the raw log and is never renumbered. A log that did
    not change is not decoded again; a log with a damaged image is quarantined with its reason.
    """
    from ops.ingest.decode import decode

    work_of = from_raw_log(pipeline, decode, pipeline.preset.frames)
    ledger = ledger_of_run(context.run.run_id, pipeline)
    ingested = ingest(context, ledger, config, "frames", work_of, check_frames)
    rows = summaries(ledger, "frames", ingested.lineages)
    notes = [{"log_id": row["log_id"], "note": note} for row in rows for note in row["notes"]]
    for item in [item for item in notes if item["log_id"] in ingested.made][:MAX_NOTES]:
        context.log.info(f"{item['log_id']}: {item['note']}")
    row_by_log = {row["log_id"]: {name: row[name] for name in COLUMNS[1:]} for row in rows}
    metadata = frames_metadata(pipeline, rows, notes)
    yield from events(context, "frames", ingested, metadata, row_by_log)


def frames_metadata(
    pipeline: Pipeline, rows: list[dict[str, Any]], notes: list[dict[str, str]]
) -> dict[str, Any]:
    """Totals, a contact sheet, the table of logs, and what the reader corrected in them."""
    return {
        "frames": sum(row["frames"] for row in rows),
        "MB stored": sum(row["stored_bytes"] for row in rows) / 1e6,
        "first frames": first_frames(pipeline, [row["log_id"] for row in rows]),
        "logs": table([{name: row[name] for name in COLUMNS} for row in rows], limit=12),
        **({"corrections": table(notes, limit=MAX_NOTES)} if notes else {}),
    }


def first_frames(pipeline: Pipeline, log_ids: list[str]) -> dg.MarkdownMetadataValue:
    """The first front image of some logs of the run, evenly chosen, as one picture."""
    from ops.pages.ingest_pictures import first_frames_sheet

    chosen = evenly_chosen(log_ids, SHEET_ROWS * SHEET_COLUMNS)
    if not chosen:
        return dg.MetadataValue.md("*no log was decoded*")
    folders = [pipeline.lake.log("frames", log) for log in chosen]
    return jpeg_picture(first_frames_sheet(folders, SHEET_COLUMNS), "first frame of some logs")


@asset_checks(quality_specs("frames"))
def frames_checks(context: dg.AssetCheckExecutionContext, pipeline: dg.ResourceParam[Pipeline]):
    """The data rules of the frames; a log that breaks a blocking one is quarantined."""
    yield from data_check_results(context, pipeline, "frames", check_frames)


def check_frames(pipeline: Pipeline, log_ids: Sequence[str]) -> list[Finding]:
    """The outcome of every rule over these logs."""
    return quality_findings("frames", pipeline, log_ids)
