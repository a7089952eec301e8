"""One materialization of an unpartitioned asset: whether it is needed, its artefact, the metrics of
its training runs, and the result for Dagster.

What an asset computes is in its own file.
"""

import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dagster as dg

from assets.chain.capabilities import require_capabilities
from assets.chain.ledger import ledger_of_run
from assets.chain.metadata import rounded
from assets.chain.pipeline import Pipeline
from assets.chain.weights import require_weights
from storage.artifact import read_lineage, write_artifact

HISTORY_POLL_S = 2.0  # how often new metrics of a running training are looked for
LOG_EVERY_S = 10.0  # a line of metrics appears in the event log at most this often


class MaterializeConfig(dg.Config):
    """What a person can choose for one materialization in the launchpad."""

    force: bool = False  # make the artefact again although it is current


class Materialization:
    """One materialization of an unpartitioned asset."""

    def __init__(
        self,
        context: dg.AssetExecutionContext,
        pipeline: Pipeline,
        asset: str,
        config: MaterializeConfig,
    ) -> None:
        """Raises ConfigError if the logs cannot carry this asset or published weights are missing,
        ArtifactError if there is no log, or for an input that is missing, unchecked, or failed its
        checks.
        """
        self.context, self.asset = context, asset
        self.lake, self.preset = pipeline.lake, pipeline.preset
        self.ledger = ledger_of_run(context.run.run_id, pipeline, as_made=True)
        self.log_ids = self.ledger.logs_of(asset)
        require_capabilities(self.ledger, asset)
        self.ledger.require_inputs(asset)
        self.lineage = self.ledger.lineage(asset)
        self.path = self.lake.asset(asset)
        self.needed = config.force or self.ledger.made(asset) != self.lineage.version
        if self.needed:
            require_weights(self.preset, [asset])
        else:
            context.log.info(f"{asset} is current (version {self.lineage.version}): nothing to do")

    @property
    def run_name(self) -> str:
        """Name of the training run. It carries the version, because the same name resumes."""
        return f"{self.asset}-{self.lineage.version}"

    @property
    def training_options(self) -> dict[str, Any]:
        """Arguments of every verb that trains: hardware, folder and name of its runs, seed."""
        return {
            "compute": self.preset.compute,
            "runs": self.lake.runs,
            "name": self.run_name,
            "seed": self.preset.seed,
        }

    @contextmanager
    def artifact(self) -> Iterator[Path]:
        """An empty folder that becomes the artefact; metrics of the training runs inside appear in
        the event log.
        """
        from ops.training.launch import remove_run

        with (
            follow_history(self.context, self.lake.runs, self.run_name),
            write_artifact(self.path, self.lineage) as out,
        ):
            yield out
        self.ledger.changed(self.asset)
        for run in self.lake.runs.glob(f"{self.run_name}*"):
            remove_run(run.name, self.lake.runs)

    def result(self, metadata: Mapping[str, Any]) -> dg.MaterializeResult:
        """The result for Dagster; its data version is the artefact's version."""
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
    # a run that resumes does not repeat the rows that it logged before it was killed
    offsets = {file: file.stat().st_size for file in runs.glob(f"{name}*/history.jsonl")}

    def tail() -> None:
        waited_s = LOG_EVERY_S
        while not stop.wait(HISTORY_POLL_S):
            waited_s += HISTORY_POLL_S
            if waited_s < LOG_EVERY_S:
                continue
            for file in sorted(runs.glob(f"{name}*/history.jsonl")):
                size = file.stat().st_size
                if size > offsets.get(file, 0):
                    rows = file.read_text()[offsets.get(file, 0) :].strip().splitlines()
                    offsets[file], waited_s = size, 0.0
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
    texts = {
        key: f"{value:.4g}" if isinstance(value, float) else str(value)
        for key, value in values.items()
    }
    return f"{part}: " + ", ".join(f"{key} {text}" for key, text in texts.items())
