"""What the checks of all assets share: results for Dagster, the record beside the artefact, and the
quarantine of logs that fail a blocking data check.

Dagster's blocking checks stop only their own run, and all logs of it. So a log that fails a
blocking check is set aside, and the check only warns. The record stays with the artefact: an asset
that is trained another day reads logs whose record is complete and good.
"""

import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from inspect import signature
from typing import Any

import dagster as dg

from assets.chain.ledger import Ledger, count, ledger_of_run, rules_key
from assets.chain.metadata import rounded
from assets.chain.pipeline import Pipeline
from ops.ingest.quarantine import quarantine
from storage.artifact import CHECKS_FILE, read_checks, record_checks
from storage.errors import LatentVLAError, SourceError

BATCH = 500  # logs whose tables are checked at a time


@dataclass(frozen=True, slots=True)
class Finding:
    """The outcome of one data check over some logs."""

    name: str  # of the Dagster check
    blocking: bool  # a log that fails is quarantined
    failed: Mapping[str, str]  # log that failed -> the row and the value, or ""
    expected: str = ""  # what the check asks for
    passed: bool = True  # False if it failed over all logs, though for none of them
    metadata: Mapping[str, Any] = field(default_factory=dict)


# logs -> the outcome of every data check of an asset over them
Check = Callable[[Pipeline, Sequence[str]], list[Finding]]
_OF_RUN: dict[tuple[str, str], list[list[Finding]]] = {}  # (Dagster run, asset) -> by batch


def asset_checks(
    specs: Sequence[dg.AssetCheckSpec],
) -> Callable[[Callable[..., Iterator[dg.AssetCheckResult]]], dg.AssetChecksDefinition]:
    """Declares a function `(pipeline)` or `(context, pipeline)` that yields the result of each of
    these checks. Alone, any of them can be executed; all are computed, since they share what they
    read, and those that were asked for are reported.
    """

    def declared(function: Callable[..., Iterator[dg.AssetCheckResult]]) -> Any:
        takes_context = "context" in signature(function).parameters

        @dg.multi_asset_check(
            name=function.__name__, description=function.__doc__, specs=specs, can_subset=True
        )
        def checked(
            context: dg.AssetCheckExecutionContext, pipeline: dg.ResourceParam[Pipeline]
        ) -> Iterator[dg.AssetCheckResult]:
            results = function(context, pipeline) if takes_context else function(pipeline)
            chosen = context.selected_asset_check_keys
            for item in results:
                if any(key.name == item.check_name for key in chosen):
                    yield item

        return checked

    return declared


def check_logs(
    ledger: Ledger, asset: str, check: Check, log_ids: Sequence[str], run_id: str
) -> dict[str, str]:
    """Check these logs of an ingest asset, record the outcome of the blocking checks beside each,
    and quarantine those that fail; return their reasons.

    A log at which the checks themselves fail is quarantined too, if the others can be checked.
    """
    for key in [key for key in _OF_RUN if key[0] != run_id]:
        del _OF_RUN[key]
    batches = _OF_RUN.setdefault((run_id, asset), [])
    reasons: dict[str, str] = {}
    for start in range(0, len(log_ids), BATCH):
        part = log_ids[start : start + BATCH]
        findings, broken = _findings(ledger.pipeline, check, part)
        batches.append(findings)
        errors = _errors(findings) | broken
        for log in part:
            outcome = {item.name: log not in item.failed for item in findings if item.blocking}
            if log not in broken:
                record(ledger.pipeline, asset, log, outcome)
            if log in errors:
                failure = ledger.failure_keys(asset, log)[1]
                reasons[log] = quarantine(ledger.lake, log, asset, errors[log], failure).reason
        ledger.changed(asset, part)
    return reasons


def data_check_results(
    context: dg.AssetCheckExecutionContext, pipeline: Pipeline, asset: str, check: Check
) -> Iterator[dg.AssetCheckResult]:
    """The results of the data checks of an ingest asset: over the logs that this run has made, or
    over all logs of the lake if it has made none or only the checks run.
    """
    key = (context.run.run_id, asset)
    if key not in _OF_RUN:
        ledger = ledger_of_run(key[0], pipeline)
        logs = [log for log in ledger.log_ids if log not in ledger.quarantined]
        made = [log for log in logs if ledger.made(asset, log)]
        for log, reason in check_logs(ledger, asset, check, made, key[0]).items():
            context.log.warning(f"{log} is quarantined: {reason}")
    for name, findings in _by_name(_OF_RUN[key] or [check(pipeline, [])]).items():
        failed = sorted({log for item in findings for log in item.failed})
        passed = not failed and all(item.passed for item in findings)
        metadata = dict(_first_failed(findings).metadata) | {"failed logs": failed[:20]}
        if failed and findings[0].blocking:
            metadata["quarantined"] = count(len(failed), "log")
        yield result(asset, name, passed, False, metadata)


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


def record(pipeline: Pipeline, asset: str, log_id: str | None, outcome: Mapping[str, bool]) -> None:
    """Keep the outcome of all blocking checks beside an artefact, with the version of the rules, in
    place of an earlier one; writes only what has changed.
    """
    path = pipeline.lake.asset(asset) if log_id is None else pipeline.lake.log(asset, log_id)
    present = {name: bool(passed) for name, passed in outcome.items()} | {
        rules_key(asset, pipeline): True
    }
    try:
        recorded = read_checks(path)
    except (LatentVLAError, ValueError, OSError):  # damaged: written again
        recorded = {"": False}
    if recorded == present:
        return
    if set(recorded) - set(present):
        (path / CHECKS_FILE).unlink(missing_ok=True)
    record_checks(path, present)


def _findings(
    pipeline: Pipeline, check: Check, log_ids: Sequence[str]
) -> tuple[list[Finding], dict[str, LatentVLAError]]:
    """Outcomes over these logs, and the logs at which the checks themselves fail. Raises what they
    raise if they fail at every one of several logs.
    """
    try:
        return check(pipeline, log_ids), {}
    except Exception as error:  # one log must not keep the others from being checked
        broken: dict[str, LatentVLAError] = {}
        for log in log_ids:
            try:
                check(pipeline, [log])
            except Exception as of_log:
                broken[log] = _error_of_check(log, of_log)
        sound = [log for log in log_ids if log not in broken]
        if not broken or (not sound and len(log_ids) > 1):
            raise error
        return check(pipeline, sound), broken


def _error_of_check(log: str, error: Exception) -> LatentVLAError:
    if isinstance(error, SourceError):
        return error.of_log(log)
    place = traceback.extract_tb(error.__traceback__)[-1]
    return SourceError(
        "the data of this log cannot be checked",
        where=f"log {log}, {place.filename}:{place.lineno}",
        expected="tables and images that the checks can read",
        found=f"{type(error).__name__}: {error}",
        do="correct or leave out this log; it is read again when its bytes change",
    )


def _errors(findings: Iterable[Finding]) -> dict[str, LatentVLAError]:
    """The error of each log that failed a blocking check: the first that it failed."""
    errors: dict[str, LatentVLAError] = {}
    for item in findings:
        for log, row in item.failed.items() if item.blocking else ():
            errors.setdefault(
                log,
                SourceError(
                    f"the data check '{item.name}' failed",
                    where=f"log {log}",
                    expected=item.expected,
                    found=row or "another value",
                    do="correct or leave out this log; it is checked again when its bytes change, "
                    f"or after: latentvla release {log}",
                ),
            )
    return errors


def _by_name(batches: Iterable[Sequence[Finding]]) -> dict[str, list[Finding]]:
    """The findings of each check over all batches."""
    by_name: dict[str, list[Finding]] = {}
    for findings in batches:
        for item in findings:
            by_name.setdefault(item.name, []).append(item)
    return by_name


def _first_failed(findings: Sequence[Finding]) -> Finding:
    return next((item for item in findings if item.failed or not item.passed), findings[0])
