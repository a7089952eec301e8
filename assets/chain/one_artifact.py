"""What the unpartitioned assets share: see whether there is work, open the artefact, follow the
training, tell Dagster.

The work itself stands in each asset's own file.
"""

import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dagster as dg

from assets.chain.asset_specs import ASSET_SPECS, asset_lineage, require_capabilities, usable_logs
from assets.chain.metadata import rounded
from assets.chain.pipeline import Pipeline
from storage.artifact import Lineage, is_current, read_lineage, require_checks, write_artifact
from storage.lake import PER_LOG_ASSETS

HISTORY_POLL_S = 2.0  # how often new metrics of a running training are looked for
LOG_EVERY_S = 10.0  # a line of metrics appears in the event log at most this often


class MaterializeConfig(dg.Config):
    """What a person can ask of one materialization in the launchpad."""

    force: bool = False  # make the artefact again although its version is already there


class Materialization:
    """One materialization of an unpartitioned asset."""

    def __init__(
        self,
        context: dg.AssetExecutionContext,
        pipeline: Pipeline,
        asset: str,
        config: MaterializeConfig,
    ) -> None:
        """Raises ConfigError if the logs cannot carry this asset, ArtifactError for an input that
        is missing or bad.
        """
        self.context, self.lake, self.asset = context, pipeline.lake, asset
        require_capabilities(pipeline, asset)
        for dep in ASSET_SPECS[asset].deps:
            logs = usable_logs(pipeline, ASSET_SPECS[asset].splits) if dep in PER_LOG_ASSETS else []
            for path in [self.lake.log(dep, log) for log in logs] or [self.lake.asset(dep)]:
                require_checks(path)
        self.lineage: Lineage = asset_lineage(pipeline, asset)
        self.path = self.lake.asset(asset)
        self.needed = config.force or not is_current(self.path, self.lineage.version)
        if not self.needed:
            context.log.info(f"{asset} is current (version {self.lineage.version}): nothing to do")

    @property
    def run_name(self) -> str:
        """Name of the training run. It carries the version, because the same name resumes."""
        return f"{self.asset}-{self.lineage.version}"

    @contextmanager
    def artifact(self) -> Iterator[Path]:
        """An empty folder that becomes the artefact; metrics of the training runs inside appear in
        the event log.
        """
        from ops.training.launch import forget

        with (
            follow_history(self.context, self.lake.runs, self.run_name),
            write_artifact(self.path, self.lineage) as out,
        ):
            yield out
        for run in self.lake.runs.glob(f"{self.run_name}*"):
            forget(run.name, self.lake.runs)

    def result(self, metadata: Mapping[str, Any]) -> dg.MaterializeResult:
        """What Dagster is told; its data version is the artefact's version."""
        made = read_lineage(self.path)
        return dg.MaterializeResult(
            data_version=dg.DataVersion(made.version),
            metadata={
                "version": made.version,
                "seconds of work": made.seconds,
                "made": made.created_utc,
                "folder": dg.MetadataValue.path(str(self.path.absolute())),
                "lineage": dg.MetadataValue.md(f"```\nlatentvla lineage {self.asset}\n```"),
                **rounded(metadata),
            },
        )


@contextmanager
def follow_history(context: dg.AssetExecutionContext, runs: Path, name: str) -> Iterator[None]:
    """Copy the metric rows that training runs called `name...` append to their histories into
    Dagster's event log.
    """
    stop = threading.Event()
    # what a killed run has told already is not told again by the one that goes on
    seen = {file: file.stat().st_size for file in runs.glob(f"{name}*/history.jsonl")}

    def tail() -> None:
        waited = LOG_EVERY_S
        while not stop.wait(HISTORY_POLL_S):
            waited += HISTORY_POLL_S
            if waited < LOG_EVERY_S:
                continue
            for file in sorted(runs.glob(f"{name}*/history.jsonl")):
                size = file.stat().st_size
                if size > seen.get(file, 0):
                    rows = file.read_text()[seen.get(file, 0) :].strip().splitlines()
                    seen[file], waited = size, 0.0
                    part = file.parent.name.removeprefix(name).strip("-_")
                    context.log.info(_metrics_line(part, rows[-1] if rows else ""))

    thread = threading.Thread(target=tail, name="follow-history", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def _metrics_line(part: str, row: str) -> str:
    try:
        values = json.loads(row)
    except json.JSONDecodeError:  # the line is being written
        return row
    words = [
        f"{key} {value:.4g}" if isinstance(value, float) else f"{key} {value}"
        for key, value in values.items()
    ]
    return " ".join([part, *words]).strip()
