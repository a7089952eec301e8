"""The Dagster resource of the definitions: the pipeline that a run works on, which
pipelines/environment.py chooses. It holds the lake's lock for its run, as `latentvla run` does.
"""

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import dagster as dg

from assets.chain.pipeline import Pipeline
from assets.chain.preset import Preset
from pipelines.dead_runs import LAKE_TAG, LOCKED_TAG
from pipelines.environment import RunTarget, open_pipeline, run_target
from pipelines.presets import preset
from pipelines.process_tag import process_tags
from storage.errors import ConfigError
from storage.locks import BusyError, alone_in_lake

BUSY_POLL_S = 1.0  # how often a run that waits for the lake tries again
TELL_EVERY_S = 60.0  # how often it says that it waits


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

    @contextmanager
    def yield_for_execution(self, context: dg.InitResourceContext) -> Iterator[Pipeline]:
        """The pipeline with the preset of its scale. A run's tags then name its lake and the
        process that executes it, and the run holds the lake's lock to its end: while another
        process writes the lake, it waits and says who does.

        Raises ConfigError for an unknown scale, and for a lake that cannot be written.
        """
        pipeline = open_pipeline(RunTarget(self.scale, self.source, self.raw, self.lake))
        if context.run is None:  # a sensor, which writes nothing
            yield pipeline
            return
        tags = {LAKE_TAG: str(Path(self.lake).absolute()), **process_tags(context.run.run_id)}
        if context.instance is not None:
            context.instance.add_run_tags(context.run.run_id, tags)
        with waited_for_lake(pipeline.lake.root, context.log):
            if context.instance is not None:
                context.instance.add_run_tags(context.run.run_id, {LOCKED_TAG: "true"})
            yield pipeline


@contextmanager
def waited_for_lake(root: Path, log: dg.DagsterLogManager | None) -> Iterator[None]:
    """Hold a lake as alone_in_lake() does, but wait while another process holds or writes it.
    Raises ConfigError if it cannot be written.
    """
    told = -TELL_EVERY_S
    with ExitStack() as stack:
        while True:
            try:
                stack.enter_context(alone_in_lake(root))
                break
            except BusyError as busy:
                if log is not None and time.monotonic() - told >= TELL_EVERY_S:
                    told = time.monotonic()
                    log.info(f"waits until the lake {root} is free; it is used by {busy.found}")
            time.sleep(BUSY_POLL_S)
        yield


def pipeline_resource(target: RunTarget | None = None) -> PipelineResource:
    """The resource of this target; by default that of the environment."""
    target = target or run_target()
    return PipelineResource(
        scale=target.scale, source=target.source, raw=target.raw, lake=target.lake
    )
