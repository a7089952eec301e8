"""The schedule for retraining, off by default. Without new logs its run ends at once, since current
assets are not made again.
"""

import dagster as dg

from pipelines.attempts import WORK_TAG, is_under_way
from pipelines.jobs import TRAINING_ASSETS, TRAINING_JOBS, training


def _no_training(context: dg.ScheduleEvaluationContext) -> bool:
    return not is_under_way(context.instance, TRAINING_JOBS, TRAINING_ASSETS)


def _tags(context: dg.ScheduleEvaluationContext) -> dict[str, str]:
    """With this tag the sensor `enough_new_logs` asks again for a run that failed."""
    return {WORK_TAG: f"weekly-{context.scheduled_execution_time:%Y-%m-%d}"}


retraining = dg.ScheduleDefinition(
    name="retraining",
    job=training,
    cron_schedule="0 2 * * 1",
    execution_timezone="UTC",
    should_execute=_no_training,
    tags_fn=_tags,
    default_status=dg.DefaultScheduleStatus.STOPPED,
    description="Trains every Monday at 02:00 UTC on all ingested logs, if there are new ones and "
    "no training is queued or running. Off until it is turned on here.",
)
SCHEDULES = [retraining]
