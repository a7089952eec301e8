"""What the assets with one partition a log share: the partitions, the loop over the logs of a run,
and the events for Dagster.

One run takes any number of logs. Dagster gives all partitions of such a run one data version, so
each log gets a materialization event of its own, with its version and those of its inputs.
"""

import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import dagster as dg

from assets.chain.asset_specs import ASSET_SPECS, code_version, log_lineage
from assets.chain.metadata import rounded, table
from assets.chain.one_artifact import MaterializeConfig
from assets.chain.pipeline import Pipeline, RawLogs
from ops.ingest.each_log import LogOutcome, LogWork, each_log, make_from_raw_log, read_summary
from ops.ingest.quarantine import quarantine, quarantined, release
from storage.artifact import Lineage, is_current
from storage.asset_names import PER_LOG_ASSETS

PARTITIONS = "logs"  # name of the set of log ids in the Dagster instance
LOGS = dg.DynamicPartitionsDefinition(name=PARTITIONS)
# A backfill policy lets one run take many logs; Dagster warns once an asset that it is beta.
warnings.filterwarnings("ignore", category=dg.BetaWarning)
ONE_RUN = dg.BackfillPolicy.single_run()
# (log_id, path, lineage) -> the function that makes the artefact `path` of this log
WorkOf = Callable[[str, Path, Lineage], Callable[[], Any]]


@dataclass(slots=True)
class Ingested:
    """What became of the logs of one run in one asset."""

    lineages: dict[str, Lineage]  # of every log of the run
    made: list[str] = field(default_factory=list)
    current: list[str] = field(default_factory=list)  # nothing had to be done
    quarantined: dict[str, str] = field(default_factory=dict)  # log -> reason


def ingest(
    context: dg.AssetExecutionContext,
    pipeline: Pipeline,
    config: MaterializeConfig,
    asset: str,
    work_of: WorkOf,
    logs: RawLogs,
) -> Ingested:
    """Bring this asset of every log of the run up to date.

    A log that cannot be read is quarantined. One that is quarantined at this or an earlier asset,
    with the same bytes and the same code, is not tried again.
    """
    lake = pipeline.lake
    lineages = {log: log_lineage(pipeline, logs, asset, log) for log in context.partition_keys}
    ingested = Ingested(
        lineages, quarantined=still_quarantined(pipeline, logs, asset, context.partition_keys)
    )
    works = []
    for log, lineage in lineages.items():
        path = lake.log(asset, log)
        if log in ingested.quarantined:
            continue
        if (
            is_current(path, lineage.version)
            and not config.force
            and (asset != "raw_logs" or logs.is_intact(log))
        ):
            ingested.current.append(log)
        else:
            works.append(LogWork(log, work_of(log, path, lineage)))
    outcomes = each_log(works, pipeline.preset.processes)
    for outcome in with_progress(context, "logs", outcomes, len(works)):
        log = outcome.log_id
        if outcome.error is None:
            ingested.made.append(log)
            _release_from(pipeline, asset, log)
        else:
            record = quarantine(lake, log, asset, outcome.error, lineages[log].version)
            ingested.quarantined[log] = record.reason
            context.log.warning(f"{log} is quarantined: {record.reason}")
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
    usable = [log for log in ingested.lineages if log not in ingested.quarantined]
    yield dg.MaterializeResult(metadata={} if usable else whole_run)
    pointers = {dep: _latest_event(context, dep) for dep in ASSET_SPECS[asset].deps}
    for log, reason in ingested.quarantined.items():
        text = dg.MetadataValue.md(f"```\n{reason}\n```")
        yield dg.AssetObservation(context.asset_key, partition=log, metadata={"quarantined": text})
    for log in usable:
        row = {"log_id": log, **row_by_log.get(log, {})}
        yield dg.AssetMaterialization(
            context.asset_key,
            partition=log,
            tags=_version_tags(asset, ingested.lineages[log], pointers),
            metadata={**(whole_run if log == usable[-1] else {}), "this log": table([row])},
        )


def summaries(pipeline: Pipeline, asset: str, log_ids: Iterable[str]) -> list[dict[str, Any]]:
    """The summary that this asset's verb recorded of each of these logs that is made."""
    made = set(pipeline.lake.log_ids(asset))
    return [read_summary(pipeline.lake.log(asset, log)) for log in log_ids if log in made]


def range_tags(log_ids: Sequence[str]) -> dict[str, str]:
    """Tags of a run that takes these logs, which follow each other in the set of partitions."""
    return {
        "dagster/asset_partition_range_start": log_ids[0],
        "dagster/asset_partition_range_end": log_ids[-1],
    }


def still_quarantined(
    pipeline: Pipeline, logs: RawLogs, asset: str, log_ids: Sequence[str]
) -> dict[str, str]:
    """Those of `log_ids` that failed in this or an earlier asset and would fail again, with the
    reason.
    """
    upstream = PER_LOG_ASSETS[: PER_LOG_ASSETS.index(asset) + 1]
    return {
        log: record.reason
        for log, record in quarantined(pipeline.lake).items()
        if log in log_ids
        and record.asset in upstream
        and log_lineage(pipeline, logs, record.asset, log).version == record.fingerprint
    }


def _release_from(pipeline: Pipeline, asset: str, log_id: str) -> None:
    record = quarantined(pipeline.lake).get(log_id)
    if record is not None and record.asset == asset:
        release(pipeline.lake, log_id)


def _latest_event(context: dg.AssetExecutionContext, asset: str) -> int | None:
    """Storage id of the last materialization of an asset, the newest input of a log made now."""
    records = context.instance.fetch_materializations(dg.AssetKey(asset), limit=1).records
    return records[0].storage_id if records else None


def _version_tags(
    asset: str, lineage: Lineage, pointers: Mapping[str, int | None]
) -> dict[str, str]:
    """The tags by which Dagster finds out what is stale, as it writes them for a run of one
    partition.
    """
    parents = {name.split("/")[0]: version for name, version in lineage.parents.items()}
    return {
        "dagster/data_version": lineage.version,
        "dagster/code_version": code_version(asset),
        "dagster/data_version_is_user_provided": "true",
        **{f"dagster/input_data_version/{dep}": parents[dep] for dep in ASSET_SPECS[asset].deps},
        **{
            f"dagster/input_event_pointer/{dep}": "NULL" if event is None else str(event)
            for dep, event in pointers.items()
        },
    }
