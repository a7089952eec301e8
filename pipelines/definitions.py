"""The Dagster definitions: assets, checks, jobs, schedules, sensors and their resources."""

import dagster as dg

from assets import (
    codebook,
    evaluation,
    frames,
    raw_logs,
    relabeled,
    report,
    student,
    trajectories,
    vla,
)
from assets.chain.pipeline import Pipeline
from pipelines.console_log import brief_logger
from pipelines.jobs import JOBS
from pipelines.resources import PipelineResource, pipeline_resource
from pipelines.schedules import SCHEDULES
from pipelines.sensors import SENSORS

MODULES = [raw_logs, frames, trajectories, codebook, relabeled, vla, student, evaluation, report]


def definitions(pipeline: Pipeline | PipelineResource) -> dg.Definitions:
    """The definitions over this pipeline."""
    return dg.Definitions(
        assets=dg.load_assets_from_modules(MODULES),
        asset_checks=dg.load_asset_checks_from_modules(MODULES),
        jobs=JOBS,
        schedules=SCHEDULES,
        sensors=SENSORS,
        resources={"pipeline": pipeline},
        loggers={"console": dg.colored_console_logger, "brief": brief_logger},
        # one process: torch is loaded once, and no two assets train at the same time
        executor=dg.in_process_executor,
    )


# for the UI and the `dagster` command: the pipeline that the environment chooses
defs = definitions(pipeline_resource())
