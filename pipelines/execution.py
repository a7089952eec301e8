"""Runs the pipeline through Dagster in this process: stale assets are made, current ones are left.

The runs are recorded in the Dagster instance, so the UI shows them.
"""

import time
from dataclasses import dataclass, field

import dagster as dg

from assets.chain.asset_specs import ASSET_SPECS, asset_lineage, is_done, needs_work, usable_logs
from assets.chain.capabilities import capability_error, missing_capabilities
from assets.chain.per_log import PARTITIONS, range_tags
from assets.chain.pipeline import Pipeline, RawLogs
from assets.chain.weights import require_weights
from pipelines.definitions import definitions
from pipelines.instance import open_instance as open_instance
from pipelines.stopping import raise_if_stopped
from storage.asset_names import PER_LOG_ASSETS
from storage.errors import unknown_name


@dataclass(slots=True)
class RunSummary:
    """What one run of the pipeline did."""

    seconds_by_asset: dict[str, float] = field(default_factory=dict)  # of the assets that were made
    failures: list[str] = field(default_factory=list)  # failed steps, each with its error
    ends_at: str = ""  # why the pipeline ends before `until`; "" if it does not
    seconds: float = 0.0


def require_inputs(pipeline: Pipeline, until: str) -> None:
    """Raise ConfigError for an unknown source or asset, a pipeline that has no logs without a raw
    folder, or published weights that an asset up to `until` needs and that are missing.

    Called before the lake or Dagster's history is touched, so that a mistake leaves nothing behind.
    """
    RawLogs(pipeline)
    require_weights(pipeline.preset, assets_until(until))


def assets_until(until: str) -> list[str]:
    """The assets up to and including `until`. Raises ConfigError if there is no such asset."""
    if until not in ASSET_SPECS:
        raise unknown_name("asset", until, ASSET_SPECS)
    return list(ASSET_SPECS)[: list(ASSET_SPECS).index(until) + 1]


def run_pipeline(
    pipeline: Pipeline, until: str, instance: dg.DagsterInstance, *, verbose: bool = False
) -> RunSummary:
    """Bring every asset up to and including `until` to its current version.

    Raises ConfigError for an asset that does not exist, or if another run holds the lake.
    """
    assets = assets_until(until)
    start = time.monotonic()
    run = _Run(pipeline, instance, verbose)
    with pipeline.lake.lock():
        run.ingest([asset for asset in assets if asset in PER_LOG_ASSETS])
        if not run.summary.failures:
            run.train([asset for asset in assets if asset not in PER_LOG_ASSETS])
    run.summary.seconds = time.monotonic() - start
    return run.summary


def sync_partitions(instance: dg.DagsterInstance, log_ids: list[str]) -> None:
    """Make the instance's set of partitions the logs of the pipeline."""
    known = set(instance.get_dynamic_partitions(PARTITIONS))
    for log in known - set(log_ids):
        instance.delete_dynamic_partition(PARTITIONS, log)
    instance.add_dynamic_partitions(PARTITIONS, [log for log in log_ids if log not in known])


class _Run:
    """One call of run_pipeline: at most one Dagster run for ingest and one for training."""

    def __init__(self, pipeline: Pipeline, instance: dg.DagsterInstance, verbose: bool) -> None:
        self.pipeline, self.instance, self.verbose = pipeline, instance, verbose
        self.summary = RunSummary()

    def ingest(self, assets: list[str]) -> None:
        """Ingest the logs that are new, changed or stale."""
        logs = RawLogs(self.pipeline)
        sync_partitions(self.instance, logs.ids)
        todo = {log for log in logs.ids if needs_work(self.pipeline, logs, log, assets)}
        if todo:
            order = list(self.instance.get_dynamic_partitions(PARTITIONS))
            indices = [index for index, log in enumerate(order) if log in todo]
            self._execute("ingest", assets, range_tags(order[indices[0] : indices[-1] + 1]))

    def train(self, assets: list[str]) -> None:
        """Make those of the unpartitioned assets that are stale and that the logs can carry."""
        if not assets:
            return
        log_ids = usable_logs(self.pipeline)
        planned: dict[str, str] = {}
        stale = []
        for asset in assets:
            missing = missing_capabilities(self.pipeline.lake, asset, log_ids)
            if missing:
                self.summary.ends_at = str(capability_error(self.pipeline, asset, missing, log_ids))
                break
            planned[asset] = asset_lineage(self.pipeline, asset, log_ids, planned).version
            if not is_done(self.pipeline.lake.asset(asset), asset, planned[asset]):
                stale.append(asset)
        if stale:
            self._execute("training", stale, {})

    def _execute(self, job: str, assets: list[str], tags: dict[str, str]) -> None:
        result = (
            definitions(self.pipeline)
            .resolve_job_def(job)
            .execute_in_process(
                instance=self.instance,
                asset_selection=[dg.AssetKey(asset) for asset in assets],
                raise_on_error=False,
                tags={**tags, "latentvla/lake": self.pipeline.lake_root},
                run_config={"loggers": {"console" if self.verbose else "brief": {}}},
            )
        )
        raise_if_stopped()
        seconds, failures = self.summary.seconds_by_asset, self.summary.failures
        for step in self.instance.get_run_step_stats(result.run_id):
            if step.start_time and step.end_time:
                asset = step.step_key.removesuffix("_checks")
                seconds[asset] = seconds.get(asset, 0.0) + step.end_time - step.start_time
        for event in result.all_events:
            if event.is_step_failure:
                error = event.step_failure_data.error
                cause = error.cause if error and error.cause else error
                message = cause.message.strip() if cause else "failed"
                failures.append(f"{event.step_key}: {message}")
        if not result.success and not failures:
            failures.append(f"{job}: Dagster run {result.run_id} failed")
