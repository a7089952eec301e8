"""Asset 3 of 9: the tables of each log (ego motion, agents, lights, map) in Parquet, one partition
a log.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import dagster as dg

from assets.chain.asset_specs import code_version
from assets.chain.checks import Finding, asset_checks, data_check_results
from assets.chain.ledger import ledger_of_run
from assets.chain.metadata import column_schema, svg_picture, table
from assets.chain.one_artifact import MaterializeConfig
from assets.chain.per_log import LOGS, ONE_RUN, events, from_raw_log, ingest, summaries
from assets.chain.pipeline import Pipeline
from assets.chain.quality_checks import quality_findings, quality_specs
from assets.frames import frames
from assets.raw_logs import raw_logs
from storage.trajectory_table import MEANING

if TYPE_CHECKING:
    pass

# columns of the table of logs
COLUMNS = ("log_id", "rows", "span_s", "path_m", "max_speed_mps", "agents", "map_objects")
MAX_PATHS = 200  # logs in the picture


@dg.asset(
    deps=[raw_logs, frames],
    partitions_def=LOGS,
    backfill_policy=ONE_RUN,
    group_name="ingest",
    kinds={"parquet", "arrow"},
    owners=["team:data"],
    code_version=code_version("trajectories"),
)
def trajectories(
    context: dg.AssetExecutionContext,
    pipeline: dg.ResourceParam[Pipeline],
    config: MaterializeConfig,
):
    """One row a frame: pose, velocity, acceleration, command, 2 s of history and 4 s of future in
    the ego frame.

    Further tables hold the agents, the traffic lights and the map near the log's path. Missing
    steps are marked by a `valid` mask and never filled. The command comes from the route, never
    from the recorded future.
    """
    from ops.ingest.extract import extract

    work_of = from_raw_log(pipeline, extract, pipeline.preset.trajectories)
    ledger = ledger_of_run(context.run.run_id, pipeline)
    ingested = ingest(context, ledger, config, "trajectories", work_of, check_tables)
    rows = summaries(ledger, "trajectories", ingested.lineages)
    row_by_log = {row["log_id"]: {name: row[name] for name in COLUMNS[1:]} for row in rows}
    metadata = trajectories_metadata(pipeline, rows)
    yield from events(context, "trajectories", ingested, metadata, row_by_log)


def trajectories_metadata(pipeline: Pipeline, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Totals, the columns, a picture of the motion, and the table of logs."""
    from storage.trajectory_table import TRAJECTORIES

    return {
        "rows": sum(row["rows"] for row in rows),
        "km": sum(row["path_m"] for row in rows) / 1e3,
        "dagster/column_schema": column_schema(TRAJECTORIES, MEANING),
        "paths and speeds": motion_picture(pipeline, rows),
        "logs": table([{name: row[name] for name in COLUMNS} for row in rows], limit=12),
    }


def motion_picture(pipeline: Pipeline, rows: list[dict[str, Any]]) -> dg.MarkdownMetadataValue:
    """Paths of the run's logs from above and the distribution of speed and yaw rate."""
    from ops.pages.ingest_pictures import motion_chart

    folders = [pipeline.lake.log("trajectories", row["log_id"]) for row in rows[:MAX_PATHS]]
    if not folders:
        return dg.MetadataValue.md("*no log*")
    return svg_picture(motion_chart(folders), "paths, speed, yaw rate")


@asset_checks(quality_specs("trajectories"))
def trajectories_checks(
    context: dg.AssetCheckExecutionContext, pipeline: dg.ResourceParam[Pipeline]
):
    """The data rules of the trajectories; a log that breaks a blocking one is quarantined."""
    yield from data_check_results(context, pipeline, "trajectories", check_tables)


def check_tables(pipeline: Pipeline, log_ids: Sequence[str]) -> list[Finding]:
    """The outcome of every rule over these logs."""
    return quality_findings("trajectories", pipeline, log_ids)
