"""Asset 1 of 9: the raw logs, inventoried but not decoded, one partition a log."""

from functools import partial
from pathlib import Path
from typing import Any

import dagster as dg

from assets.chain.asset_specs import code_version, log_lineage
from assets.chain.checks import result
from assets.chain.metadata import table
from assets.chain.one_artifact import MaterializeConfig
from assets.chain.per_log import LOGS, ONE_RUN, events, ingest, with_progress
from assets.chain.pipeline import Pipeline, RawLogs
from ops.ingest.each_log import LogWork, each_log
from ops.ingest.inventory import (
    fingerprint_of,
    inventory_by_split,
    read_inventory,
    take_inventory,
)
from ops.ingest.quarantine import quarantined
from storage.artifact import Lineage, is_current


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

    Your own logs are not changed. Logs of the synthetic world are written first. The inventory
    holds the number of files, the bytes, a fingerprint of the content, and what a log has: cameras,
    agents, map, traffic lights, command. A log that cannot be opened is quarantined with its reason
    and tried again when its bytes change.
    """
    logs, lake = RawLogs(pipeline), pipeline.lake
    write_synthetic_logs(context, pipeline, logs, force=config.force)

    def work_of(log_id: str, path: Path, lineage: Lineage) -> partial[Any]:
        source, raw = pipeline.source, pipeline.raw_folder
        return partial(take_inventory, source, raw, logs.refs[log_id], path, lineage)

    ingested = ingest(context, pipeline, config, "raw_logs", work_of, logs)
    made = set(lake.log_ids("raw_logs")) & set(context.partition_keys)
    inventories = [read_inventory(lake.log("raw_logs", log)) for log in sorted(made)]
    metadata = {"inventory": table(inventory_by_split(inventories))}
    row_by_log = {
        item.log_id: {"split": item.split, "images": item.images, "MB": item.bytes / 1e6}
        for item in inventories
    }
    yield from events(context, "raw_logs", ingested, metadata, row_by_log)


def write_synthetic_logs(
    context: dg.AssetExecutionContext, pipeline: Pipeline, logs: RawLogs, *, force: bool
) -> None:
    """Write those logs of the synthetic world that are missing in the raw folder, changed on disk,
    or made by another configuration or code. Real logs: does nothing.
    """
    if logs.world is None:
        return
    from ops.synthesize.world import synthesize_log

    def is_written(log_id: str) -> bool:
        version = log_lineage(pipeline, logs, "raw_logs", log_id).version
        return is_current(pipeline.lake.log("raw_logs", log_id), version) and logs.is_intact(log_id)

    todo = [
        log
        for log in context.partition_keys
        if log in logs.splits_of_world and (force or not is_written(log))
    ]
    works = [
        LogWork(log, partial(synthesize_log, pipeline.raw_folder, logs.world, log)) for log in todo
    ]
    outcomes = each_log(works, pipeline.preset.processes)
    for outcome in with_progress(context, "synthetic logs written", outcomes, len(works)):
        if outcome.error is not None:
            raise outcome.error
    logs.forget_refs()


@dg.multi_asset_check(
    specs=[
        dg.AssetCheckSpec(
            "inventory_is_complete",
            asset="raw_logs",
            description="Every log in the raw folder has an inventory or is quarantined.",
        ),
        dg.AssetCheckSpec(
            "bytes_are_unchanged",
            asset="raw_logs",
            description="The files of every log still have the content that was inventoried.",
        ),
        dg.AssetCheckSpec(
            "logs_are_readable",
            asset="raw_logs",
            description="No log is quarantined. The pipeline continues without quarantined logs.",
        ),
    ]
)
def raw_logs_checks(pipeline: dg.ResourceParam[Pipeline]):
    """Checks of the raw logs; all of them only warn."""
    logs, lake = RawLogs(pipeline), pipeline.lake
    inventoried, records = set(lake.log_ids("raw_logs")), quarantined(lake)
    missing = [log for log in logs.ids if log not in inventoried and log not in records]
    yield _warning(
        "inventory_is_complete", not missing, {"logs": len(inventoried), "missing": missing[:20]}
    )
    changed = [
        log
        for log in sorted(inventoried & set(logs.refs))
        if log not in records
        and read_inventory(lake.log("raw_logs", log)).fingerprint
        != fingerprint_of(logs.refs[log], lake.log("raw_logs", log))
    ]
    yield _warning(
        "bytes_are_unchanged", not changed, {"logs": len(inventoried), "changed": changed[:20]}
    )
    rows = [
        {
            "log": record.log_id,
            "asset": record.asset,
            "reason": record.reason,
            "since": record.since_utc,
        }
        for record in records.values()
    ]
    yield _warning("logs_are_readable", not rows, {"quarantined": table(rows)})


def _warning(name: str, passed: bool, metadata: dict[str, Any]) -> dg.AssetCheckResult:
    return result("raw_logs", name, passed, False, metadata)
