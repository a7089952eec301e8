"""Every check on a folder of raw logs or on a lake, without Dagster, writing to neither."""

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from ops.ingest.config import ExtractConfig, FrameConfig
from ops.ingest.decode import decode
from ops.ingest.each_log import LogWork, each_log
from ops.ingest.extract import extract
from ops.ingest.quarantine import quarantined
from ops.quality.lake_checks import LakeResult, check_files, check_lake
from ops.quality.log_checks import (
    ASSETS,
    BATCH_ROWS,
    DAMAGE,
    LogChecks,
    Measured,
    check_logs,
    measure_frames,
    measure_trajectories,
    records_of,
    validate_tables,
)
from storage.artifact import LINEAGE_FILE
from storage.asset_names import ASSET_NAMES
from storage.errors import SourceError
from storage.expectations.columns import plan_columns, relabeled_columns, score_columns
from storage.expectations.rules import OFF, LogFailure, Rule, rules_of
from storage.expectations.suite import RuleResult, validate
from storage.lake import Lake
from storage.locks import LAKE_LOCK
from storage.metrics_table import read_metrics
from storage.sources import open_source
from storage.trajectory_table import code_layout

if TYPE_CHECKING:
    import pandas as pd

OK, WARN, ERROR, SKIPPED = "ok", "warn", "error", "skipped"
MAX_EXAMPLES = 20


@dataclass(frozen=True, slots=True)
class Outcome:
    """One check and what came of it."""

    asset: str
    rule: str
    state: str  # OK | WARN | ERROR | SKIPPED
    text: str  # what the rule demands
    tested: int  # rows, logs or artefacts
    failed: int  # logs or findings
    examples: tuple[str, ...]  # what breaks it, at most MAX_EXAMPLES
    value: str  # of the first example, or why it was skipped
    hint: str


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """Every check of one place."""

    place: str
    kind: str  # "raw logs" | "lake"
    logs: int
    outcomes: tuple[Outcome, ...]

    @property
    def worst(self) -> str:
        """The worst state of all checks: OK, WARN or ERROR."""
        states = {item.state for item in self.outcomes}
        return next((state for state in (ERROR, WARN) if state in states), OK)


def is_lake(folder: Path) -> bool:
    """True if the folder holds an artefact of a lake, or a run has begun one there."""
    lake = Lake(folder)
    made = (folder / name / LINEAGE_FILE for name in ASSET_NAMES)
    return (
        any(file.exists() for file in made)
        or any(
            next((folder / name).glob(f"*/{LINEAGE_FILE}"), None) for name in ("raw_logs", *ASSETS)
        )
        or lake.quarantine.is_dir()
        or (folder / LAKE_LOCK).is_file()
    )


def diagnose_lake(
    lake: Lake, rules: Sequence[Rule], *, processes: int = 1, files: bool = True
) -> Diagnosis:
    """All checks of a lake; `files`: also read every file and compare it with its hash."""
    check = partial(check_logs, lake, rules=rules, processes=processes, keep=False)
    frames = check("frames", lake.log_ids("frames"))
    measured = {log: record.statistics for log, record in frames.records.items()}
    tables = check("trajectories", lake.log_ids("trajectories"), images=measured)
    outcomes = [
        _quarantine(lake, rule)
        for rule in rules_of(rules, asset="raw_logs")
        if rule.severity != OFF
    ]
    outcomes += [_of_rule(item) for checks in (frames, tables) for item in checks.results]
    outcomes += _trained_assets(lake, rules)
    outcomes += [_of_lake(item) for item in check_lake(lake, rules, frames, tables)]
    if files:
        outcomes += [_of_lake(item) for item in check_files(lake, rules)]
    logs = {*frames.records, *tables.records, *lake.log_ids("raw_logs")}
    return Diagnosis(str(lake.root), "lake", len(logs), tuple(outcomes))


def diagnose_raw(
    source: str,
    raw: Path,
    rules: Sequence[Rule],
    frames: FrameConfig,
    trajectories: ExtractConfig,
    *,
    processes: int = 1,
) -> Diagnosis:
    """All checks of a folder of raw logs, which are read as for a lake, into a temporary folder.

    Raises SourceError if there is no log at all, ConfigError for an unknown source.
    """
    opened = open_source(source, raw)
    log_ids = [ref.log_id for ref in opened.logs()]
    refused: Mapping[str, SourceError] = getattr(opened, "refused", {})
    errors = {log: str(error) for log, error in refused.items()}
    works = [
        LogWork(log, partial(_read_raw, source, raw, log, frames, trajectories)) for log in log_ids
    ]
    records: dict[str, dict[str, Any]] = {asset: {} for asset in ASSETS}
    for batch in _batches(works, processes, errors):
        for asset, measured in zip(ASSETS, zip(*batch, strict=True), strict=True):
            versions = {item.log_id: "" for item in measured}
            validations = validate_tables(measured, _active(rules, asset))
            made = records_of(asset, measured, validations, versions, "")
            records[asset] |= {record.log_id: record for record in made}
    checks = [LogChecks(asset, _active(rules, asset), records[asset], {}) for asset in ASSETS]
    readable = [
        _of_rule(RuleResult(rule, len({*log_ids, *errors}), _reasons(errors)))
        for rule in _active(rules, "raw_logs")
    ]
    of_logs = [_of_rule(item) for of_asset in checks for item in of_asset.results]
    of_all = [_of_lake(item) for item in check_lake(None, rules, *checks)]
    logs = len({*log_ids, *errors})
    return Diagnosis(str(raw), "raw logs", logs, tuple([*readable, *of_logs, *of_all]))


def _read_raw(
    source: str, raw: Path, log_id: str, frames: FrameConfig, trajectories: ExtractConfig
) -> tuple[Measured, Measured]:
    """Both assets of one raw log, measured. Raises SourceError for a log that cannot be read."""
    log = open_source(source, raw).open(log_id)
    with tempfile.TemporaryDirectory(prefix="latentvla-doctor-") as folder:
        lake = Lake(Path(folder))
        decode(log, lake.log("frames", log_id), frames)
        extract(log, lake.log("trajectories", log_id), trajectories)
        images = measure_frames(lake, log_id)
        return images, measure_trajectories(lake, log_id, images.statistics)


def _batches(
    works: Sequence[LogWork], processes: int, errors: dict[str, str]
) -> Iterator[list[tuple[Measured, Measured]]]:
    """What was measured of some logs at a time; logs that cannot be read go to `errors`."""
    batch: list[tuple[Measured, Measured]] = []
    for outcome in each_log(works, processes):
        if outcome.error is not None:
            errors[outcome.log_id] = str(outcome.error)
            continue
        batch.append(outcome.result)
        if sum(item.rows for both in batch for item in both) >= BATCH_ROWS:
            yield batch
            batch = []
    if batch:
        yield batch


def _trained_assets(lake: Lake, rules: Sequence[Rule]) -> list[Outcome]:
    """The rules on the relabeled rows, the scores and the plans, of those that the lake has."""
    folder, evaluation = lake.asset("relabeled"), lake.asset("evaluation")
    outcomes: list[Outcome] = []
    files = [*folder.glob("relabeled.parquet"), *sorted(folder.glob("*/relabeled.parquet"))]
    if files:
        outcomes += _of_table("relabeled", rules, lambda: _relabeled(files))
    if (evaluation / LINEAGE_FILE).exists():
        outcomes += _of_table(
            "scores", rules, lambda: score_columns(read_metrics(evaluation, "scores"))
        )
        outcomes += _of_table(
            "plans", rules, lambda: plan_columns(read_metrics(evaluation, "plans"))
        )
    return outcomes


def _relabeled(files: Sequence[Path]) -> "pd.DataFrame":
    names = ["log_id", "frame_index", "codes", "codebook_version"]
    rows = pa.concat_tables([pq.read_table(file, columns=names) for file in files])
    return relabeled_columns(rows, code_layout(rows).codes)


def _of_table(
    name: str, rules: Sequence[Rule], read: Callable[[], "pd.DataFrame"]
) -> list[Outcome]:
    """The rules on one table; a table that cannot be read breaks the first of them."""
    chosen = [rule for rule in rules_of(rules, table=name) if rule.severity != OFF]
    try:
        frame = read()
    except DAMAGE as error:
        reason = f"cannot be read: {str(error).splitlines()[0]}"
        return [_of_rule(RuleResult(rule, 1, _reasons({name: reason}))) for rule in chosen[:1]]
    return [_of_rule(result) for result in validate(name, frame, chosen).results]


def _active(rules: Sequence[Rule], asset: str) -> tuple[Rule, ...]:
    return tuple(rule for rule in rules_of(rules, asset=asset) if rule.severity != OFF)


def _reasons(errors: Mapping[str, str]) -> dict[str, LogFailure]:
    return {log: LogFailure(1, 1, (log,), text) for log, text in sorted(errors.items())}


def _quarantine(lake: Lake, rule: Rule) -> Outcome:
    records = quarantined(lake)
    reasons = _reasons({log: record.reason for log, record in records.items()})
    return _of_rule(RuleResult(rule, len({*lake.log_ids("raw_logs"), *records}), reasons))


def _of_rule(result: RuleResult) -> Outcome:
    """The outcome of a rule on rows."""
    skipped = "" if result.rows else "no rows"
    return _outcome(
        result.rule,
        skipped=skipped,
        passed=result.passed,
        tested=result.rows,
        failed=len(result.failures),
        examples=result.failed_keys,
        value=skipped or result.observed,
    )


def _of_lake(result: LakeResult) -> Outcome:
    """The outcome of a rule on the lake as a whole."""
    return _outcome(
        result.rule,
        skipped=result.skipped,
        passed=result.passed,
        tested=result.tested,
        failed=max(len(result.failed_logs), len(result.findings)),
        examples=result.findings,
        value=result.skipped,
    )


def _outcome(
    rule: Rule,
    *,
    skipped: str,
    passed: bool,
    tested: int,
    failed: int,
    examples: Sequence[str],
    value: str,
) -> Outcome:
    state = SKIPPED if skipped else OK if passed else ERROR if rule.blocking else WARN
    shown = tuple(examples[:MAX_EXAMPLES])
    return Outcome(rule.asset, rule.name, state, rule.text, tested, failed, shown, value, rule.hint)
