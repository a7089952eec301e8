"""Runs the pipeline through Dagster in this process: stale assets are made, current ones are left.

The runs are recorded in the Dagster instance, so the UI shows them.
"""

import time
from collections.abc import Collection

import dagster as dg

from assets.chain.ledger import Ledger
from assets.chain.per_log import PARTITIONS, quarantine_table, range_tags
from assets.chain.pipeline import Pipeline
from assets.log_sets import observe_log_sets
from pipelines.dead_runs import LAKE_TAG, LOCKED_TAG, fail_dead_runs
from pipelines.definitions import definitions
from pipelines.stopping import raise_if_stopped
from pipelines.work import Again, RunSummary, assets_until, only_checked, stale_assets
from storage.asset_names import INGEST_ASSETS
from storage.errors import ArtifactError

NOTHING_AGAIN = Again()


def run_pipeline(
    pipeline: Pipeline,
    until: str,
    instance: dg.DagsterInstance,
    *,
    verbose: bool = False,
    again: Again = NOTHING_AGAIN,
) -> RunSummary:
    """Bring every asset up to and including `until` to its current version, and make `again` what
    is current and a person wants made all the same.

    Raises ConfigError for an asset that does not exist, or if another run holds the lake.
    """
    assets = assets_until(until)
    start = time.monotonic()
    run = _Run(pipeline, instance, verbose, again)
    with pipeline.lake.lock():
        fail_dead_runs(instance, pipeline.lake.root)
        run.ingest([asset for asset in assets if asset in INGEST_ASSETS])
        if not run.summary.failures:
            run.train([asset for asset in assets if asset not in INGEST_ASSETS])
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

    def __init__(
        self, pipeline: Pipeline, instance: dg.DagsterInstance, verbose: bool, again: Again
    ) -> None:
        self.pipeline, self.instance, self.verbose = pipeline, instance, verbose
        self.again = again
        self.summary = RunSummary()

    def ingest(self, assets: list[str]) -> None:
        """Ingest the logs that are new, changed or stale."""
        ledger = Ledger(self.pipeline)
        ledger.keep_refusals()
        known = {*ledger.logs.ids} - {*ledger.quarantined}
        sync_partitions(self.instance, sorted(known))
        todo = set(ledger.todo(assets))
        if todo:
            order = list(self.instance.get_dynamic_partitions(PARTITIONS))
            indices = [index for index, log in enumerate(order) if log in todo]
            self.summary.checked |= only_checked(ledger, assets)
            self._execute("ingest", assets, range_tags(order[indices[0] : indices[-1] + 1]))
        elif not self.again.ingested:
            self._show_quarantine(ledger)
        for asset, log in self.again.ingested:
            partitions = self.instance.get_dynamic_partitions(PARTITIONS) if log is None else [log]
            self._execute("ingest", [asset], range_tags(list(partitions)), [asset])
        if todo or self.again.ingested:
            ledger = Ledger(self.pipeline)
        self.summary.quarantined = ledger.quarantined
        if ledger.none_left:
            self.summary.failures.append(str(ledger.no_log_error()))

    def _show_quarantine(self, ledger: Ledger) -> None:
        """Show in the UI what people have set aside or released since the last ingest."""
        shown = quarantine_table(ledger.quarantined)
        event = dg.AssetObservation("raw_logs", metadata={"quarantine": shown})
        self.instance.report_runless_asset_event(event)

    def train(self, assets: list[str]) -> None:
        """Make those of the other assets that are stale and that the logs can carry."""
        if not assets:
            return
        ledger = Ledger(self.pipeline)
        observe_log_sets(self.instance, ledger)
        try:
            stale, self.summary.ends_at = stale_assets(ledger, assets, self.again.trained)
        except ArtifactError as error:  # no log is left
            self.summary.failures.append(str(error))
            return
        if stale:
            checked = only_checked(ledger, stale)
            self._execute("training", stale, {}, self.again.trained)
            self.summary.checked |= {
                k: n for k, n in checked.items() if k not in self.again.trained
            }
            self._tell_set_aside(ledger)

    def _tell_set_aside(self, ledger: Ledger) -> None:
        """Say which logs a person has set aside while the training went on."""
        before = {*ledger.quarantined}
        if ledger.reread_quarantine():
            self.summary.quarantined = ledger.quarantined
            self.summary.set_aside_meanwhile = sorted({*ledger.quarantined} - before)

    def _execute(
        self, job: str, assets: list[str], tags: dict[str, str], again: Collection[str] = ()
    ) -> None:
        result = (
            definitions(self.pipeline)
            .resolve_job_def(job)
            .execute_in_process(
                instance=self.instance,
                asset_selection=[dg.AssetKey(asset) for asset in assets],
                raise_on_error=False,
                tags={
                    **tags,
                    LAKE_TAG: str(self.pipeline.lake.root.absolute()),
                    LOCKED_TAG: "true",
                },
                run_config={
                    "loggers": {"console" if self.verbose else "brief": {}},
                    "ops": {asset: {"config": {"force": True}} for asset in again},
                },
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
