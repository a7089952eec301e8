"""The Dagster resource of the definitions: the pipeline that a run works on, which
pipelines/environment.py chooses.
"""

import dagster as dg

from assets.chain.pipeline import Pipeline
from pipelines.environment import RunTarget, open_pipeline, run_target


class PipelineResource(dg.ConfigurableResource[Pipeline]):
    """Provides assets and sensors with a Pipeline; its fields are those of RunTarget."""

    scale: str
    source: str
    raw: str
    lake: str

    def create_resource(self, context: dg.InitResourceContext) -> Pipeline:
        """The pipeline with the preset of its scale. Raises ConfigError for an unknown scale."""
        return open_pipeline(RunTarget(self.scale, self.source, self.raw, self.lake))


def pipeline_resource(target: RunTarget | None = None) -> PipelineResource:
    """The resource of this target; by default that of the environment."""
    target = target or run_target()
    return PipelineResource(
        scale=target.scale, source=target.source, raw=target.raw, lake=target.lake
    )
