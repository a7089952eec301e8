"""AssetSpec 3: the tables of each log (ego motion, agents, lights, map) in Parquet, one partition a
log.
"""

from functools import partial

import dagster as dg

from assets.chain.asset_specs import code_version
from assets.chain.checks import record, result
from assets.chain.metadata import column_schema, file_path, svg_picture, table
from assets.chain.one_artifact import MaterializeConfig
from assets.chain.per_log import LOGS, ONE_RUN, events, ingest, summaries
from assets.chain.pipeline import Pipeline, RawLogs
from assets.frames import frames
from assets.raw_logs import raw_logs
from storage.trajectory_table import MEANING

# shown of each log
COLUMNS = ("log_id", "rows", "span_s", "path_m", "max_speed_mps", "agents", "map_objects")


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

    Beside it lie the tables of agents, traffic lights and the map near the log's path. Missing
    steps are marked by a `valid` mask and never filled. The command comes from the route, never
    from the recorded future.
    """
    from ops.ingest.each_log import make_from_raw_log
    from ops.ingest.extract import extract
    from storage.trajectory_table import TRAJECTORIES

    settings = pipeline.preset.trajectories
    done = ingest(
        context,
        pipeline,
        config,
        "trajectories",
        lambda log_id, path, lineage: partial(
            make_from_raw_log,
            extract,
            pipeline.source,
            pipeline.raw_folder,
            log_id,
            settings,
            path,
            lineage,
        ),
        RawLogs(pipeline),
    )
    rows = summaries(pipeline, "trajectories", context.partition_keys)
    yield from events(
        context,
        "trajectories",
        done,
        {
            "rows": sum(row["rows"] for row in rows),
            "km": sum(row["path_m"] for row in rows) / 1e3,
            "dagster/column_schema": column_schema(TRAJECTORIES, MEANING),
            "where and how fast": motion_picture(pipeline, rows),
            "logs": table([{name: row[name] for name in COLUMNS} for row in rows], limit=12),
        },
        {row["log_id"]: {name: row[name] for name in COLUMNS[1:]} for row in rows},
    )


def motion_picture(pipeline: Pipeline, rows: list[dict]) -> dg.MarkdownMetadataValue:
    """Paths of the run's logs from above and the distribution of speed and yaw rate."""
    from ops.pages.ingest_pictures import motion_chart

    folders = [pipeline.lake.log("trajectories", row["log_id"]) for row in rows[:200]]
    return (
        svg_picture(motion_chart(folders), "paths, speed, yaw rate")
        if folders
        else dg.MetadataValue.md("*no log*")
    )


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

    logs = pipeline.lake.log_ids("trajectories")
    for name, validate in (("trajectories", validate_trajectories), ("agents", validate_agents)):
        found = validate(
            pa.concat_tables(
                [read_table(pipeline.lake.log("trajectories", log), name) for log in logs]
            )
        )
        page = pipeline.lake.root / "data_docs" / f"{name}.html"
        page.parent.mkdir(parents=True, exist_ok=True)
        page.write_text(found.html)
        for log in logs:
            record(
                pipeline,
                "trajectories",
                log,
                {
                    item.rule.name: log not in item.failed_logs
                    for item in found.results
                    if item.rule.blocking
                },
            )
        for item in found.results:
            yield result(
                "trajectories",
                item.rule.name,
                item.passed,
                item.rule.blocking,
                {
                    "rows": item.rows,
                    "unexpected rows": item.unexpected_count,
                    **(
                        {}
                        if item.passed
                        else {
                            "for example": item.observed,
                            "failed rows": table([{"row": key} for key in item.failed_keys]),
                        }
                    ),
                    "data docs": file_path(page),
                },
            )
