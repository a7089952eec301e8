"""Run the pipeline through Dagster in this process: what is not current is made, the rest is left,
and the time is told.

Not the work: every asset is a Dagster asset, and the runs stand in the instance's history for the
UI to show.
"""

import fcntl
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import dagster as dg

from assets.chain.asset_specs import (
    ASSET_SPECS,
    asset_lineage,
    does_not_apply,
    is_done,
    missing_capabilities,
    needs_work,
    usable_logs,
)
from assets.chain.per_log import PARTITIONS, range_tags
from assets.chain.pipeline import Pipeline, RawLogs
from pipelines.definitions import definitions
from storage.errors import ConfigError, unknown_name
from storage.lake import PER_LOG_ASSETS


@dataclass(slots=True)
class RunSummary:
    """What one call did."""

    worked: dict[str, float] = field(
        default_factory=dict
    )  # asset -> seconds, of those that were made
    failed: list[str] = field(default_factory=list)  # steps that failed, with their error
    ends_at: str = ""  # why the pipeline ends before `until`, "" if it does not
    seconds: float = 0.0
    peak_mb: float = 0.0  # of this process and its children together


def require_possible(pipeline: Pipeline) -> None:
    """Raise ConfigError for a scale or source that does not exist, or that has no logs without a
    raw folder.

    Asked before the lake or Dagster's history is touched, so that a mistake leaves nothing behind.
    """
    RawLogs(pipeline)


def run_pipeline(
    pipeline: Pipeline, until: str, instance: dg.DagsterInstance, *, verbose: bool = False
) -> RunSummary:
    """Bring every asset up to `until` to its current version. Raises ConfigError for a asset that
    does not exist.
    """
    if until not in ASSET_SPECS:
        raise unknown_name("asset", until, ASSET_SPECS)
    summary, start = RunSummary(), time.monotonic()
    assets = list(ASSET_SPECS)[: list(ASSET_SPECS).index(until) + 1]
    with only_run(pipeline), peak_memory(summary):
        _ingest(
            pipeline,
            [asset for asset in assets if asset in PER_LOG_ASSETS],
            instance,
            summary,
            verbose,
        )
        if not summary.failed:
            _train(
                pipeline,
                [asset for asset in assets if asset not in PER_LOG_ASSETS],
                instance,
                summary,
                verbose,
            )
    summary.seconds = time.monotonic() - start
    return summary


def sync_partitions(instance: dg.DagsterInstance, log_ids: list[str]) -> None:
    """Make the instance's set of logs that of the pipeline."""
    known = instance.get_dynamic_partitions(PARTITIONS)
    for gone in set(known) - set(log_ids):
        instance.delete_dynamic_partition(PARTITIONS, gone)
    instance.add_dynamic_partitions(PARTITIONS, [log for log in log_ids if log not in set(known)])


def open_instance() -> dg.DagsterInstance:
    """DAGSTER_HOME's instance where it is set, else that of ./dagster.yaml, as `dagster dev` in
    this folder has it.
    """
    if os.environ.get("DAGSTER_HOME"):
        return dg.DagsterInstance.get()
    if not Path("dagster.yaml").exists():
        raise ConfigError(
            "there is no Dagster instance here",
            where=Path.cwd(),
            expected="dagster.yaml or DAGSTER_HOME",
            do="go to the repository's root",
        )
    return dg.DagsterInstance.from_config(str(Path.cwd()))


def _ingest(
    pipeline: Pipeline,
    assets: list[str],
    instance: dg.DagsterInstance,
    summary: RunSummary,
    verbose: bool,
) -> None:
    logs = RawLogs(pipeline)
    sync_partitions(instance, logs.ids)
    todo = {log for log in logs.ids if needs_work(pipeline, logs, log, assets)}
    if todo:
        order = list(instance.get_dynamic_partitions(PARTITIONS))
        places = [place for place, log in enumerate(order) if log in todo]
        _execute(
            "ingest",
            assets,
            instance,
            summary,
            pipeline,
            verbose,
            range_tags(order[places[0] : places[-1] + 1]),
        )


def _train(
    pipeline: Pipeline,
    assets: list[str],
    instance: dg.DagsterInstance,
    summary: RunSummary,
    verbose: bool,
) -> None:
    if not assets:
        return
    known: dict[str, str] = {}
    stale = []
    for asset in assets:
        missing = missing_capabilities(pipeline.lake, asset, usable_logs(pipeline))
        if missing:
            summary.ends_at = str(does_not_apply(pipeline, asset, missing))
            break
        lineage = asset_lineage(pipeline, asset, known)
        known[asset] = lineage.version
        if not is_done(pipeline.lake.asset(asset), asset, lineage.version):
            stale.append(asset)
    if stale:
        _execute("training", stale, instance, summary, pipeline, verbose, {})


def _execute(
    job: str,
    assets: list[str],
    instance: dg.DagsterInstance,
    summary: RunSummary,
    pipeline: Pipeline,
    verbose: bool,
    tags: dict[str, str],
) -> None:
    result = (
        definitions(pipeline)
        .resolve_job_def(job)
        .execute_in_process(
            instance=instance,
            asset_selection=[dg.AssetKey(asset) for asset in assets],
            raise_on_error=False,
            tags={**tags, "latentvla/lake": pipeline.lake_root},
            run_config={"loggers": {"console" if verbose else "brief": {}}},
        )
    )
    for step in instance.get_run_step_stats(result.run_id):
        if step.start_time and step.end_time:
            asset = step.step_key.removesuffix("_checks")
            summary.worked[asset] = summary.worked.get(asset, 0.0) + step.end_time - step.start_time
    for event in result.all_events:
        if event.is_step_failure:
            error = event.step_failure_data.error
            cause = error.cause if error and error.cause else error
            summary.failed.append(
                f"{event.step_key}: {cause.message.strip() if cause else 'failed'}"
            )
    if not result.success and not summary.failed:
        summary.failed.append(f"{job}: run {result.run_id} failed")


@contextmanager
def only_run(pipeline: Pipeline) -> Iterator[None]:
    """Hold the lake's lock, which the system takes back when the process ends, however it ends."""
    pipeline.lake.root.mkdir(parents=True, exist_ok=True)
    with (pipeline.lake.root / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ConfigError(
                "another run is at work on this lake",
                where=pipeline.lake.root,
                do="wait for it, or choose another lake with --lake",
            ) from error
        yield


@contextmanager
def peak_memory(summary: RunSummary, every_s: float = 0.5) -> Iterator[None]:
    """Follow the resident memory of this process and all its descendants."""
    stop = threading.Event()

    def watch() -> None:
        while True:
            summary.peak_mb = max(summary.peak_mb, _tree_mb(os.getpid()))
            if stop.wait(every_s):
                return

    thread = threading.Thread(target=watch, name="peak-memory", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def _tree_mb(root: int) -> float:
    """Resident memory of a process tree from /proc; pages that processes share count once for each."""
    parents, resident = {}, {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            status = dict(
                line.split(":", 1)
                for line in (folder / "status").read_text().splitlines()
                if ":" in line
            )
        except (FileNotFoundError, ProcessLookupError):  # the process has ended meanwhile
            continue
        parents[int(folder.name)] = int(status["PPid"])
        resident[int(folder.name)] = float(status.get("VmRSS", "0 kB").split()[0]) / 1024
    tree, grown = {root}, True
    while grown:
        more = {pid for pid, parent in parents.items() if parent in tree} - tree
        tree, grown = tree | more, bool(more)
    return sum(resident.get(pid, 0.0) for pid in tree)
