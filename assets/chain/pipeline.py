"""One pipeline as the assets see it: its lake, its raw logs and the configuration of each asset.
Not how it is chosen.

Which lake, source and scale a run gets is decided in one place, pipelines/resources.py.
"""

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import dagster as dg

from ops.ingest.inventory import INVENTORY_FILE, fingerprint_of, read_inventory
from storage.artifact import read_lineage
from storage.errors import ArtifactError, ConfigError, SourceError, unknown_name
from storage.lake import Lake
from storage.sources import SOURCES

if TYPE_CHECKING:
    from ops.evaluation.evaluate import EvaluationConfig
    from ops.ingest.decode import FrameConfig
    from ops.ingest.extract import ExtractConfig
    from ops.latent_actions.learn_actions import CodebookConfig
    from ops.latent_actions.relabel import RelabelConfig
    from ops.report.report import ReportConfig
    from ops.student.distill import StudentConfig
    from ops.synthesize.world import WorldConfig
    from ops.training.launch import ComputeConfig
    from ops.vla.finetune import VlaConfig
    from storage.sources.contract import LogRef, Source


WORLD_SOURCE = "openscene"  # the format in which the embedded world is written


class Preset(Protocol):
    """The configuration of every asset at one scale; pipelines/presets.py makes it."""

    scale: str
    seed: int  # of the run; each asset derives its own generators from it
    processes: int  # for work that is done log by log
    retrain_after_logs: int  # new logs since the last codebook that ask for retraining
    compute: "ComputeConfig"
    world: "WorldConfig | None"  # None: real logs only
    frames: "FrameConfig"
    trajectories: "ExtractConfig"
    codebook: "CodebookConfig"
    relabeled: "RelabelConfig"
    vla: "VlaConfig"
    student: "StudentConfig"
    evaluation: "EvaluationConfig"
    report: "ReportConfig"


class PipelineResource(dg.ConfigurableResource):
    """What a run works on. `raw` empty means the embedded world, which is written in OpenScene's
    format.
    """

    scale: str
    source: str
    raw: str
    lake_root: str

    def preset(self) -> Preset:
        """The whole configuration of this pipeline's scale. Raises ConfigError for a scale that
        does not exist.
        """
        raise NotImplementedError

    @property
    def lake(self) -> Lake:
        """Where every artefact of this pipeline lies."""
        return Lake(Path(self.lake_root))

    @property
    def raw_folder(self) -> Path:
        """Folder of the raw logs: the user's, or the one the embedded world is written to."""
        return Path(self.raw) if self.raw else self.lake.root / "raw"


class MaterializeConfig(dg.Config):
    """What a person can ask of one materialization in the launchpad."""

    force: bool = False  # make the artefact again although its version is already there


class RawLogs:
    """The logs of a pipeline: those of the embedded world, those found in the raw folder, or both."""

    def __init__(self, pipeline: PipelineResource) -> None:
        self._pipeline = pipeline
        preset = pipeline.preset()
        if not pipeline.raw and preset.world is None:
            raise ConfigError(
                f"scale '{pipeline.scale}' has no embedded world",
                expected="your own logs",
                do=f"latentvla run --scale {pipeline.scale} --source {pipeline.source} --raw PATH",
            )
        if pipeline.source not in SOURCES:
            raise unknown_name("source", pipeline.source, SOURCES)
        if not pipeline.raw and pipeline.source != WORLD_SOURCE:
            raise ConfigError(
                f"the embedded world is written as '{WORLD_SOURCE}', and nothing else is there to read",
                expected=f"--source {WORLD_SOURCE}, or a folder of {pipeline.source} logs",
                found=f"--source {pipeline.source} without --raw",
                do=f"latentvla run --scale {pipeline.scale} --source {pipeline.source} --raw PATH",
            )
        self.world = preset.world if not pipeline.raw else None

    @cached_property
    def splits_of_world(self) -> dict[str, str]:
        """Split of each log that the embedded world has; empty for real logs."""
        if self.world is None:
            return {}
        from ops.synthesize.world import world_log_ids

        return dict(world_log_ids(self.world))

    @cached_property
    def refs(self) -> "dict[str, LogRef]":
        """The logs that lie in the raw folder now. Raises SourceError for a missing or empty folder
        of real logs.
        """
        try:
            return {ref.log_id: ref for ref in self.opened.logs()}
        except SourceError:
            if self.world is None:
                raise
            return {}  # the embedded world has not been written yet

    @cached_property
    def opened(self) -> "Source":
        """The source over the raw folder."""
        from storage.sources import open_source

        return open_source(self._pipeline.source, self._pipeline.raw_folder)

    @cached_property
    def ids(self) -> list[str]:
        """Every log of the pipeline, sorted. A log that another embedded world left behind does not
        count.
        """
        dropped_in = [
            log
            for log in self.refs
            if log not in self.splits_of_world and not self._was_synthesized(log)
        ]
        return sorted({*self.splits_of_world, *dropped_in})

    def forget_refs(self) -> None:
        """Look at the raw folder again when its logs are next asked for."""
        self.__dict__.pop("refs", None)

    def fingerprint(self, log_id: str) -> str:
        """Fingerprint of the log's bytes as they are now."""
        return fingerprint_of(self.refs[log_id], self._pipeline.lake.log("raw_logs", log_id))

    def is_intact(self, log_id: str) -> bool:
        """True if the log's files are those of its inventory."""
        path = self._pipeline.lake.log("raw_logs", log_id)
        if log_id not in self.refs or not (path / INVENTORY_FILE).exists():
            return False
        return self.fingerprint(log_id) == read_inventory(path).fingerprint

    def _was_synthesized(self, log_id: str) -> bool:
        if self.world is None:
            return False
        try:
            return "town" in read_lineage(self._pipeline.lake.log("raw_logs", log_id)).config
        except ArtifactError:
            return False
