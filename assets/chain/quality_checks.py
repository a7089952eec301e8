"""The data rules as Dagster checks. What is checked is in ops/quality and storage/expectations."""

from collections.abc import Sequence
from typing import Any

import dagster as dg

from assets.chain.checks import Finding
from assets.chain.metadata import file_path, key_table
from assets.chain.pipeline import Pipeline
from storage.expectations.rules import OFF, RULES, Rule, rules_of

# rules on all logs together, shown with the asset that completes a log
LAKE_CHECKS_OF = "trajectories"
NOT_IN_DAGSTER = ("files_are_whole",)  # reads every file of the lake: only `latentvla doctor` does


def quality_specs(asset: str) -> list[dg.AssetCheckSpec]:
    """The check of each rule of an asset. Which of them block is decided when they run."""
    return [
        dg.AssetCheckSpec(
            rule.name, asset=asset, description=rule.text, blocking=rule.severity == "block"
        )
        for rule in (*rules_of(RULES, asset=asset), *_lake_rules(RULES, asset))
    ]


def quality_findings(asset: str, pipeline: Pipeline, log_ids: Sequence[str]) -> list[Finding]:
    """The outcome of every rule of frames or trajectories on these logs. Logs whose version was
    checked before are not read again.
    """
    from ops.quality.log_checks import check_logs
    from ops.quality.rules import active_rules

    rules = active_rules(pipeline.preset.quality)
    processes = pipeline.preset.processes
    checked = check_logs(pipeline.lake, asset, log_ids, rules, processes=processes)
    findings = []
    for item in checked.results:
        page = checked.pages.get(item.rule.table)
        metadata: dict[str, Any] = {"logs": len(checked.records), "rows": item.rows}
        if not item.passed:
            metadata |= {
                "unexpected rows": item.unexpected_count,
                "for example": item.observed,
                "failed rows": key_table(item.failed_keys),
                "what to do": item.rule.hint,
            }
        if page is not None:
            metadata["data docs"] = file_path(page)
        rows = {
            log: f"{found.value} in row {found.keys[0]}, {found.count} of {found.rows} rows"
            for log, found in item.failures.items()
        }
        name, blocking, text = item.rule.name, item.rule.blocking, item.rule.text
        findings.append(Finding(name, blocking, rows, text, item.passed, metadata))
    if asset == LAKE_CHECKS_OF:
        findings += _lake_findings(pipeline, rules)
    return findings + [  # Dagster wants a result of every rule
        Finding(rule.name, False, {}, metadata={"turned off": True})
        for rule in (*rules_of(rules, asset=asset), *_lake_rules(rules, asset))
        if rule.severity == OFF
    ]


def score_findings(pipeline: Pipeline) -> list[Finding]:
    """The outcome of every rule on the scores and the plans of the evaluation."""
    from ops.quality.rules import active_rules
    from storage.expectations import validate
    from storage.expectations.columns import plan_columns, score_columns
    from storage.metrics_table import read_metrics

    folder, findings = pipeline.lake.asset("evaluation"), []
    rules = rules_of(active_rules(pipeline.preset.quality), asset="evaluation")
    for table, columns in (("scores", score_columns), ("plans", plan_columns)):
        frame = columns(read_metrics(folder, table))
        for item in validate(table, frame, rules_of(rules, table=table)).results:
            metadata: dict[str, Any] = {"rows": item.rows}
            if not item.passed:
                metadata |= {
                    "for example": item.observed,
                    "failed rows": key_table(item.failed_keys),
                    "what to do": item.rule.hint,
                }
            rows = dict.fromkeys(item.failed_logs, "")
            name, blocking, text = item.rule.name, item.rule.blocking, item.rule.text
            findings.append(Finding(name, blocking, rows, text, item.passed, metadata))
    return findings + [
        Finding(rule.name, False, {}, metadata={"turned off": True})
        for rule in rules
        if rule.severity == OFF
    ]


def _lake_findings(pipeline: Pipeline, rules: Sequence[Rule]) -> list[Finding]:
    """Leakage, drift and the cameras' clocks, from the records of all logs; they never block."""
    from ops.quality.lake_checks import check_lake
    from ops.quality.log_checks import ASSETS, check_logs

    lake = pipeline.lake
    frames, tables = (
        check_logs(lake, name, lake.log_ids(name), rules, keep=False) for name in ASSETS
    )
    findings = []
    for item in check_lake(lake, rules, frames, tables):
        metadata: dict[str, Any] = {"tested": item.tested}
        if item.skipped:
            metadata["not tested"] = item.skipped
        if not item.passed:
            metadata |= {"found": key_table(item.findings), "what to do": item.rule.hint}
        failed = dict.fromkeys(item.failed_logs, "")
        findings.append(
            Finding(item.rule.name, False, failed, item.rule.text, item.passed, metadata)
        )
    return findings


def _lake_rules(rules: Sequence[Rule], asset: str) -> list[Rule]:
    if asset != LAKE_CHECKS_OF:
        return []
    return [rule for rule in rules_of(rules, asset="lake") if rule.name not in NOT_IN_DAGSTER]
