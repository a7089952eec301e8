"""The Dagster definitions: assets, checks, jobs, schedules, sensors and their resources."""

from importlib import import_module

import dagster as dg

from assets.chain.asset_specs import ASSET_SPECS
from assets.chain.pipeline import Pipeline
from pipelines.console_log import brief_logger
from pipelines.jobs import JOBS
from pipelines.resources import PipelineResource, pipeline_resource
from pipelines.schedules import SCHEDULES
from pipelines.sensors import SENSORS
from storage.artifact import digest
from storage.asset_names import ASSET_NAMES

MODULES = [import_module(f"assets.{name}") for name in (*ASSET_NAMES, "log_sets")]


def definitions(pipeline: Pipeline | PipelineResource) -> dg.Definitions:
    """The definitions over this pipeline. Its configuration counts as code, so that the UI shows an
    asset as stale when it changes.
    """
    preset = pipeline.preset if isinstance(pipeline, Pipeline) else pipeline.preset_or_none()

    def configured(spec: dg.AssetSpec) -> dg.AssetSpec:
        asset = spec.key.to_user_string()
        seed = getattr(preset, "seed", None) if ASSET_SPECS[asset].seeded else None
        config = [getattr(preset, asset, None), seed]
        return spec.replace_attributes(code_version=f"{spec.code_version}-{digest(config)}")

    loaded = dg.load_assets_from_modules(MODULES)
    return dg.Definitions(
        assets=[
            item.map_asset_specs(configured) if isinstance(item, dg.AssetsDefinition) else item
            for item in loaded
        ],
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
