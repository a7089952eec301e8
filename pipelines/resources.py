"""The Dagster resource of the definitions: the pipeline that a run works on, which
pipelines/environment.py chooses.
"""

from pathlib import Path

import dagster as dg

from assets.chain.pipeline import Pipeline
from assets.chain.preset import Preset
from pipelines.dead_runs import LAKE_TAG
from pipelines.environment import RunTarget, open_pipeline, run_target
from pipelines.presets import preset
from pipelines.process_tag import process_tags
from storage.errors import ConfigError


class PipelineResource(dg.ConfigurableResource[Pipeline]):
    """Provides assets and sensors with a Pipeline; its fields are those of RunTarget."""

    scale: str
    source: str
    raw: str
    lake: str

    def preset_or_none(self) -> Preset | None:
        """The configuration of the scale; None for an unknown scale, which a run then names."""
        try:
            return preset(self.scale)
        except ConfigError:
            return None

    def create_resource(self, context: dg.InitResourceContext) -> Pipeline:
        """The pipeline with the preset of its scale. In a run, the run's tags then name its lake
        and the process that executes it. Raises ConfigError for an unknown scale.
        """
        if context.run is not None and context.instance is not None:
            tags = {LAKE_TAG: str(Path(self.lake).absolute()), **process_tags(context.run.run_id)}
            context.instance.add_run_tags(context.run.run_id, tags)
        return open_pipeline(RunTarget(self.scale, self.source, self.raw, self.lake))


def pipeline_resource(target: RunTarget | None = None) -> PipelineResource:
    """The resource of this target; by default that of the environment."""
    target = target or run_target()
    return PipelineResource(
        scale=target.scale, source=target.source, raw=target.raw, lake=target.lake
    )
