"""Asset 1 of 9: the raw logs, inventoried but not decoded, one partition a log."""

from functools import partial
from pathlib import Path
from typing import Any

import dagster as dg

from assets.chain.asset_specs import code_version
from assets.chain.checks import asset_checks, result
from assets.chain.ledger import Ledger, State, ledger_of_run
from assets.chain.metadata import table
from assets.chain.one_artifact import MaterializeConfig
from assets.chain.per_log import (
    LOGS,
    ONE_RUN,
    Ingested,
    events,
    ingest,
    quarantine_table,
    with_progress,
)
from assets.chain.pipeline import Pipeline
from ops.ingest.copies import find_copies
from ops.ingest.each_log import LogWork, each_log
from ops.ingest.inventory import inventory_by_split, take_inventory
from ops.ingest.quarantine import BY_HAND, quarantine
from storage.artifact import Lineage
from storage.errors import SourceError


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
    ledger = ledger_of_run(context.run.run_id, pipeline)
    ledger.keep_refusals()
    write_synthetic_logs(context, ledger, force=config.force)

    def work_of(log_id: str, path: Path, lineage: Lineage) -> partial[Any]:
        source, raw = pipeline.source, pipeline.raw_folder
        return partial(take_inventory, source, raw, ledger.logs.refs[log_id], path, lineage)

    ingested = ingest(context, ledger, config, "raw_logs", work_of)
    copies = set_copies_aside(context, ledger, ingested)
    by_hand = [item for item in ledger.quarantined.values() if item.fingerprint == BY_HAND]
    ingested.quarantined |= {item.log_id: item.reason for item in by_hand}
    inventories = [item for log in ingested.lineages if (item := ledger.inventory(log)) is not None]
    metadata = {
        "inventory": table(inventory_by_split(inventories)),
        **({"copies": table(copies)} if copies else {}),
        **({"quarantine": quarantine_table(ledger.quarantined)} if ledger.quarantined else {}),
    }
    row_by_log = {
        item.log_id: {"split": item.split, "images": item.images, "MB": item.bytes / 1e6}
        for item in inventories
    }
    yield from events(context, "raw_logs", ingested, metadata, row_by_log)


def write_synthetic_logs(context: dg.AssetExecutionContext, ledger: Ledger, *, force: bool) -> None:
    """Write those logs of the synthetic world that are missing in the raw folder, changed on disk,
    or made by another configuration or code. Real logs: does nothing.
    """
    if ledger.logs.world is None:
        return
    from ops.synthesize.world import synthesize_log

    todo = [
        log
        for log in context.partition_keys
        if log in ledger.logs.splits_of_world
        and log not in ledger.quarantined
        and (force or ledger.state("raw_logs", log) is not State.CURRENT)
    ]
    raw, world = ledger.pipeline.raw_folder, ledger.logs.world
    works = [LogWork(log, partial(synthesize_log, raw, world, log)) for log in todo]
    outcomes = each_log(works, ledger.pipeline.preset.processes)
    for outcome in with_progress(context, "synthetic logs written", outcomes, len(works)):
        if outcome.error is not None:
            raise outcome.error
    ledger.rewritten(todo)


def set_copies_aside(
    context: dg.AssetExecutionContext, ledger: Ledger, ingested: Ingested
) -> list[dict[str, str]]:
    """Find new logs that are copies of others under another name, one row each. A copy in another
    split would be trained on and tested with, so it is quarantined; one in the same split is told.
    """
    known = {log: item for log in ledger.log_ids if (item := ledger.inventory(log)) is not None}
    made = [log for log in ingested.made if log in known]
    rows = []
    for log, twin in find_copies(made, known, ledger.logs.refs).items():
        split, of_twin = known[log].split, known[twin].split
        rows.append({"log": log, "split": split, "same bytes as": twin, "its split": of_twin})
        if split == of_twin:
            context.log.warning(f"{log} has the same bytes as {twin}: both are used")
            continue
        error = SourceError(
            f"the log has the same bytes as log '{twin}' of another split",
            where=f"log {log}, split {split}",
            expected="every drive in one split only",
            found=f"{twin}, split {of_twin}",
            do=f"remove one of the two, then: latentvla release {log}",
        )
        version = ingested.lineages.pop(log).version
        record = quarantine(ledger.lake, log, "raw_logs", error, version)
        ingested.quarantined[log] = record.reason
        context.log.warning(f"{log} is quarantined: {record.reason}")
    ledger.changed("raw_logs", [row["log"] for row in rows])
    return rows


@asset_checks(
    [
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
def raw_logs_checks(context: dg.AssetCheckExecutionContext, pipeline: dg.ResourceParam[Pipeline]):
    """Checks of the raw logs; all of them only warn."""
    ledger = ledger_of_run(context.run.run_id, pipeline)
    held = ledger.quarantined
    logs = [log for log in ledger.log_ids if log not in held]
    inventories = {log: item for log in logs if (item := ledger.inventory(log)) is not None}
    missing = [log for log in logs if log not in inventories]
    yield _warning(
        "inventory_is_complete", not missing, {"logs": len(inventories), "missing": missing[:20]}
    )
    changed = [log for log in inventories if not ledger.is_intact(log)]
    yield _warning(
        "bytes_are_unchanged", not changed, {"logs": len(inventories), "changed": changed[:20]}
    )
    yield _warning("logs_are_readable", not held, {"quarantined": quarantine_table(held)})


def _warning(name: str, passed: bool, metadata: dict[str, Any]) -> dg.AssetCheckResult:
    return result("raw_logs", name, passed, False, metadata)
