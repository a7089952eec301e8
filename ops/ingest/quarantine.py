"""The quarantine: logs that could not be read, with the reason, retried when their bytes change.

One JSON file per log under `<lake>/quarantine/`, replaced atomically.
"""

import json
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from pathlib import Path

from storage.asset_names import PER_LOG_ASSETS
from storage.durable import damaged, read_object, warn, write_text
from storage.errors import ArtifactError, LatentVLAError
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
    write_text(lake.quarantine / f"{log_id}.json", json.dumps(asdict(record), indent=1))
    return record


def release(lake: Lake, log_id: str) -> None:
    """Remove a log from quarantine; no error if it is not there."""
    (lake.quarantine / f"{log_id}.json").unlink(missing_ok=True)


def quarantined(lake: Lake) -> dict[str, QuarantineRecord]:
    """All records by log id. A damaged record keeps its log out too, with that as the reason, and a
    warning names it: it may be a person's, so the log comes back by `release` alone.
    """
    files = sorted(lake.quarantine.glob("*.json")) if lake.quarantine.exists() else []
    return {file.stem: _read_record(file) for file in files if not file.name.startswith(".")}


def _read_record(file: Path) -> QuarantineRecord:
    """The record in a file; files of earlier versions have the key `link` instead of `asset`."""
    try:
        values = read_object(file) or {}
        values = {{"link": "asset"}.get(key, key): value for key, value in values.items()}
        known = {
            item.name: values[item.name] for item in fields(QuarantineRecord) if item.name in values
        }
        if not all(isinstance(known.get(name, ""), str) for name in ("reason", "fingerprint")):
            raise damaged(file, "a field is no text")
        return QuarantineRecord(**known)
    except TypeError as error:  # a field is missing
        fault = damaged(file, error)
    except ArtifactError as error:
        fault = error
    warn(fault)
    reason = (
        f"{fault.what}: {file} ({fault.found})\n"
        f"  what to do: if nobody set this log aside: latentvla release {file.stem}"
    )
    return QuarantineRecord(file.stem, PER_LOG_ASSETS[0], reason, BY_HAND, "")
