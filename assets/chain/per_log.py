"""What the assets with one partition a log share: the partitions, the loop over the logs of a run,
and the events for Dagster.

One run takes any number of logs. Dagster would mark all its logs as materialized, with one data
version, so its own events are left out: each log that is made and passed its checks gets an event
of its own, with its version and those of its inputs, and a quarantined log gets none.
"""

import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import dagster as dg
from dagster._core.definitions.source_asset import SYSTEM_METADATA_KEY_SOURCE_ASSET_OBSERVATION

from assets.chain.asset_specs import ASSET_SPECS
from assets.chain.checks import Check, check_logs
from assets.chain.ledger import DAMAGE, Ledger, State
from assets.chain.metadata import rounded, table
from assets.chain.one_artifact import MaterializeConfig
from assets.chain.pipeline import Pipeline
from ops.ingest.each_log import LogOutcome, LogWork, each_log, make_from_raw_log, read_summary
from ops.ingest.quarantine import BY_HAND, QuarantineRecord, quarantine, release
from storage.artifact import Lineage

PARTITIONS = "logs"  # name of the set of log ids in the Dagster instance
LOGS = dg.DynamicPartitionsDefinition(name=PARTITIONS)
# A backfill policy lets one run take many logs; Dagster warns once an asset that it is beta.
warnings.filterwarnings("ignore", category=dg.BetaWarning)
ONE_RUN = dg.BackfillPolicy.single_run()
# Dagster writes no materialization for a result that carries this key
OWN_EVENTS = {SYSTEM_METADATA_KEY_SOURCE_ASSET_OBSERVATION: True}
# (log_id, path, lineage) -> the function that makes the artefact `path` of this log
WorkOf = Callable[[str, Path, Lineage], Callable[[], Any]]


@dataclass(slots=True)
class Ingested:
    """What became of the logs of one run in one asset."""

    lineages: dict[str, Lineage] = field(default_factory=dict)  # of the logs that are usable
    made: list[str] = field(default_factory=list)
    current: list[str] = field(default_factory=list)  # nothing had to be made
    quarantined: dict[str, str] = field(default_factory=dict)  # log -> reason


def ingest(
    context: dg.AssetExecutionContext,
    ledger: Ledger,
    config: MaterializeConfig,
    asset: str,
    work_of: WorkOf,
    check: Check | None = None,
) -> Ingested:
    """Bring this asset of every log of the run up to date, and check what was made.

    A log that cannot be read or fails a blocking check is quarantined; one that is quarantined with
    the same bytes and the same code is not tried again.
    """
    ingested, works, unchecked = Ingested(), [], []
    for log in context.partition_keys:
        if log in ledger.quarantined:
            ingested.quarantined[log] = ledger.quarantined[log].reason
            continue
        if log not in ledger.log_ids_set:
            context.log.warning(f"{log} is no longer in the raw folder: left out")
            continue
        state, lineage = ledger.state(asset, log), ledger.lineage(asset, log)
        ingested.lineages[log] = lineage
        if config.force or state in (State.MISSING, State.STALE):
            works.append(LogWork(log, work_of(log, ledger.lake.log(asset, log), lineage)))
            continue
        ingested.current.append(log)
        if state in (State.UNCHECKED, State.FAILED):
            unchecked.append(log)
    outcomes = each_log(works, ledger.pipeline.preset.processes)
    for outcome in with_progress(context, "logs", outcomes, len(works)):
        log = outcome.log_id
        if outcome.error is None:
            ingested.made.append(log)
            _release_from(ledger, asset, log)
        else:
            version = ingested.lineages[log].version
            record = quarantine(ledger.lake, log, asset, outcome.error, version)
            ingested.quarantined[log] = record.reason
    ledger.changed(asset, [work.log_id for work in works])
    if check is not None and (works or unchecked):
        to_check = sorted([*ingested.made, *unchecked])
        ingested.quarantined |= check_logs(ledger, asset, check, to_check, context.run.run_id)
    for log in set(ingested.lineages) & set(ingested.quarantined):
        context.log.warning(f"{log} is quarantined: {ingested.quarantined[log]}")
        del ingested.lineages[log]
    return ingested


def from_raw_log(pipeline: Pipeline, verb: Callable[[Any, Path, Any], Any], config: Any) -> WorkOf:
    """Work that reads a log from the raw folder and makes its artefact with `verb(log, out,
    config)`.
    """

    def work_of(log_id: str, path: Path, lineage: Lineage) -> Callable[[], Any]:
        source, raw = pipeline.source, pipeline.raw_folder
        return partial(make_from_raw_log, verb, source, raw, log_id, config, path, lineage)

    return work_of


def with_progress(
    context: dg.AssetExecutionContext, what: str, outcomes: Iterable[LogOutcome], total: int
) -> Iterator[LogOutcome]:
    """Pass the outcomes on, with a log line every ten seconds and one at the end."""
    start = last = time.monotonic()
    for count, outcome in enumerate(outcomes, start=1):
        now = time.monotonic()
        if now - last >= 10 or count == total:
            rate = count / max(now - start, 1e-3)
            left = f", {(total - count) / rate:.0f} s left" if count < total else ""
            context.log.info(f"{count} of {total} {what}, {rate:.1f} logs/s{left}")
            last = now
        yield outcome


def events(
    context: dg.AssetExecutionContext,
    asset: str,
    ingested: Ingested,
    metadata: Mapping[str, Any],
    row_by_log: Mapping[str, Mapping[str, Any]],
) -> Iterator[Any]:
    """The events of one run for Dagster: the asset, each log with its own version and its row of
    measures, and each quarantined log.

    `metadata` of the whole run goes with the last log's event, because the catalogue shows the
    latest event's; with the result itself Dagster would write it once for every log.
    """
    whole_run = {
        "logs made": len(ingested.made),
        "logs unchanged": len(ingested.current),
        "logs quarantined": len(ingested.quarantined),
        **rounded(metadata),
    }
    yield dg.MaterializeResult(metadata=OWN_EVENTS)
    pointers = {dep: _latest_event(context, dep) for dep in ASSET_SPECS[asset].deps}
    for log, reason in ingested.quarantined.items():
        text = dg.MetadataValue.md(f"```\n{reason}\n```")
        yield dg.AssetObservation(context.asset_key, partition=log, metadata={"quarantined": text})
    usable = list(ingested.lineages)
    if not usable:
        yield dg.AssetObservation(context.asset_key, metadata=whole_run)
    for log in usable:
        row = {"log_id": log, **row_by_log.get(log, {})}
        yield dg.AssetMaterialization(
            context.asset_key,
            partition=log,
            tags=_version_tags(context, asset, ingested.lineages[log], pointers),
            metadata={**(whole_run if log == usable[-1] else {}), "this log": table([row])},
        )


def summaries(ledger: Ledger, asset: str, log_ids: Iterable[str]) -> list[dict[str, Any]]:
    """The summary that this asset's verb recorded of each of these logs; none of a damaged file."""
    rows = []
    for log in log_ids:
        with suppress(*DAMAGE):
            rows.append(read_summary(ledger.lake.log(asset, log)))
    return rows


def quarantine_table(
    records: Mapping[str, QuarantineRecord],
) -> dg.TableMetadataValue | dg.MarkdownMetadataValue:
    """The quarantined logs with their reasons."""
    return table(
        [
            {
                "log": record.log_id,
                "asset": "by hand" if record.fingerprint == BY_HAND else record.asset,
                "reason": record.reason,
                "since": record.since_utc,
            }
            for record in records.values()
        ]
    )


def range_tags(log_ids: Sequence[str]) -> dict[str, str]:
    """Tags of a run that takes these logs, which follow each other in the set of partitions."""
    return {
        "dagster/asset_partition_range_start": log_ids[0],
        "dagster/asset_partition_range_end": log_ids[-1],
    }


def _release_from(ledger: Ledger, asset: str, log_id: str) -> None:
    """Drop the record of a log that failed at this asset and now was made."""
    record = ledger.records.get(log_id)
    if record is not None and record.asset == asset and record.fingerprint != BY_HAND:
        release(ledger.lake, log_id)


def _latest_event(context: dg.AssetExecutionContext, asset: str) -> int | None:
    """Storage id of the last materialization of an asset, the newest input of a log made now."""
    records = context.instance.fetch_materializations(dg.AssetKey(asset), limit=1).records
    return records[0].storage_id if records else None


def _version_tags(
    context: dg.AssetExecutionContext,
    asset: str,
    lineage: Lineage,
    pointers: Mapping[str, int | None],
) -> dict[str, str]:
    """The tags by which Dagster finds out what is stale, as it writes them for a run of one
    partition.
    """
    parents = {name.split("/")[0]: version for name, version in lineage.parents.items()}
    code = context.assets_def.code_versions_by_key[context.asset_key]
    return {
        "dagster/data_version": lineage.version,
        "dagster/code_version": code or "",
        "dagster/data_version_is_user_provided": "true",
        **{f"dagster/input_data_version/{dep}": parents[dep] for dep in ASSET_SPECS[asset].deps},
        **{
            f"dagster/input_event_pointer/{dep}": "NULL" if event is None else str(event)
            for dep, event in pointers.items()
        },
    }
