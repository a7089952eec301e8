"""What the assets that work log by log share: the partitions, the loop over a run's logs, and what
Dagster is told.

One run takes any number of logs. Dagster gives all partitions of such a run one data version, so
each log's own version, with the versions of its inputs, is told in a materialization of its own
that follows.
"""

import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import dagster as dg

from assets.chain.asset_specs import ASSET_SPECS, code_version, log_lineage
from assets.chain.metadata import rounded, table
from assets.chain.one_artifact import MaterializeConfig
from assets.chain.pipeline import Pipeline, RawLogs
from ops.ingest.each_log import LogOutcome, LogWork, each_log, read_summary
from ops.ingest.quarantine import quarantine, quarantined, release
from storage.artifact import Lineage, is_current
from storage.lake import PER_LOG_ASSETS

PARTITIONS = "logs"  # name of the set of log ids in the Dagster instance
LOGS = dg.DynamicPartitionsDefinition(name=PARTITIONS)
# Backfill policies are how one run takes many logs; Dagster calls them beta and says so once an asset.
warnings.filterwarnings("ignore", category=dg.BetaWarning)
ONE_RUN = dg.BackfillPolicy.single_run()


@dataclass(slots=True)
class Ingested:
    """What became of the logs of one run in one asset."""

    lineages: dict[str, Lineage]  # of every log of the run
    made: list[str] = field(default_factory=list)
    current: list[str] = field(default_factory=list)  # nothing had to be done
    quarantined: dict[str, str] = field(default_factory=dict)  # in quarantine, with the reason


def ingest(
    context: dg.AssetExecutionContext,
    pipeline: Pipeline,
    config: MaterializeConfig,
    asset: str,
    verb_of: Callable[[str, Path, Lineage], Callable[[], Any]],
    logs: RawLogs,
) -> Ingested:
    """Bring this asset of every log of the run up to date; `verb_of(log_id, path, lineage)` makes
    one artefact.

    A log that cannot be read goes to quarantine. One that is there for this or an earlier asset,
    with the same bytes and the same code, is not tried again.
    """
    lake = pipeline.lake
    done = Ingested(
        {log: log_lineage(pipeline, logs, asset, log) for log in context.partition_keys}
    )
    done.quarantined = still_quarantined(pipeline, logs, asset, done.lineages)
    todo = []
    for log, lineage in done.lineages.items():
        if log in done.quarantined:
            continue
        if (
            is_current(lake.log(asset, log), lineage.version)
            and not config.force
            and (asset != "raw_logs" or logs.is_intact(log))
        ):
            done.current.append(log)
        else:
            todo.append(LogWork(log, verb_of(log, lake.log(asset, log), lineage)))
    for outcome in with_progress(
        context, asset, each_log(todo, pipeline.preset.processes), len(todo)
    ):
        if outcome.error is None:
            done.made.append(outcome.log_id)
            _release_from(pipeline, asset, outcome.log_id)
        else:
            record = quarantine(
                lake, outcome.log_id, asset, outcome.error, done.lineages[outcome.log_id].version
            )
            done.quarantined[outcome.log_id] = record.reason
            context.log.warning(f"{outcome.log_id} is quarantined: {record.reason}")
    return done


def with_progress(
    context: dg.AssetExecutionContext, what: str, outcomes: Iterable[LogOutcome], total: int
) -> Iterator[LogOutcome]:
    """Pass the outcomes on, with a log line every ten seconds and one at the end."""
    start = last = time.monotonic()
    for count, outcome in enumerate(outcomes, start=1):
        now = time.monotonic()
        if now - last >= 10 or count == total:
            rate = count / max(now - start, 1e-3)
            context.log.info(
                f"{what}: {count} of {total} logs, {rate:.1f} logs/s, {(total - count) / rate:.0f} s left"
            )
            last = now
        yield outcome


def events(
    context: dg.AssetExecutionContext,
    asset: str,
    done: Ingested,
    metadata: Mapping[str, Any],
    of_log: Mapping[str, Mapping[str, Any]],
) -> Iterator[Any]:
    """What Dagster is told: the asset, each log with its own version and its row of measures, and
    each log in quarantine.

    `metadata` of the whole run goes with the last log's event, because the catalogue shows the
    latest event's; with the result itself Dagster would write it once for every log.
    """
    whole = {
        "logs made": len(done.made),
        "logs unchanged": len(done.current),
        "logs in quarantine": len(done.quarantined),
        **rounded(metadata),
    }
    last = next((log for log in reversed(done.lineages) if log not in done.quarantined), None)
    yield dg.MaterializeResult(metadata={} if last else whole)
    pointers = {dep: _latest_event(context, dep) for dep in ASSET_SPECS[asset].deps}
    for log, lineage in done.lineages.items():
        if log in done.quarantined:
            reason = dg.MetadataValue.md(f"```\n{done.quarantined[log]}\n```")
            yield dg.AssetObservation(
                context.asset_key, partition=log, metadata={"quarantined": reason}
            )
        else:
            yield dg.AssetMaterialization(
                context.asset_key,
                partition=log,
                tags=_version_tags(asset, lineage, pointers),
                metadata={
                    **(whole if log == last else {}),
                    "this log": table([{"log_id": log, **of_log.get(log, {})}]),
                },
            )


def summaries(pipeline: Pipeline, asset: str, log_ids: Iterable[str]) -> list[dict[str, Any]]:
    """What the verb of this asset recorded of each log that is made."""
    there = set(pipeline.lake.log_ids(asset))
    return [read_summary(pipeline.lake.log(asset, log)) for log in log_ids if log in there]


def range_tags(log_ids: Sequence[str]) -> dict[str, str]:
    """Tags of a run that takes these logs, which follow each other in the set of partitions."""
    return {
        "dagster/asset_partition_range_start": log_ids[0],
        "dagster/asset_partition_range_end": log_ids[-1],
    }


def still_quarantined(
    pipeline: Pipeline, logs: RawLogs, asset: str, log_ids: Mapping[str, Any]
) -> dict[str, str]:
    """Logs that failed in this or an earlier asset and would fail again, with the reason."""
    before = PER_LOG_ASSETS[: PER_LOG_ASSETS.index(asset) + 1]
    return {
        log: record.reason
        for log, record in quarantined(pipeline.lake).items()
        if log in log_ids
        and record.asset in before
        and log_lineage(pipeline, logs, record.asset, log).version == record.fingerprint
    }


def _release_from(pipeline: Pipeline, asset: str, log_id: str) -> None:
    record = quarantined(pipeline.lake).get(log_id)
    if record is not None and record.asset == asset:
        release(pipeline.lake, log_id)


def _latest_event(context: dg.AssetExecutionContext, asset: str) -> int | None:
    """Number of the last materialization of a asset: what comes after it is new to a log that is
    made now.
    """
    records = context.instance.fetch_materializations(dg.AssetKey(asset), limit=1).records
    return records[0].storage_id if records else None


def _version_tags(
    asset: str, lineage: Lineage, pointers: Mapping[str, int | None]
) -> dict[str, str]:
    """The tags from which Dagster knows what is stale; the same that it would write for a run of
    one partition.
    """
    parents = {name.split("/")[0]: version for name, version in lineage.parents.items()}
    return {
        "dagster/data_version": lineage.version,
        "dagster/code_version": code_version(asset),
        "dagster/data_version_is_user_provided": "true",
        **{f"dagster/input_data_version/{dep}": parents[dep] for dep in ASSET_SPECS[asset].deps},
        **{
            f"dagster/input_event_pointer/{dep}": "NULL" if at is None else str(at)
            for dep, at in pointers.items()
        },
    }
