"""The schedule for retraining, off until somebody turns it on. A run with nothing new is over at
once: what is current is not made again.
"""

import dagster as dg

from pipelines.jobs import training

retraining = dg.ScheduleDefinition(
    name="retraining",
    job=training,
    cron_schedule="0 2 * * 1",
    execution_timezone="UTC",
    default_status=dg.DefaultScheduleStatus.STOPPED,
    description="Every Monday at 02:00 UTC: train on whatever logs have arrived. Off until it "
    "is turned on here.",
)
SCHEDULES = [retraining]
