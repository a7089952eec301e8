"""The rules on all logs of a lake together: leakage between splits, copies, drift, damage."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

import storage.artifact
from ops.quality.drift import Drift, drifts
from ops.quality.leakage import Drive, Pair, alike, drive_of, met
from ops.quality.log_checks import DAMAGE, LogChecks
from ops.quality.motion import best_lag
from storage.asset_names import ASSET_NAMES, PER_LOG_ASSETS
from storage.expectations.columns import listed
from storage.expectations.rules import OFF, Rule, rules_of
from storage.lake import Lake
from storage.trajectory_table import code_layout

MAX_FINDINGS = 20  # listed of each rule
DAY_US = 86_400_000_000
MIN_LAG_LOGS = 8  # of a place and day, for a common lag
MIN_CORRELATION = 0.4  # mean over these logs, at the common lag
MIN_LAG_GAIN = 0.03  # of the mean correlation over that without a lag


@dataclass(frozen=True, slots=True)
class LakeResult:
    """The outcome of one rule on the whole lake."""

    rule: Rule
    tested: int  # logs, columns or artefacts
    findings: tuple[str, ...] = ()  # what breaks the rule
    failed_logs: tuple[str, ...] = ()  # logs to look at, or to set aside
    skipped: str = ""  # why nothing was tested

    @property
    def passed(self) -> bool:
        """True if nothing breaks the rule."""
        return not self.findings


def check_lake(
    lake: Lake | None, rules: Sequence[Rule], frames: LogChecks, tables: LogChecks
) -> list[LakeResult]:
    """Leakage and drift, from the records of the logs alone; without a lake there is no training
    set to drift from.
    """
    statistics = {
        log: (record.statistics, frames.records[log].statistics if log in frames.records else {})
        for log, record in tables.records.items()
        if record.statistics
    }
    drives = [drive_of(log, *both) for log, both in statistics.items()]
    checks: Mapping[str, Callable[[Rule], LakeResult]] = {
        "splits_share_no_images": lambda rule: _alike(rule, drives, across=True),
        "no_log_is_a_copy": lambda rule: _alike(rule, drives, across=False),
        "splits_share_no_place_and_time": lambda rule: _met(rule, drives),
        "cameras_agree_with_odometry": lambda rule: _lags(rule, statistics),
        "new_logs_follow_the_training_set": lambda rule: _drift(rule, lake, statistics),
    }
    return [
        checks[rule.name](rule)
        for rule in rules_of(rules, asset="lake")
        if rule.name in checks and rule.severity != OFF
    ]


def check_files(lake: Lake, rules: Sequence[Rule]) -> list[LakeResult]:
    """Whether every artefact is as it was published; reads every file of the lake."""
    results = []
    for rule in rules_of(rules, asset="lake"):
        if rule.name != "files_are_whole" or rule.severity == OFF:
            continue
        findings, logs, tested = [], [], 0
        for path, log in _artifacts(lake):
            tested += 1
            try:
                damaged = storage.artifact.verify(path)
            except DAMAGE as error:
                damaged = [str(error).splitlines()[0]]
            findings += [f"{path.relative_to(lake.root)}: {text}" for text in damaged]
            logs += [log] if damaged and log else []
        results.append(LakeResult(rule, tested, tuple(findings), tuple(sorted(set(logs)))))
    return results


def trained_on(lake: Lake) -> set[str] | None:
    """Logs that the codebook was trained on; None if there is no codebook."""
    try:
        parents = storage.artifact.read_lineage(lake.asset("codebook")).parents
    except DAMAGE:
        return None
    return {name.partition("/")[2] for name in parents if name.startswith("trajectories/")}


def code_counts(lake: Lake) -> dict[str, np.ndarray]:
    """How often each log has each code, (codes,); empty without relabeled rows."""
    folder = lake.asset("relabeled")
    files = [*folder.glob("relabeled.parquet"), *sorted(folder.glob("*/relabeled.parquet"))]
    counts: dict[str, np.ndarray] = {}
    for file in files:
        try:
            rows = pq.read_table(file, columns=["log_id", "codes", "codes_valid"])
            counts |= _codes_by_log(rows)
        except DAMAGE:  # a rule of its own names damaged files
            continue
    return counts


def _codes_by_log(rows: pa.Table) -> dict[str, np.ndarray]:
    layout = code_layout(rows)
    codes, valid = (listed(rows, name, layout.slots) for name in ("codes", "codes_valid"))
    logs, owner = np.unique(rows["log_id"].to_numpy().astype(str), return_inverse=True)
    counts = np.zeros((len(logs), layout.codes), int)
    inside = valid & (codes >= 0) & (codes < layout.codes)
    np.add.at(counts, (np.broadcast_to(owner[:, None], codes.shape)[inside], codes[inside]), 1)
    return dict(zip(logs.tolist(), counts, strict=True))


def _alike(rule: Rule, drives: Sequence[Drive], *, across: bool) -> LakeResult:
    pairs = [pair for pair in alike(drives, rule.high or 0.0) if pair.splits_differ is across]
    words = "{share:.0%} of the images of {log} ({split}) are in {twin} ({twin_split})"
    texts = [
        words.format(
            share=pair.value,
            log=pair.log.log_id,
            split=pair.log.split,
            twin=pair.twin.log_id,
            twin_split=pair.twin.split,
        )
        for pair in _sorted(pairs, descending=True)
    ]
    return _of_pairs(rule, drives, pairs, texts)


def _met(rule: Rule, drives: Sequence[Drive]) -> LakeResult:
    pairs = met(drives, rule.low or 0.0)
    texts = [
        f"{pair.log.log_id} ({pair.log.split}) and {pair.twin.log_id} ({pair.twin.split}) were "
        f"recorded at one time, {pair.value:.0f} m apart"
        for pair in _sorted(pairs, descending=False)
    ]
    return _of_pairs(rule, drives, pairs, texts)


def _lags(
    rule: Rule, statistics: Mapping[str, tuple[dict[str, Any], dict[str, Any]]]
) -> LakeResult:
    """One lag for all logs of a place and a day: what a single log leaves open, many tell."""
    groups: dict[tuple, list[str]] = {}
    for log, (tables, _) in statistics.items():
        if tables.get("lag_correlations"):
            day = tables["time_us"][0] // DAY_US
            step_s = round(tables["lag_step_s"], 2)
            kind = (tables["location"], day, step_s, len(tables["lag_correlations"]))
            groups.setdefault(kind, []).append(log)
    texts, failed, tested = [], [], 0
    for (location, day, step_s, _), logs in sorted(groups.items()):
        if len(logs) < MIN_LAG_LOGS:
            continue
        tested += len(logs)
        mean = np.mean([statistics[log][0]["lag_correlations"] for log in logs], axis=0)
        lag_s = best_lag(mean, MIN_CORRELATION, MIN_LAG_GAIN) * step_s
        if not (rule.low or 0.0) <= lag_s <= (rule.high or 0.0):
            date = datetime.fromtimestamp(day * DAY_US * 1e-6, UTC).date()
            texts.append(f"{len(logs)} logs of {location or 'no map'}, {date}: {lag_s:+.2f} s")
            failed += logs
    skipped = "" if tested else f"fewer than {MIN_LAG_LOGS} logs of a place and day with turns"
    return LakeResult(rule, tested, tuple(texts[:MAX_FINDINGS]), tuple(sorted(failed)), skipped)


def _of_pairs(
    rule: Rule, drives: Sequence[Drive], pairs: Sequence[Pair], texts: Sequence[str]
) -> LakeResult:
    logs = sorted({pair.log.log_id for pair in pairs})
    return LakeResult(rule, len(drives), tuple(texts[:MAX_FINDINGS]), tuple(logs))


def _sorted(pairs: Sequence[Pair], *, descending: bool) -> list[Pair]:
    sign = -1 if descending else 1
    return sorted(pairs, key=lambda pair: (sign * pair.value, pair.log.log_id, pair.twin.log_id))


def _drift(
    rule: Rule, lake: Lake | None, statistics: Mapping[str, tuple[dict[str, Any], dict[str, Any]]]
) -> LakeResult:
    trained = None if lake is None else trained_on(lake)
    if lake is None or trained is None:
        return LakeResult(rule, 0, skipped="there is no codebook yet")
    train_val = [log for log, (tables, _) in statistics.items() if tables["split"] != "test"]
    groups = [
        [log for log in train_val if log in trained],
        [log for log in train_val if log not in trained],
    ]
    codes = code_counts(lake)
    columns = [_columns(group, statistics, codes) for group in groups]
    found = drifts(*columns)
    if found is None:
        return LakeResult(
            rule, 0, skipped=f"too few logs: {len(groups[1])} new, of {len(groups[0])}"
        )
    beyond = [item for item in found if item.is_beyond(rule.high or 0.0)]
    texts = tuple(_drift_text(item, len(groups[1])) for item in beyond)
    return LakeResult(rule, len(found), texts, tuple(groups[1]) if beyond else ())


def _columns(
    logs: Sequence[str],
    statistics: Mapping[str, tuple[dict[str, Any], dict[str, Any]]],
    codes: Mapping[str, np.ndarray],
) -> dict[str, np.ndarray]:
    """The histograms of these logs by column, (L, B)."""
    names = statistics[logs[0]][0]["histograms"] if logs else ()
    columns = {
        name: np.array([statistics[log][0]["histograms"][name] for log in logs]) for name in names
    }
    bright = [statistics[log][1].get("brightness") for log in logs]
    if logs and all(bright):
        columns["brightness"] = np.array(bright)
    if logs and all(log in codes for log in logs):
        columns["codes"] = np.array([codes[log] for log in logs])
    return columns


def _drift_text(item: Drift, logs: int) -> str:
    return f"{item.column}: PSI {item.psi:.2f} of {logs} new logs; {item.by_chance:.2f} by chance"


def _artifacts(lake: Lake) -> list[tuple[Path, str]]:
    """Every artefact of the lake, with its log where it is of one."""
    found = [(lake.asset(name), "") for name in ASSET_NAMES if name not in PER_LOG_ASSETS]
    found = [(path, log) for path, log in found if (path / storage.artifact.LINEAGE_FILE).exists()]
    for name in PER_LOG_ASSETS:
        found += [(lake.log(name, log), log) for log in lake.log_ids(name)]
    return found
