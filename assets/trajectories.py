"""Asset 3 of 9: the tables of each log (ego motion, agents, lights, map) in Parquet, one partition
a log.
"""

from typing import Any

import dagster as dg

from assets.chain.asset_specs import code_version
from assets.chain.checks import record, result
from assets.chain.metadata import column_schema, file_path, key_table, svg_picture, table
from assets.chain.one_artifact import MaterializeConfig
from assets.chain.per_log import LOGS, ONE_RUN, events, from_raw_log, ingest, summaries
from assets.chain.pipeline import Pipeline, RawLogs
from assets.frames import frames
from assets.raw_logs import raw_logs
from storage.trajectory_table import MEANING

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
    ingested = ingest(context, pipeline, config, "trajectories", work_of, RawLogs(pipeline))
    rows = summaries(pipeline, "trajectories", context.partition_keys)
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


def _specs() -> list[dg.AssetCheckSpec]:
    from storage.expectations import AGENT_RULES, TRAJECTORY_RULES

    return [
        dg.AssetCheckSpec(
            rule.name, asset="trajectories", description=rule.description, blocking=rule.blocking
        )
        for rule in (*TRAJECTORY_RULES, *AGENT_RULES)
    ]


@dg.multi_asset_check(specs=_specs())
def trajectories_checks(pipeline: dg.ResourceParam[Pipeline]):
    """The Great Expectations suites over the tables of all logs; rows that break a rule are listed
    by key.
    """
    import pyarrow as pa

    from storage.expectations import validate_agents, validate_trajectories
    from storage.trajectory_table import read_table

    log_ids = pipeline.lake.log_ids("trajectories")
    folders = [pipeline.lake.log("trajectories", log) for log in log_ids]
    for name, validate in (("trajectories", validate_trajectories), ("agents", validate_agents)):
        suite = validate(pa.concat_tables([read_table(folder, name) for folder in folders]))
        page = pipeline.lake.root / "data_docs" / f"{name}.html"
        page.parent.mkdir(parents=True, exist_ok=True)
        page.write_text(suite.html)
        blocking = [item for item in suite.results if item.rule.blocking]
        for log in log_ids:
            outcome = {item.rule.name: log not in item.failed_logs for item in blocking}
            record(pipeline, "trajectories", log, outcome)
        for item in suite.results:
            metadata = {
                "rows": item.rows,
                "unexpected rows": item.unexpected_count,
                **({} if item.passed else {"for example": item.observed}),
                **({} if item.passed else {"failed rows": key_table(item.failed_keys)}),
                "data docs": file_path(page),
            }
            yield result("trajectories", item.rule.name, item.passed, item.rule.blocking, metadata)
