"""One pipeline as the assets see it: its lake, its raw logs and the configuration of each asset.

Which lake, source and scale a run gets is decided in pipelines/environment.py.
"""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from assets.chain.preset import Preset
from ops.ingest.inventory import Inventory, stamp_of
from storage.artifact import read_lineage
from storage.errors import ArtifactError, ConfigError, SourceError, unknown_name
from storage.lake import Lake
from storage.sources import SOURCES, fingerprint

if TYPE_CHECKING:
    from storage.sources.contract import LogRef, Source

WORLD_SOURCE = "openscene"  # the format in which the synthetic world is written


@dataclass(frozen=True)
class Pipeline:
    """What a run works on: raw logs of one source, a lake, and the configuration of every asset."""

    source: str  # a name in storage.sources.SOURCES
    raw: str  # folder of the raw logs; "": the synthetic world, in OpenScene's format
    lake_root: str  # folder of the artefacts
    preset: Preset

    @property
    def scale(self) -> str:
        """Name of the preset."""
        return self.preset.scale

    @property
    def lake(self) -> Lake:
        """The folder of this pipeline's artefacts."""
        return Lake(Path(self.lake_root))

    @property
    def raw_folder(self) -> Path:
        """Folder of the raw logs: the user's, or the one the synthetic world is written to."""
        return Path(self.raw) if self.raw else self.lake.root / "raw"


class RawLogs:
    """The logs of a pipeline: those of the synthetic world, those in the raw folder, or both."""

    def __init__(self, pipeline: Pipeline) -> None:
        """Raises ConfigError if the pipeline has no raw folder and no synthetic world to read, or
        its source does not exist.
        """
        self._pipeline = pipeline
        preset = pipeline.preset
        if not pipeline.raw and preset.world is None:
            raise ConfigError(
                f"scale '{pipeline.scale}' has no synthetic world",
                expected="your own logs",
                do=f"latentvla run --scale {pipeline.scale} --source {pipeline.source} --raw PATH",
            )
        if pipeline.source not in SOURCES:
            raise unknown_name("source", pipeline.source, SOURCES)
        if not pipeline.raw and pipeline.source != WORLD_SOURCE:
            raise ConfigError(
                f"the synthetic world is written as '{WORLD_SOURCE}' and cannot be read as "
                f"'{pipeline.source}'",
                expected=f"--source {WORLD_SOURCE}, or a folder of {pipeline.source} logs",
                found=f"--source {pipeline.source} without --raw",
                do=f"latentvla run --scale {pipeline.scale} --source {pipeline.source} --raw PATH",
            )
        self.world = preset.world if not pipeline.raw else None

    @cached_property
    def splits_of_world(self) -> dict[str, str]:
        """Split of each log that the synthetic world has; empty for real logs."""
        if self.world is None:
            return {}
        from ops.synthesize.world import world_log_ids

        return dict(world_log_ids(self.world))

    @cached_property
    def refs(self) -> "dict[str, LogRef]":
        """The logs that are in the raw folder now. Raises SourceError for a missing or empty folder
        of real logs.
        """
        try:
            return {ref.log_id: ref for ref in self.opened.logs()}
        except SourceError:
            if self.world is None:
                raise
            return {}  # the synthetic world has not been written yet

    @property
    def refused(self) -> dict[str, SourceError]:
        """Logs in the raw folder that its source cannot list, with the error."""
        listed = self.refs  # the source knows them once it has listed its logs
        return {
            log: error
            for log, error in getattr(self.opened, "refused", {}).items()
            if log not in listed
        }

    @cached_property
    def opened(self) -> "Source":
        """The source over the raw folder."""
        from storage.sources import open_source

        return open_source(self._pipeline.source, self._pipeline.raw_folder)

    @cached_property
    def ids(self) -> list[str]:
        """Every log of the pipeline, sorted. Logs that an earlier synthetic world wrote to the raw
        folder and the present one does not have are left out.
        """
        added_by_user = [
            log
            for log in self.refs
            if log not in self.splits_of_world and not self._was_synthesized(log)
        ]
        return sorted({*self.splits_of_world, *added_by_user})

    def forget_refs(self) -> None:
        """List the raw folder again at the next use of `refs`."""
        self.__dict__.pop("refs", None)

    def split(self, log_id: str) -> str:
        """The split in which the log lies now; "" if it is not there."""
        if log_id in self.splits_of_world:
            return self.splits_of_world[log_id]
        return self.refs[log_id].split if log_id in self.refs else ""

    def fingerprint(self, log_id: str, inventory: Inventory | None) -> str:
        """Fingerprint of the log's bytes as they are now; that of its inventory if no file changed
        since.

        Raises SourceError for a file that cannot be read.
        """
        ref = self.refs[log_id]
        try:
            if inventory is not None and inventory.stamp == stamp_of(ref):
                return inventory.fingerprint
            return fingerprint(ref)
        except (OSError, UnicodeError) as error:
            raise SourceError(
                "a file of this log cannot be read",
                where=f"log {log_id}, file {getattr(error, 'filename', None) or '?'}",
                expected="a regular file that can be read",
                found=str(error),
                do="correct, replace or remove the file; the log is tried again when it changes",
            ) from error

    def _was_synthesized(self, log_id: str) -> bool:
        if self.world is None:
            return False
        try:
            return "town" in read_lineage(self._pipeline.lake.log("raw_logs", log_id)).config
        except ArtifactError:
            return False
