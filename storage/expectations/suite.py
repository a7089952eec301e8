"""Runs rules over tables with Great Expectations, and says which logs break them.

Great Expectations takes NaN for a missing value and passes it; here such values break the rule.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from storage.expectations import columns
from storage.expectations.data_docs import page_of
from storage.expectations.rules import (
    AGENT_RULES,
    OFF,
    RELABELED_RULES,
    TRAJECTORY_RULES,
    LogFailure,
    Rule,
)

if TYPE_CHECKING:
    import pandas as pd

MAX_LISTED = 20  # failed keys listed per rule


@dataclass(frozen=True, slots=True)
class RuleResult:
    """The outcome of one rule on one table."""

    rule: Rule
    rows: int
    failures: dict[str, LogFailure]  # log -> how it breaks the rule

    @property
    def passed(self) -> bool:
        """True if no log breaks the rule."""
        return not self.failures

    @property
    def unexpected_count(self) -> int:
        """Rows that break the rule, of the logs that may not have so many."""
        return sum(failure.count for failure in self.failures.values())

    @property
    def failed_logs(self) -> tuple[str, ...]:
        """Every log that breaks the rule."""
        return tuple(sorted(self.failures))

    @property
    def failed_keys(self) -> tuple[str, ...]:
        """Rows that break the rule, at most MAX_LISTED."""
        keys = [key for log in self.failed_logs for key in self.failures[log].keys]
        return tuple(keys[:MAX_LISTED])

    @property
    def observed(self) -> str:
        """The value of the first row that breaks the rule; "" if there is none."""
        return self.failures[self.failed_logs[0]].value if self.failures else ""


@dataclass(frozen=True, slots=True)
class Validation:
    """A suite run over one table."""

    table: str
    results: tuple[RuleResult, ...]
    report: Any = None  # of Great Expectations; None: the table has no rows, or it ran no rule

    @property
    def html(self) -> str:
        """A page of data docs that opens offline, drawn anew; "" without a report."""
        return "" if self.report is None else page_of(self.report)

    @property
    def passed(self) -> bool:
        """True if every blocking rule holds."""
        return all(result.passed for result in self.results if result.rule.blocking)


def validate_trajectories(table: pa.Table, rules: Sequence[Rule] = TRAJECTORY_RULES) -> Validation:
    """Run the rules over a trajectories table of any number of logs."""
    return validate("trajectories", columns.trajectory_columns(table), rules)


def validate_agents(
    table: pa.Table, rules: Sequence[Rule] = AGENT_RULES, known: pa.Table | None = None
) -> Validation:
    """Run the rules over an agents table; `known` has the keys of the trajectories."""
    return validate("agents", columns.agent_columns(table, known), rules)


def validate_relabeled(
    table: pa.Table, num_codes: int, rules: Sequence[Rule] = RELABELED_RULES
) -> Validation:
    """Run the rules over relabeled rows for a codebook of `num_codes` codes."""
    return validate("relabeled", columns.relabeled_columns(table, num_codes), rules)


def validate(name: str, frame: "pd.DataFrame", rules: Sequence[Rule]) -> Validation:
    """Run those of `rules` that are not OFF over the columns that they test.

    Raises RuntimeError for a rule that cannot be evaluated, as on a column that is not there.
    """
    rules = [rule for rule in rules if rule.severity != OFF]
    if not len(frame) or not rules:
        return Validation(name, tuple(RuleResult(rule, 0, {}) for rule in rules))
    tested, expectations = _with_nan_outside(frame, rules)
    report = _run(name, tested, expectations)
    by_rule = {item.expectation_config.meta["rule"]: item for item in report.results}
    rows_of_log = frame["log_id"].value_counts(sort=False).to_dict()
    results = [_result(rule, by_rule[rule.name], frame, rows_of_log) for rule in rules]
    return Validation(name, tuple(results), report)


def _with_nan_outside(
    frame: "pd.DataFrame", rules: Sequence[Rule]
) -> tuple["pd.DataFrame", list[tuple[str, dict[str, Any], Rule]]]:
    """The columns that the rules test, missing values replaced by one that breaks the rule, and the
    expectation of each rule: its class and arguments.
    """
    tested, expectations = frame[[]].copy(), []
    for rule in rules:
        mostly: dict[str, Any] = {"mostly": 1.0 - rule.allowed} if rule.allowed else {}
        for name in rule.unique:
            tested[name] = frame[name]
        if rule.unique:
            arguments: dict[str, Any] = {"column_list": list(rule.unique)}
            expectations.append(("ExpectCompoundColumnsToBeUnique", arguments | mostly, rule))
            continue
        values = frame[rule.column]
        if rule.values:
            column = rule.column
            there = values.notna()
            whole = values if there.all() else values.astype(object).where(there, "missing")
            tested[column] = whole
            arguments = {"column": column, "value_set": list(rule.values)}
            expectations.append(("ExpectColumnValuesToBeInSet", arguments | mostly, rule))
            continue
        # a column of its own, since what is outside depends on the rule
        column = f"{rule.column} of {rule.name}"
        tested[column] = values.astype(float).fillna(np.inf if rule.high is not None else -np.inf)
        arguments = {"column": column, "min_value": rule.low, "max_value": rule.high}
        expectations.append(("ExpectColumnValuesToBeBetween", arguments | mostly, rule))
    return tested, expectations


def _run(name: str, tested: "pd.DataFrame", suite: list[tuple[str, dict[str, Any], Rule]]) -> Any:
    import great_expectations as gx
    from great_expectations import expectations

    batch = _context().data_sources.pandas_default.read_dataframe(tested)
    return batch.validate(
        gx.ExpectationSuite(
            name=name,
            expectations=[
                getattr(expectations, kind)(
                    **arguments, meta={"rule": rule.name, "notes": rule.text}
                )
                for kind, arguments, rule in suite
            ],
        ),
        result_format={"result_format": "COMPLETE", "include_unexpected_rows": False},
    )


@lru_cache
def _context() -> Any:
    """One for the process: each has a temporary folder."""
    import great_expectations as gx

    context: Any = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = {"globally": False}
    return context


def _result(
    rule: Rule, outcome: Any, frame: "pd.DataFrame", rows_of_log: dict[str, int]
) -> RuleResult:
    raised = outcome.exception_info
    if raised and any(
        isinstance(item, dict) and item.get("raised_exception")
        for item in [raised, *raised.values()]
    ):
        raise RuntimeError(f"rule {rule.name} could not be evaluated: {raised}")
    rows = np.asarray(outcome.result.get("unexpected_index_list") or [], dtype=int)
    failures = {}
    for log, of_log in (
        frame["log_id"].iloc[rows].groupby(frame["log_id"].iloc[rows]).groups.items()
    ):
        total = rows_of_log[log]
        if len(of_log) <= rule.allowed * total:
            continue
        first = frame.loc[of_log[:MAX_LISTED]]
        value = "repeated" if rule.unique else str(first[rule.column].iloc[0])
        failures[str(log)] = LogFailure(len(of_log), total, _keys(first), value)
    return RuleResult(rule, len(frame), failures)


def _keys(rows: "pd.DataFrame") -> tuple[str, ...]:
    """`log/frame`, with the camera, planner or token where there is one; a log alone for tables
    without frames.
    """
    parts = []
    for row in rows.to_dict("records"):
        key = f"{row['log_id']}/{row['frame_index']}" if "frame_index" in row else row["log_id"]
        more = next((row[name] for name in ("camera", "planner", "token") if name in row), "")
        parts.append(f"{key} {more}".strip())
    return tuple(parts)
