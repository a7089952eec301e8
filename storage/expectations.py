"""The data rules of the tables, evaluated by Great Expectations.

A `blocking` rule that fails stops training on the table; the others warn. Failed rows are listed by
key. `assets/chain/checks.py` shows the results as Dagster checks.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from storage.trajectory_table import STEP_S, Category, Command, code_layout

if TYPE_CHECKING:
    import pandas as pd

MAX_LISTED = 20  # failed keys listed per rule


@dataclass(frozen=True, slots=True)
class Rule:
    """One expectation on one column (or set of columns) of a table."""

    name: str  # also the name of the Dagster check
    description: str  # shown in the UI
    blocking: bool  # True: a failure stops the assets that would train on the table
    expectation: str  # class name in great_expectations.expectations
    arguments: dict[str, Any]


@dataclass(frozen=True, slots=True)
class RuleResult:
    """The outcome of one rule on one table."""

    rule: Rule
    passed: bool
    rows: int
    unexpected_count: int
    failed_keys: tuple[str, ...]  # "log_id/frame_index", at most MAX_LISTED
    failed_logs: tuple[str, ...]  # every log with a failed row
    observed: str  # an unexpected value, or the observed aggregate


@dataclass(frozen=True, slots=True)
class Validation:
    """A suite run over one table; `html` is a page of data docs that opens offline."""

    table: str
    results: tuple[RuleResult, ...]
    html: str

    @property
    def passed(self) -> bool:
        """True if every blocking rule holds."""
        return all(result.passed for result in self.results if result.rule.blocking)


def _between(
    name: str, description: str, column: str, low: float, high: float, *, blocking: bool
) -> Rule:
    return Rule(
        name,
        description,
        blocking,
        "ExpectColumnValuesToBeBetween",
        {"column": column, "min_value": low, "max_value": high},
    )


TRAJECTORY_RULES = (
    Rule(
        "key_is_unique",
        "No two rows have the same (log_id, frame_index).",
        True,
        "ExpectCompoundColumnsToBeUnique",
        {"column_list": ["log_id", "frame_index"]},
    ),
    Rule(
        "pose_is_finite",
        "Poses, velocities and accelerations are numbers, not NaN or infinite.",
        True,
        "ExpectColumnValuesToBeInSet",
        {"column": "finite", "value_set": [True]},
    ),
    _between(
        "time_increases",
        "Time moves forward from row to row of a log, by at most 2 s.",
        "dt_s",
        1e-3,
        2.0,
        blocking=True,
    ),
    _between(
        "speed_in_range", "Speed is between 0 and 60 m/s.", "speed_mps", 0.0, 60.0, blocking=True
    ),
    _between(
        "pose_agrees_with_speed",
        "Consecutive poses lie as far apart as the recorded speed implies, within 5 m/s.",
        "jump_mps",
        0.0,
        5.0,
        blocking=True,
    ),
    _between(
        "future_agrees_with_speed",
        "The first future waypoint agrees with the recorded speed, within 3 m.",
        "future_error_m",
        0.0,
        3.0,
        blocking=True,
    ),
    Rule(
        "command_is_known",
        "The driving command is one of left, straight, right, unknown.",
        True,
        "ExpectColumnValuesToBeInSet",
        {"column": "command", "value_set": [int(item) for item in Command]},
    ),
    _between(
        "heading_is_wrapped", "Headings lie in [-pi, pi].", "yaw_rad", -np.pi, np.pi, blocking=True
    ),
    _between(
        "acceleration_in_range",
        "Accelerations stay within 12 m/s2.",
        "acceleration_mps2",
        0.0,
        12.0,
        blocking=False,
    ),
    _between(
        "yaw_rate_in_range",
        "Yaw rates stay within 1.5 rad/s.",
        "yaw_rate_radps",
        -1.5,
        1.5,
        blocking=False,
    ),
    _between(
        "jerk_in_range",
        "Changes of acceleration stay within 30 m/s3.",
        "jerk_mps3",
        0.0,
        30.0,
        blocking=False,
    ),
    Rule(
        "rows_have_images",
        "At least nine rows of ten have a front-camera image.",
        False,
        "ExpectColumnMeanToBeBetween",
        {"column": "has_image_share", "min_value": 0.9},
    ),
    Rule(
        "rows_have_futures",
        "At least a quarter of the rows have the whole 4 s future.",
        False,
        "ExpectColumnMeanToBeBetween",
        {"column": "future_share", "min_value": 0.25},
    ),
)

AGENT_RULES = (
    Rule(
        "agent_key_is_unique",
        "No track appears twice in a frame.",
        True,
        "ExpectCompoundColumnsToBeUnique",
        {"column_list": ["log_id", "frame_index", "track_token"]},
    ),
    Rule(
        "agent_category_is_known",
        "Every agent has a category of NAVSIM.",
        True,
        "ExpectColumnValuesToBeInSet",
        {"column": "category", "value_set": [int(item) for item in Category]},
    ),
    _between(
        "agent_length_in_range",
        "Agents are between 0.05 and 40 m long.",
        "length_m",
        0.05,
        40.0,
        blocking=False,
    ),
    _between(
        "agent_speed_in_range",
        "Agents move at no more than 70 m/s.",
        "speed_mps",
        0.0,
        70.0,
        blocking=False,
    ),
)


def relabeled_rules(num_codes: int) -> tuple[Rule, ...]:
    """Rules of the relabeled table for a codebook of `num_codes` codes."""
    return (
        Rule(
            "key_is_unique",
            "The join with the codes duplicated no row.",
            True,
            "ExpectCompoundColumnsToBeUnique",
            {"column_list": ["log_id", "frame_index"]},
        ),
        _between(
            "codes_in_range",
            f"Every code lies between 0 and {num_codes - 1}.",
            "code_max",
            0,
            num_codes - 1,
            blocking=True,
        ),
        _between(
            "codes_not_negative",
            "No code is negative.",
            "code_min",
            0,
            num_codes - 1,
            blocking=True,
        ),
        Rule(
            "one_codebook_version",
            "All rows were labelled by the same codebook.",
            True,
            "ExpectColumnUniqueValueCountToBeBetween",
            {"column": "codebook_version", "min_value": 1, "max_value": 1},
        ),
    )


def validate_trajectories(table: pa.Table) -> Validation:
    """Run TRAJECTORY_RULES over a trajectories table of any number of logs."""
    return _validate("trajectories", _trajectory_columns(table), TRAJECTORY_RULES)


def validate_agents(table: pa.Table) -> Validation:
    """Run AGENT_RULES over an agents table."""
    frame = table.to_pandas()
    frame["speed_mps"] = np.hypot(frame["vx_mps"], frame["vy_mps"])
    return _validate("agents", frame, AGENT_RULES)


def validate_relabeled(table: pa.Table, num_codes: int) -> Validation:
    """Run relabeled_rules over the relabeled table."""
    codes_NS = _listed(table, "codes", code_layout(table).slots)
    frame = table.select(["log_id", "frame_index", "codebook_version"]).to_pandas()
    frame["code_min"], frame["code_max"] = codes_NS.min(axis=1), codes_NS.max(axis=1)
    return _validate("relabeled", frame, relabeled_rules(num_codes))


def _listed(table: pa.Table, name: str, width: int) -> np.ndarray:
    return (
        table[name]
        .combine_chunks()
        .flatten()
        .to_numpy(zero_copy_only=False)
        .reshape(len(table), width)
    )


def _trajectory_columns(table: pa.Table) -> "pd.DataFrame":
    """The table's scalar columns and quantities derived from each row and the row before.

    In the first row of a log the differences have values that pass every rule.
    """
    table = table.sort_by([("log_id", "ascending"), ("frame_index", "ascending")])
    scalars = [field.name for field in table.schema if not pa.types.is_nested(field.type)]
    frame = table.select(scalars).to_pandas()
    first = np.r_[True, frame["log_id"].to_numpy()[1:] != frame["log_id"].to_numpy()[:-1]]

    def step(values: np.ndarray, at_first: float) -> np.ndarray:
        return np.where(first, at_first, np.diff(values, prepend=values[:1]))

    dt_s = step(frame["timestamp_us"].to_numpy() * 1e-6, STEP_S)
    safe_dt_s = np.where(dt_s > 0, dt_s, STEP_S)
    speed = np.hypot(frame["vx_mps"], frame["vy_mps"]).to_numpy()
    moved = (
        np.hypot(step(frame["x_m"].to_numpy(), 0.0), step(frame["y_m"].to_numpy(), 0.0)) / safe_dt_s
    )
    between = np.where(first, 0.0, moved - (speed + np.roll(speed, 1)) / 2)
    future_N24, valid_N8 = _listed(table, "future_xyyaw", 24), _listed(table, "future_valid", 8)
    middle = speed + frame["ax_mps2"].to_numpy() * STEP_S / 2
    future_error = np.where(
        valid_N8[:, 0], np.abs(np.hypot(future_N24[:, 0], future_N24[:, 1]) - middle * STEP_S), 0.0
    )
    motion = frame[["x_m", "y_m", "yaw_rad", "vx_mps", "vy_mps", "ax_mps2", "ay_mps2"]].to_numpy()
    jerk = (
        np.hypot(step(frame["ax_mps2"].to_numpy(), 0.0), step(frame["ay_mps2"].to_numpy(), 0.0))
        / safe_dt_s
    )
    return frame.assign(
        dt_s=dt_s,
        finite=np.isfinite(motion).all(axis=1),
        speed_mps=speed,
        jump_mps=np.abs(between),
        acceleration_mps2=np.hypot(frame["ax_mps2"], frame["ay_mps2"]),
        jerk_mps3=jerk,
        future_error_m=future_error,
        has_image_share=frame["has_image"].astype(float),
        future_share=valid_N8.all(axis=1).astype(float),
    )


def _validate(name: str, frame: "pd.DataFrame", rules: Sequence[Rule]) -> Validation:
    import great_expectations as gx
    from great_expectations import expectations

    context: Any = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = {"globally": False}
    batch = context.data_sources.pandas_default.read_dataframe(frame)
    suite = gx.ExpectationSuite(
        name=name,
        expectations=[
            getattr(expectations, rule.expectation)(
                **rule.arguments, meta={"rule": rule.name, "notes": rule.description}
            )
            for rule in rules
        ],
    )
    report: Any = batch.validate(
        suite, result_format={"result_format": "COMPLETE", "include_unexpected_rows": False}
    )
    by_rule = {item.expectation_config.meta["rule"]: item for item in report.results}
    return Validation(
        name, tuple(_result(rule, by_rule[rule.name], frame) for rule in rules), _data_docs(report)
    )


def _result(rule: Rule, outcome: Any, frame: "pd.DataFrame") -> RuleResult:
    raised = outcome.exception_info
    if raised and any(
        isinstance(item, dict) and item.get("raised_exception")
        for item in [raised, *raised.values()]
    ):
        raise RuntimeError(f"rule {rule.name} could not be evaluated: {raised}")
    rows = outcome.result.get("unexpected_index_list") or []
    failed = frame.iloc[rows[:MAX_LISTED]]
    keys = tuple(
        f"{log}/{index}" for log, index in zip(failed["log_id"], failed["frame_index"], strict=True)
    )
    values = outcome.result.get("partial_unexpected_list") or [outcome.result.get("observed_value")]
    logs = tuple(sorted(set(frame["log_id"].iloc[rows])))
    return RuleResult(
        rule,
        bool(outcome.success),
        len(frame),
        int(outcome.result.get("unexpected_count") or 0),
        keys,
        logs,
        str(values[0]) if values else "",
    )


def _data_docs(report: Any) -> str:
    """Great Expectations' page with a small inline style in place of its links to the internet."""
    from great_expectations.render.renderer import ValidationResultsPageRenderer
    from great_expectations.render.view import DefaultJinjaPageView

    page = DefaultJinjaPageView().render(ValidationResultsPageRenderer().render(report))
    for external in (
        r"<script[^>]*src=[\"']https?://.*?</script>",
        r"<(link|img)[^>]*https?://[^>]*>",
        r"<footer.*?</footer>",
    ):
        page = re.sub(external, "", page, flags=re.S)
    page = re.sub(r"https?://[^\"')\s<]+", "#", page)
    style = (
        "<style>body{font:15px/1.5 sans-serif;max-width:1100px;margin:2rem auto;padding:0 1rem}"
        "table{border-collapse:collapse;margin:.5rem 0}"
        "td,th{border:1px solid #ccc;padding:.3rem .6rem}</style>"
    )
    return page.replace("</head>", f"{style}</head>", 1)
