"""The quarantine: logs that could not be read, with the reason, retried when their bytes change.

One JSON file per log under `<lake>/quarantine/`, replaced atomically.
"""

import json
import os
from dataclasses import asdict, dataclass
from datetime import UTC, datetime

from storage.errors import LatentVLAError
from storage.lake import Lake

# Fingerprint of a log that a person has set aside: it holds for all its bytes, until released.
BY_HAND = "*"


@dataclass(frozen=True, slots=True)
class QuarantineRecord:
    """Which asset failed for a log, and why."""

    log_id: str
    asset: str  # the asset that failed: raw_logs | frames | trajectories
    reason: str  # the whole message of the error
    # what the log was when it failed, so that it is tried again once it is another; or BY_HAND
    fingerprint: str
    since_utc: str


def quarantine(
    lake: Lake, log_id: str, asset: str, error: LatentVLAError, fingerprint: str
) -> QuarantineRecord:
    """Put a log into quarantine, or replace its record; return the record."""
    record = QuarantineRecord(
        log_id, asset, str(error), fingerprint, datetime.now(UTC).isoformat(timespec="seconds")
    )
    lake.quarantine.mkdir(parents=True, exist_ok=True)
    unfinished = lake.quarantine / f".{log_id}.{os.getpid()}"
    unfinished.write_text(json.dumps(asdict(record), indent=1))
    os.replace(unfinished, lake.quarantine / f"{log_id}.json")
    return record


def release(lake: Lake, log_id: str) -> None:
    """Remove a log from quarantine; no error if it is not there."""
    (lake.quarantine / f"{log_id}.json").unlink(missing_ok=True)


def quarantined(lake: Lake) -> dict[str, QuarantineRecord]:
    """All records by log id."""
    files = sorted(lake.quarantine.glob("*.json")) if lake.quarantine.exists() else []
    records = (_record_of(json.loads(file.read_text())) for file in files)
    return {record.log_id: record for record in records}


def is_quarantined(lake: Lake, log_id: str, fingerprint: str) -> bool:
    """True if the log failed with this fingerprint, so that a retry would fail again."""
    file = lake.quarantine / f"{log_id}.json"
    return file.exists() and json.loads(file.read_text())["fingerprint"] == fingerprint


def _record_of(values: dict[str, str]) -> QuarantineRecord:
    """The record in a file; files of earlier versions have the key `link` instead of `asset`."""
    return QuarantineRecord(**{{"link": "asset"}.get(key, key): values[key] for key in values})
