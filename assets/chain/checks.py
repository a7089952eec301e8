"""What the checks of all assets share: results for Dagster, and the record beside the artefact.

Dagster's blocking checks stop only their own run. The record stays with the artefact, so a training
asset that runs another day refuses inputs whose blocking checks failed.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import dagster as dg

from assets.chain.metadata import rounded
from assets.chain.pipeline import Pipeline
from storage.artifact import read_checks, record_checks


def result(
    asset: str, name: str, passed: bool, blocking: bool, metadata: Mapping[str, Any]
) -> dg.AssetCheckResult:
    """One check result; a failed check that does not block is a warning."""
    return dg.AssetCheckResult(
        passed=bool(passed),
        asset_key=asset,
        check_name=name,
        metadata=rounded(metadata),
        severity=dg.AssetCheckSeverity.ERROR if blocking else dg.AssetCheckSeverity.WARN,
    )


def per_log_results(
    pipeline: Pipeline,
    asset: str,
    log_ids: Sequence[str],
    failed_logs: Mapping[str, tuple[bool, set[str]]],
) -> Iterator[dg.AssetCheckResult]:
    """Results of checks {name: (blocking, logs that failed)}; the blocking ones are recorded beside
    each log.
    """
    for log in log_ids:
        outcome = {name: log not in logs for name, (blocks, logs) in failed_logs.items() if blocks}
        record(pipeline, asset, log, outcome)
    for name, (blocking, logs) in failed_logs.items():
        metadata = {"logs": len(log_ids), "failed logs": sorted(logs)[:20]}
        yield result(asset, name, not logs, blocking, metadata)


def record(pipeline: Pipeline, asset: str, log_id: str | None, outcome: Mapping[str, bool]) -> None:
    """Keep the outcome of blocking checks beside an artefact; writes only what has changed."""
    path = pipeline.lake.asset(asset) if log_id is None else pipeline.lake.log(asset, log_id)
    recorded = read_checks(path)
    if any(recorded.get(name) != passed for name, passed in outcome.items()):
        record_checks(path, outcome)
