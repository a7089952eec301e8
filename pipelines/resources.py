"""The resources of the definitions: the pipeline with the preset of its scale. Which pipeline:
pipelines/environment.py.
"""

from assets.chain.pipeline import PipelineResource, Preset
from pipelines.environment import RunTarget, run_target


class PresetPipeline(PipelineResource):
    """A pipeline whose configuration is the preset of its scale."""

    def preset(self) -> Preset:
        """See pipelines/presets.py, which is imported when a run needs it: it loads torch."""
        from pipelines.presets import preset

        return preset(self.scale)  # type: ignore[return-value]   # frozen, which the protocol cannot say


def pipeline_for(places: RunTarget | None = None) -> PresetPipeline:
    """The pipeline at these places; by default those of the environment."""
    places = places or run_target()
    return PresetPipeline(
        scale=places.scale, source=places.source, raw=places.raw, lake_root=places.lake
    )
