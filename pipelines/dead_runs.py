"""Marks runs as failed whose process has ended without a word: killed, out of memory, power cut.

Dagster by itself notices only children of a code server that lives. Any other dead run would stay
STARTED for ever, fill the queue (max_concurrent_runs), and hold the sensors back.
"""

import time
from collections.abc import Mapping
from pathlib import Path

import dagster as dg

from pipelines.process_tag import process_of
from storage.writers import is_running

LAKE_TAG = "latentvla/lake"  # folder of the artefacts that a run makes
LOCKED_TAG = "latentvla/holds_lock"  # on runs that hold the lake's lock from beginning to end
START_S = 600.0  # a run that works has named its process long before
SILENT_S = 24 * 3600.0  # a run on another machine that wrote no event for so long counts as dead
UNDER_WAY = [
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]


def fail_dead_runs(instance: dg.DagsterInstance, locked: Path | None = None) -> list[str]:
    """Mark the runs whose process is gone as failed (as canceled where that was asked for), and
    return their ids.

    `locked` is a lake whose lock the caller holds: no run of that lake that holds it all its life
    (LOCKED_TAG) can be alive then, wherever it ran.
    """
    failed = []
    for record in instance.get_run_records(dg.RunsFilter(statuses=UNDER_WAY)):
        reason = death_of(instance, record, locked)
        run = instance.get_run_by_id(record.dagster_run.run_id)
        if reason is None or run is None or run.is_finished:  # it may have ended meanwhile
            continue
        if run.status is dg.DagsterRunStatus.CANCELING:
            instance.report_run_canceled(run, reason)
        else:
            instance.report_run_failed(run, reason)
        failed.append(run.run_id)
    return failed


def death_of(
    instance: dg.DagsterInstance, record: dg.RunRecord, locked: Path | None = None
) -> str | None:
    """Why a run that is not finished must be dead; None if it lives or may live."""
    tags, now = record.dagster_run.tags, time.time()
    process = process_of(record.dagster_run.run_id, tags)
    if process is None:
        since = record.start_time or record.create_timestamp.timestamp()
        if now - since < START_S:
            return None
        return f"No process has taken this run up within {START_S:.0f} s."
    running = is_running(process)
    where = f"The process of this run (pid {process.pid} on {process.host})"
    if running is False:
        return f"{where} has ended without a word: it was killed, ran out of memory, or lost power."
    if running is None and LOCKED_TAG in tags and _is_of(locked, instance, tags):
        return f"{where} has ended: it would hold the lake's lock, and the lock was free."
    if running is None and now - _last_event(instance, record) > SILENT_S:
        return f"{where} cannot be seen from here and has written nothing for a day."
    return None


def _is_of(lake: Path | None, instance: dg.DagsterInstance, tags: Mapping[str, str]) -> bool:
    """True for a run of this lake: by its tag, or because the history lies in the lake, which may
    have been moved since.
    """
    if lake is None:
        return False
    return str(lake.absolute()) in (
        tags.get(LAKE_TAG),
        str(Path(instance.root_directory).parent.absolute()),
    )


def _last_event(instance: dg.DagsterInstance, record: dg.RunRecord) -> float:
    """When the run wrote its last event, seconds since 1970."""
    events = instance.get_records_for_run(record.dagster_run.run_id, limit=1, ascending=False)
    if events.records:
        return events.records[0].event_log_entry.timestamp
    return record.create_timestamp.timestamp()
