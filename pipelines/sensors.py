"""The sensors: one ingests new logs in the raw folder, one starts retraining after enough new logs.

Both are off by default, so that opening the UI starts no hours of work and no half-copied raw
folder is read.
"""

from collections.abc import Collection, Sequence

import dagster as dg

from assets.chain.ledger import Ledger
from assets.chain.per_log import LOGS, PARTITIONS, range_tags
from assets.chain.pipeline import Pipeline
from pipelines.jobs import ingest, training
from storage.artifact import digest
from storage.errors import ArtifactError

POLL_EVERY_S = 30
UNFINISHED = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
]


@dg.sensor(
    job=ingest,
    minimum_interval_seconds=POLL_EVERY_S,
    default_status=dg.DefaultSensorStatus.STOPPED,
    description="Ingests the logs in the raw folder that are new or whose bytes changed, and no "
    "others. Off until it is turned on here.",
)
def new_logs(
    context: dg.SensorEvaluationContext, pipeline: dg.ResourceParam[Pipeline]
) -> dg.SensorResult | dg.SkipReason:
    """Request ingest of the logs in the raw folder that are new or whose bytes changed."""
    if context.instance.get_runs_count(dg.RunsFilter(job_name=ingest.name, statuses=UNFINISHED)):
        return dg.SkipReason("an ingest run is queued or running")
    ledger = Ledger(pipeline)
    todo = [log for log in ledger.todo() if log in ledger.logs.refs]
    if not todo:
        return dg.SkipReason(
            f"all {len(ledger.log_ids)} logs in {pipeline.raw_folder} are ingested or quarantined"
        )
    known = dict.fromkeys(context.instance.get_dynamic_partitions(PARTITIONS))
    new = [log for log in todo if log not in known]
    return dg.SensorResult(
        run_requests=[
            dg.RunRequest(
                run_key=digest({log: ledger.fingerprint(log) for log in part}),
                tags=range_tags(part),
            )
            for part in neighbours({*todo}, [*known, *new])
        ],
        dynamic_partitions_requests=[LOGS.build_add_request(new)] if new else [],
    )


def neighbours(todo: Collection[str], order: Sequence[str]) -> list[list[str]]:
    """The logs to do as ranges of the set of partitions; each range is one Dagster run."""
    parts: list[list[str]] = [[]]
    for log in order:
        if log in todo:
            parts[-1].append(log)
        elif parts[-1]:
            parts.append([])
    return [part for part in parts if part]


@dg.sensor(
    job=training,
    minimum_interval_seconds=POLL_EVERY_S,
    default_status=dg.DefaultSensorStatus.STOPPED,
    description="Starts retraining when enough logs were ingested since the codebook was learned. "
    "Off until it is turned on here.",
)
def enough_new_logs(pipeline: dg.ResourceParam[Pipeline]) -> dg.RunRequest | dg.SkipReason:
    """Request retraining when enough logs were ingested since the codebook was learned."""
    try:
        new = Ledger(pipeline).new_logs_since_codebook()
    except ArtifactError as error:  # no log is left
        return dg.SkipReason(error.what)
    enough = pipeline.preset.retrain_after_logs
    if new is None:
        return dg.SkipReason("there is no codebook yet: run the training job once")
    if len(new) < enough:
        return dg.SkipReason(
            f"{len(new)} new logs since the codebook was learned; retraining starts at {enough}"
        )
    return dg.RunRequest(run_key=digest(sorted(new)))


SENSORS = [new_logs, enough_new_logs]
