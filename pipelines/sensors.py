"""The sensors: new logs in the raw folder are ingested, and enough new logs ask for retraining.

Both are off until somebody turns them on: whoever opens the UI to look must not start hours of
work, and a raw folder that is being copied would be read half.
"""

from collections.abc import Collection, Sequence

import dagster as dg

from assets.chain.asset_specs import needs_work, new_logs_since_codebook
from assets.chain.per_log import LOGS, PARTITIONS, range_tags
from assets.chain.pipeline import Pipeline, RawLogs
from pipelines.jobs import ingest, training
from storage.artifact import digest

LOOK_EVERY_S = 30
UNDER_WAY = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
]


@dg.sensor(
    job=ingest,
    minimum_interval_seconds=LOOK_EVERY_S,
    default_status=dg.DefaultSensorStatus.STOPPED,
    description="Looks into the raw folder for logs that are new or whose bytes changed, and ingests just those. Off "
    "until it is turned on here.",
)
def new_logs(
    context: dg.SensorEvaluationContext, pipeline: dg.ResourceParam[Pipeline]
) -> dg.SensorResult | dg.SkipReason:
    """Find logs in the raw folder that are new or whose bytes changed, and ingest just those."""
    if context.instance.get_runs_count(dg.RunsFilter(job_name=ingest.name, statuses=UNDER_WAY)):
        return dg.SkipReason("an ingest run is under way")
    logs = RawLogs(pipeline)
    todo = [log for log in logs.refs if needs_work(pipeline, logs, log)]
    if not todo:
        return dg.SkipReason(
            f"all {len(logs.refs)} logs in {pipeline.raw_folder} are ingested or in quarantine"
        )
    known = list(context.instance.get_dynamic_partitions(PARTITIONS))
    fresh = [log for log in todo if log not in known]
    return dg.SensorResult(
        run_requests=[
            dg.RunRequest(
                run_key=digest({log: logs.fingerprint(log) for log in part}), tags=range_tags(part)
            )
            for part in neighbours(todo, [*known, *fresh])
        ],
        dynamic_partitions_requests=[LOGS.build_add_request(fresh)] if fresh else [],
    )


def neighbours(todo: Collection[str], order: Sequence[str]) -> list[list[str]]:
    """The logs to do as runs of logs that follow each other in the set of partitions; each is one
    Dagster run.
    """
    parts: list[list[str]] = [[]]
    for log in order:
        if log in todo:
            parts[-1].append(log)
        elif parts[-1]:
            parts.append([])
    return [part for part in parts if part]


@dg.sensor(
    job=training,
    minimum_interval_seconds=LOOK_EVERY_S,
    default_status=dg.DefaultSensorStatus.STOPPED,
    description="Asks for retraining when enough logs were ingested since the codebook was learned. Off until it is "
    "turned on here.",
)
def enough_new_logs(pipeline: dg.ResourceParam[Pipeline]) -> dg.RunRequest | dg.SkipReason:
    """Ask for retraining when enough logs were ingested since the codebook was learned."""
    fresh, enough = new_logs_since_codebook(pipeline), pipeline.preset.retrain_after_logs
    if fresh is None:
        return dg.SkipReason("there is no codebook yet: run the training job once")
    if len(fresh) < enough:
        return dg.SkipReason(
            f"{len(fresh)} new logs since the codebook was learned; retraining at {enough}"
        )
    return dg.RunRequest(run_key=digest(sorted(fresh)))


SENSORS = [new_logs, enough_new_logs]
