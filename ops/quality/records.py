"""The record of one log's data quality: `<lake>/quality/<asset>/<log_id>.json`.

It holds what was measured of one version of the log's artefact, and which rules the log breaks. A
record of another version, or a damaged one, counts as missing and is made again.
"""

import contextlib
import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ops.quality.rules import quality_code
from storage.durable import write_text
from storage.expectations.rules import LogFailure
from storage.lake import Lake

FOLDER = "quality"


@dataclass(frozen=True, slots=True)
class LogRecord:
    """What is known of the quality of one log's artefact."""

    asset: str  # frames | trajectories
    log_id: str
    version: str  # of the artefact
    rules: str  # rules_version under which `failures` hold
    rows: dict[str, int]  # rows of each table that rules test
    failures: dict[str, LogFailure]  # rule -> how the log breaks it
    statistics: dict[str, Any] = field(default_factory=dict)
    stamp: str = ""  # of the artefact's files when they were read
    measured_by: str = field(default_factory=quality_code)


def record_file(lake: Lake, asset: str, log_id: str) -> Path:
    """Where the record of a log lies."""
    return lake.root / FOLDER / asset / f"{log_id}.json"


def read_record(lake: Lake, asset: str, log_id: str, version: str) -> LogRecord | None:
    """The record of this version of a log's artefact; None if there is none, it is damaged, the
    artefact's files have changed since, or other code measured them.
    """
    try:
        values = json.loads(record_file(lake, asset, log_id).read_text())
        if values["version"] != version or values["measured_by"] != quality_code():
            return None
        if values["stamp"] != stamp_of(lake, asset, log_id):
            return None
        failures = {
            rule: LogFailure(**item | {"keys": tuple(item["keys"])})
            for rule, item in values["failures"].items()
        }
        return LogRecord(**values | {"failures": failures})
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def stamp_of(lake: Lake, asset: str, log_id: str) -> str:
    """Sizes and modification times of the tables, or of the frame store's description."""
    folder = lake.log(asset, log_id)
    files = [*sorted(folder.glob("*.parquet")), folder / "frames.zarr" / "zarr.json"]
    stats = [(file.name, file.stat()) for file in files if file.exists()]
    return " ".join(f"{name}:{stat.st_size}:{stat.st_mtime_ns}" for name, stat in stats)


def write_record(lake: Lake, record: LogRecord) -> None:
    """Write or replace a record, atomically."""
    file = record_file(lake, record.asset, record.log_id)
    file.parent.mkdir(parents=True, exist_ok=True)
    # a record that a power cut leaves empty is one that is not there: it is measured again
    write_text(file, json.dumps(asdict(record), separators=(",", ":")), synced=False)


def empty_records(lake: Lake) -> list[Path]:
    """Records that hold nothing, as a power cut leaves them, sorted; opens no file."""
    found = []
    for asset in ("frames", "trajectories"):
        with (
            contextlib.suppress(FileNotFoundError),
            os.scandir(lake.root / FOLDER / asset) as items,
        ):
            found += [Path(item.path) for item in items if _is_empty(item)]
    return sorted(found)


def _is_empty(item: "os.DirEntry[str]") -> bool:
    try:
        return item.name.endswith(".json") and item.stat().st_size == 0
    except OSError:  # removed just now
        return False


def records_of(lake: Lake, log_id: str) -> list[Path]:
    """The files of a log's records."""
    files = [record_file(lake, asset, log_id) for asset in ("frames", "trajectories")]
    return [file for file in files if file.exists()]
