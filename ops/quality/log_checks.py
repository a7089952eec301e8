"""Runs the rules of frames and trajectories over logs, each version of a log once.

The outcome is kept in the log's record, so a run that adds one log reads the tables of that log
alone, however large the lake is.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from ops.ingest.each_log import LogWork, each_log
from ops.quality.data_docs import latest_pages, publish_pages
from ops.quality.images import measure_images
from ops.quality.motion import camera_lag, extent, histograms, repeated_images
from ops.quality.records import LogRecord, read_record, stamp_of, write_record
from ops.quality.rules import rules_version
from storage.artifact import digest, read_lineage
from storage.errors import LatentVLAError
from storage.expectations.columns import (
    agent_columns,
    light_columns,
    map_columns,
    trajectory_columns,
)
from storage.expectations.rules import OFF, LogFailure, Rule, rules_of
from storage.expectations.suite import RuleResult, Validation, validate
from storage.lake import Lake
from storage.trajectory_table import TABLES, read_table

if TYPE_CHECKING:
    import pandas as pd

ASSETS = ("frames", "trajectories")
BATCH_ROWS = 400_000  # rows of the tables that are in memory and validated at a time
PARALLEL_BYTES = 1_000_000_000  # of frame stores, from which measuring pays for more processes
# what reading a damaged artefact raises, from our errors to those of zarr and pyarrow
DAMAGE = (LatentVLAError, OSError, ValueError, KeyError, TypeError, IndexError, RuntimeError)


@dataclass(frozen=True, slots=True)
class Measured:
    """One log's artefact in the tables that the rules test, and its statistics."""

    log_id: str
    tables: dict[str, pa.Table]
    statistics: dict[str, Any]
    error: str = ""  # why it could not be read

    @property
    def rows(self) -> int:
        """Rows of all tables."""
        return sum(len(table) for table in self.tables.values())


@dataclass(frozen=True, slots=True)
class LogChecks:
    """The outcome of an asset's rules on logs."""

    asset: str
    rules: tuple[Rule, ...]
    records: dict[str, LogRecord]
    pages: dict[str, Path]  # table -> page of data docs of the logs that were checked last

    @property
    def results(self) -> list[RuleResult]:
        """The outcome of each rule over all logs."""
        return [
            RuleResult(
                rule,
                sum(record.rows.get(rule.table, 0) for record in self.records.values()),
                {
                    log: record.failures[rule.name]
                    for log, record in self.records.items()
                    if rule.name in record.failures
                },
            )
            for rule in self.rules
        ]


def check_logs(
    lake: Lake,
    asset: str,
    log_ids: Sequence[str],
    rules: Sequence[Rule],
    *,
    processes: int = 1,
    keep: bool = True,
    images: Mapping[str, dict[str, Any]] | None = None,
) -> LogChecks:
    """The outcome of the rules of `asset`, frames or trajectories, on these logs.

    Logs whose record is of their version and of these rules are not read again. `keep`: write the
    records, and the pages of data docs of the logs that were read. A log that cannot be read breaks
    the rule of readable files and no other. `images`: for trajectories, what was measured of each
    log's images, if it is at hand; otherwise their records tell, or the images are measured.
    """
    version = rules_version(rules, asset)
    versions = {log: artifact_version(lake, asset, log) for log in log_ids}
    found = {log: read_record(lake, asset, log, versions[log]) for log in log_ids}
    records = {log: item for log, item in found.items() if item and item.rules == version}
    todo = [log for log in log_ids if log not in records]
    stamps = {log: stamp_of(lake, asset, log) for log in todo}  # before the files are read
    active = tuple(rule for rule in rules_of(rules, asset=asset) if rule.severity != OFF)
    pages: dict[str, str] = {}
    measure: Callable[[str], Measured] = partial(MEASURES[asset], lake)
    if asset == "trajectories" and images is not None:
        measure = partial(_measure_beside, lake, images)
    for batch in _batches(lake, asset, todo, measure, processes):
        validations = validate_tables(batch, active)
        for record in records_of(asset, batch, validations, versions, version):
            records[record.log_id] = record
            if keep and record.version:
                write_record(lake, replace(record, stamp=stamps[record.log_id]))
        if keep:
            pages |= _numbered(pages, validations)
    if keep and pages:
        publish_pages(lake, asset, digest([version, {log: versions[log] for log in todo}]), pages)
    ordered = {log: records[log] for log in log_ids}
    return LogChecks(asset, active, ordered, latest_pages(lake, asset))


def artifact_version(lake: Lake, asset: str, log_id: str) -> str:
    """The version of a log's artefact; "" if its lineage cannot be read."""
    try:
        return read_lineage(lake.log(asset, log_id)).version
    except DAMAGE:
        return ""


def measure_frames(lake: Lake, log_id: str) -> Measured:
    """The images and cameras of one log."""
    try:
        measured = measure_images(lake.log("frames", log_id))
    except DAMAGE as error:
        return Measured(log_id, {}, {}, _first_line(error))
    tables = {"images": measured.images, "cameras": measured.cameras}
    return Measured(log_id, tables, measured.statistics)


def measure_trajectories(lake: Lake, log_id: str, images: dict[str, Any] | None = None) -> Measured:
    """The tables of one log, and what its images and its motion tell of each other. `images` are
    the statistics of measure_frames; None: those of the log's record, or measured here.
    """
    folder = lake.log("trajectories", log_id)
    try:
        tables = {name: read_table(folder, name) for name in TABLES}
        names = pa.array([log_id] * len(tables["map"]), pa.string())
        tables["map"] = tables["map"].append_column("log_id", names)
        rows = tables["trajectories"]
        statistics = extent(rows) | {"histograms": histograms(rows, tables["agents"])}
    except DAMAGE as error:
        return Measured(log_id, {}, {}, _first_line(error))
    images = images if images is not None else _image_statistics(lake, log_id)
    if images.get("frame_index"):
        lag = camera_lag(rows, images)
        statistics |= {"lag_step_s": lag.step_s, "lag_correlations": list(lag.correlations)}
        tables["clock"] = pa.table({"log_id": [log_id], "lag_s": [lag.seconds]})
        tables["pictures"] = rows.select(["log_id", "frame_index"]).append_column(
            "repeats", pa.array(repeated_images(rows, images))
        )
    return Measured(log_id, tables, statistics)


MEASURES: Mapping[str, Callable[[Lake, str], Measured]] = {
    "frames": measure_frames,
    "trajectories": measure_trajectories,
}


def _measure_beside(lake: Lake, images: Mapping[str, dict[str, Any]], log_id: str) -> Measured:
    return measure_trajectories(lake, log_id, images.get(log_id, {}))


def _image_statistics(lake: Lake, log_id: str) -> dict[str, Any]:
    record = read_record(lake, "frames", log_id, artifact_version(lake, "frames", log_id))
    if record is not None and record.statistics:
        return record.statistics
    return measure_frames(lake, log_id).statistics


def _batches(
    lake: Lake,
    asset: str,
    log_ids: Sequence[str],
    measure: Callable[[str], Measured],
    processes: int,
) -> Iterator[list[Measured]]:
    """The measured logs, so many at a time that their tables have about BATCH_ROWS rows."""
    if asset != "frames" or _stored_bytes(lake, log_ids) < PARALLEL_BYTES:
        processes = 1
    works = [LogWork(log, partial(measure, log)) for log in log_ids]
    batch: list[Measured] = []
    for outcome in each_log(works, processes):
        if outcome.error is not None:  # its worker died
            batch.append(Measured(outcome.log_id, {}, {}, _first_line(outcome.error)))
        else:
            batch.append(outcome.result)
        if sum(item.rows for item in batch) >= BATCH_ROWS:
            yield batch
            batch = []
    if batch:
        yield batch


def _stored_bytes(lake: Lake, log_ids: Sequence[str]) -> int:
    total = 0
    for log in log_ids:
        folder = lake.log("frames", log)
        total += sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
        if total > PARALLEL_BYTES:
            break
    return total


def records_of(
    asset: str,
    batch: Sequence[Measured],
    validations: Sequence[Validation],
    versions: Mapping[str, str],
    rules_digest: str,
) -> list[LogRecord]:
    """The record of each log of the batch."""
    return [
        LogRecord(
            asset,
            item.log_id,
            versions[item.log_id],
            rules_digest,
            {name: len(table) for name, table in item.tables.items()} | {"files": 1},
            {
                result.rule.name: result.failures[item.log_id]
                for validation in validations
                for result in validation.results
                if item.log_id in result.failures
            },
            item.statistics,
        )
        for item in batch
    ]


def validate_tables(batch: Sequence[Measured], rules: Sequence[Rule]) -> list[Validation]:
    """The suites of all tables of these logs."""
    names = {name: None for item in batch for name in item.tables}
    tables = {
        name: pa.concat_tables([item.tables[name] for item in batch if name in item.tables])
        for name in names
    }
    known = tables.get("trajectories")
    derive: dict[str, Callable[[pa.Table], pd.DataFrame]] = {
        "trajectories": trajectory_columns,
        "agents": partial(agent_columns, known=known),
        "lights": partial(light_columns, known=known),
        "map": map_columns,
    }
    validations = [
        validate(name, derive.get(name, pa.Table.to_pandas)(table), rules_of(rules, table=name))
        for name, table in tables.items()
        if rules_of(rules, table=name)
    ]
    return [*validations, _readable(batch, rules_of(rules, table="files"))]


def _readable(batch: Sequence[Measured], rules: Sequence[Rule]) -> Validation:
    failures = {
        item.log_id: LogFailure(1, 1, (item.log_id,), item.error) for item in batch if item.error
    }
    return Validation("files", tuple(RuleResult(rule, len(batch), failures) for rule in rules))


def _numbered(pages: Mapping[str, str], validations: Sequence[Validation]) -> dict[str, str]:
    """The pages of a batch, those of a further batch under names of their own: images, images-2."""
    named = {}
    for item in validations:
        if item.report is not None:
            number = 1 + sum(name.partition("-")[0] == item.table for name in pages)
            named[item.table if number == 1 else f"{item.table}-{number}"] = item.html
    return named


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
