"""Logs that could not be read: quarantined with their reason, tried again when their bytes change.
Not a data check.

One JSON file a log under `<lake>/quarantine/`, written aside and renamed.
"""

import json
import os
from dataclasses import asdict, dataclass
from datetime import UTC, datetime

from storage.errors import LatentVLAError
from storage.lake import Lake


@dataclass(frozen=True, slots=True)
class QuarantineRecord:
    """Why a log is quarantined."""

    log_id: str
    asset: str  # the asset that failed: raw_logs | frames | trajectories
    reason: str  # the whole message of the error
    fingerprint: str  # of the log's bytes when it failed
    since_utc: str


def quarantine(
    lake: Lake, log_id: str, asset: str, error: LatentVLAError, fingerprint: str
) -> QuarantineRecord:
    """Set a log aside; returns the record that was written."""
    record = QuarantineRecord(
        log_id, asset, str(error), fingerprint, datetime.now(UTC).isoformat(timespec="seconds")
    )
    lake.quarantine.mkdir(parents=True, exist_ok=True)
    aside = lake.quarantine / f".{log_id}.{os.getpid()}"
    aside.write_text(json.dumps(asdict(record), indent=1))
    os.replace(aside, lake.quarantine / f"{log_id}.json")
    return record


def release(lake: Lake, log_id: str) -> None:
    """Take a log out of quarantine; no error if it is not in it."""
    (lake.quarantine / f"{log_id}.json").unlink(missing_ok=True)


def quarantined(lake: Lake) -> dict[str, QuarantineRecord]:
    """All records, by log."""
    files = sorted(lake.quarantine.glob("*.json")) if lake.quarantine.exists() else []
    records = (QuarantineRecord(**json.loads(file.read_text())) for file in files)
    return {record.log_id: record for record in records}


def is_quarantined(lake: Lake, log_id: str, fingerprint: str) -> bool:
    """True if the log failed with exactly these bytes, so that trying again would fail again."""
    file = lake.quarantine / f"{log_id}.json"
    return file.exists() and json.loads(file.read_text())["fingerprint"] == fingerprint
