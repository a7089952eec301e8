"""AssetSpec 1: the raw logs as they lie in the raw folder, one partition a log. Nothing of them is
decoded here.
"""

from functools import partial
from typing import TYPE_CHECKING

import dagster as dg

from assets.chain.asset_specs import code_version, log_lineage
from assets.chain.metadata import table
from assets.chain.one_artifact import MaterializeConfig
from assets.chain.per_log import LOGS, ONE_RUN, events, ingest, with_progress
from assets.chain.pipeline import Pipeline, RawLogs
from ops.ingest.each_log import LogWork, each_log
from storage.artifact import is_current

if TYPE_CHECKING:
    from ops.ingest.inventory import Inventory


@dg.asset(
    partitions_def=LOGS,
    backfill_policy=ONE_RUN,
    group_name="ingest",
    kinds={"file"},
    owners=["team:data"],
    code_version=code_version("raw_logs"),
)
def raw_logs(
    context: dg.AssetExecutionContext,
    pipeline: dg.ResourceParam[Pipeline],
    config: MaterializeConfig,
):
    """Raw driving logs in their public format (OpenScene, nuScenes or KITTI raw), with an inventory
    of each.

    Your own logs stay as they are. Logs of the synthetic world are written first. The inventory
    holds the number of files, the bytes, a fingerprint of the content, and what a log has: cameras,
    agents, map, traffic lights, command. A log that cannot be opened is quarantined with its reason
    and tried again when its bytes change.
    """
    from ops.ingest.inventory import read_inventory, take_inventory

    logs = RawLogs(pipeline)
    write_missing(context, pipeline, logs, force=config.force)
    done = ingest(
        context,
        pipeline,
        config,
        "raw_logs",
        lambda log_id, path, lineage: partial(
            take_inventory, pipeline.source, pipeline.raw_folder, logs.refs[log_id], path, lineage
        ),
        logs,
    )
    there = set(pipeline.lake.log_ids("raw_logs"))
    items = [
        read_inventory(pipeline.lake.log("raw_logs", log))
        for log in context.partition_keys
        if log in there
    ]
    yield from events(
        context,
        "raw_logs",
        done,
        {"inventory": table(inventory_rows(items))},
        {
            item.log_id: {"split": item.split, "images": item.images, "MB": item.bytes / 1e6}
            for item in items
        },
    )


def write_missing(
    context: dg.AssetExecutionContext, pipeline: Pipeline, logs: RawLogs, *, force: bool
) -> None:
    """Write those of the synthetic world's logs that are not in the raw folder as this world and
    this code make them.
    """
    from ops.synthesize.world import synthesize_log

    def is_written(log_id: str) -> bool:
        version = log_lineage(pipeline, logs, "raw_logs", log_id).version
        return is_current(pipeline.lake.log("raw_logs", log_id), version) and logs.is_intact(log_id)

    if logs.world is None:
        return
    todo = [
        log
        for log in context.partition_keys
        if log in logs.splits_of_world and (force or not is_written(log))
    ]
    works = [
        LogWork(log, partial(synthesize_log, pipeline.raw_folder, logs.world, log)) for log in todo
    ]
    for outcome in with_progress(
        context, "synthetic world", each_log(works, pipeline.preset.processes), len(works)
    ):
        if outcome.error is not None:
            raise outcome.error
    logs.forget_refs()


def inventory_rows(items: "list[Inventory]") -> list[dict]:
    """One row a split: logs, files, bytes and what the logs hold."""
    by_split = {
        split: [item for item in items if item.split == split]
        for split in {item.split for item in items}
    }
    return [
        {
            "split": split,
            "logs": len(mine),
            "files": sum(item.files for item in mine),
            "images": sum(item.images for item in mine),
            "MB": sum(item.bytes for item in mine) / 1e6,
            "cameras": ", ".join(mine[0].capabilities.cameras),
            "agents": mine[0].capabilities.agents,
            "map": mine[0].capabilities.map,
            "command": mine[0].capabilities.command,
        }
        for split, mine in sorted(by_split.items())
    ]


@dg.multi_asset_check(
    specs=[
        dg.AssetCheckSpec(
            "inventory_is_complete",
            asset="raw_logs",
            description="Every log that the raw folder holds has an inventory or stands in quarantine.",
        ),
        dg.AssetCheckSpec(
            "bytes_are_unchanged",
            asset="raw_logs",
            description="The files of every log still have the content that was taken stock of.",
        ),
        dg.AssetCheckSpec(
            "logs_are_readable",
            asset="raw_logs",
            description="No log stands in quarantine. The others go on without it.",
        ),
    ]
)
def raw_logs_checks(pipeline: dg.ResourceParam[Pipeline]):
    """What guards the raw logs."""
    from ops.ingest.inventory import fingerprint_of, read_inventory
    from ops.ingest.quarantine import quarantined

    logs, lake = RawLogs(pipeline), pipeline.lake
    there, aside = set(lake.log_ids("raw_logs")), quarantined(lake)
    missing = [log for log in logs.ids if log not in there and log not in aside]
    yield _warning(
        "inventory_is_complete", not missing, {"logs": len(there), "missing": missing[:20]}
    )
    changed = [
        log
        for log in there & set(logs.refs)
        if log not in aside
        and read_inventory(lake.log("raw_logs", log)).fingerprint
        != fingerprint_of(logs.refs[log], lake.log("raw_logs", log))
    ]
    yield _warning(
        "bytes_are_unchanged", not changed, {"logs": len(there), "changed": sorted(changed)[:20]}
    )
    rows = [
        {
            "log": record.log_id,
            "asset": record.asset,
            "reason": record.reason,
            "since": record.since_utc,
        }
        for record in aside.values()
    ]
    yield _warning("logs_are_readable", not rows, {"quarantined": table(rows)})


def _warning(name: str, passed: bool, metadata: dict) -> dg.AssetCheckResult:
    return dg.AssetCheckResult(
        passed=passed,
        asset_key="raw_logs",
        check_name=name,
        metadata=metadata,
        severity=dg.AssetCheckSeverity.WARN,
    )
