"""The schedule for retraining, off by default. Without new logs its run ends at once, since current
assets are not made again.
"""

import dagster as dg

from pipelines.jobs import training

retraining = dg.ScheduleDefinition(
    name="retraining",
    job=training,
    cron_schedule="0 2 * * 1",
    execution_timezone="UTC",
    default_status=dg.DefaultScheduleStatus.STOPPED,
    description="Trains every Monday at 02:00 UTC on all ingested logs, if there are new ones. Off "
    "until it is turned on here.",
)
SCHEDULES = [retraining]
