"""Lineage: what an artefact was made from, kept beside it and for ever in the lake.

`lineage.json` lies in each artefact. `<lake>/.lineage/<version>.json` is a copy that is never
changed or removed. `ancestors.json` in the artefact holds the lineages of all its ancestors, so
that a folder that leaves its lake can still tell what made it. Fields that a newer version adds are
ignored; files of earlier versions are read.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from functools import lru_cache
from pathlib import Path
from typing import Any

from storage.asset_names import ASSET_NAMES, PER_LOG_ASSETS
from storage.durable import damaged, read_object, warn, write_text
from storage.errors import ArtifactError
from storage.manifest import ANCESTORS_FILE, LINEAGE_FILE
from storage.versions import plain, version_of

SCHEMA = 2  # of lineage.json; 1 had no files, git and packages
RECORDS = ".lineage"  # folder of a lake
FEW_PARENTS = 8  # of one log's artefact; more are the logs of a whole lake


@dataclass(frozen=True, slots=True)
class Lineage:
    """The inputs an artefact was made from; `version` is the hash of all that can change it."""

    # asset key, with the log for artefacts of one log: "frames/<log_id>"
    asset: str
    version: str  # version_of(...)
    parents: dict[str, str]  # name of each input artefact -> its version
    config: dict[str, Any]  # the configuration of this asset alone
    code_version: str  # code_version_of(...) of the modules that make it
    seed: int | None = None
    # the rest is filled in when written
    created_utc: str = ""
    seconds: float = 0.0  # wall time of the work
    machine: dict[str, str] = field(default_factory=dict)
    schema: int = SCHEMA
    git: dict[str, Any] = field(default_factory=dict)  # commit, dirty; empty without a checkout
    packages: dict[str, str] = field(default_factory=dict)  # name -> installed version
    files: dict[str, Any] = field(default_factory=dict)  # count, bytes, SHA-256 of files.json


_NAMES = tuple(item.name for item in fields(Lineage))
_TYPES: dict[str, type] = {
    **dict.fromkeys(("asset", "version", "code_version"), str),
    **dict.fromkeys(("parents", "machine", "git", "packages", "files"), dict),
}


def planned_lineage(
    asset: str, parents: Mapping[str, str], config: Any, code_version: str, seed: int | None = None
) -> Lineage:
    """The lineage of an artefact that has these inputs; write_artifact takes it."""
    return Lineage(
        asset,
        version_of(asset, parents, config, code_version, seed),
        dict(parents),
        plain(config),
        code_version,
        seed,
    )


def read_lineage(path: Path) -> Lineage:
    """Lineage of the artefact at `path`. Raises ArtifactError if there is none, or it is damaged,
    with the command that makes it.
    """
    file = path / LINEAGE_FILE
    asset = path.parent.name if path.parent.name in PER_LOG_ASSETS else path.name
    do = f"run: latentvla run --until {asset}"
    try:
        values = read_object(file)
        if values is not None:
            return lineage_from(values, file)
    except ArtifactError as error:
        raise ArtifactError(
            f"the lineage of '{path.name}' is damaged", where=file, found=error.found, do=do
        ) from error
    raise ArtifactError(
        f"there is no artefact '{path.name}' here", where=path, expected=file, do=do
    )


def find_lineage(path: Path) -> Lineage | None:
    """Lineage of the artefact at `path`; None if there is none. A damaged one counts as none, and
    a warning names it.
    """
    try:
        values = read_object(path / LINEAGE_FILE)
        return None if values is None else lineage_from(values, path / LINEAGE_FILE)
    except ArtifactError as error:
        warn(error)
        return None


def lineage_from(values: Mapping[str, Any], file: Path) -> Lineage:
    """The lineage in a file's object. Raises ArtifactError if a field is missing or of another
    type; unknown fields are left out.
    """
    known = {"schema": 1, **{name: values[name] for name in _NAMES if name in values}}
    for name, kind in _TYPES.items():
        if not isinstance(known.get(name, kind()), kind):
            raise damaged(file, f"'{name}' is of another type")
    try:
        lineage = Lineage(**known)
    except TypeError as error:
        raise damaged(file, "fields of a lineage are missing") from error
    if set(map(type, lineage.parents.values())) - {str}:
        raise damaged(file, "the version of a parent is no text")
    return lineage


def lineage_text(lineage: Lineage) -> str:
    """The content of `lineage.json`, with a digest of its other fields."""
    values = asdict(lineage)
    return json.dumps({**values, "sha256": _digest(values)}, indent=1)


def lineage_fault(path: Path) -> str:
    """What is wrong with the content of `lineage.json`; empty if it is as written."""
    values = read_object(path / LINEAGE_FILE) or {}
    recorded = values.pop("sha256", None)
    return "" if recorded in (None, _digest(values)) else f"{LINEAGE_FILE}: other content"


def write_record(root: Path, lineage: Lineage) -> Path:
    """Keep a lineage in the lake for ever and return the file, which is not synced yet; one that is
    there already stays as it is.
    """
    file = record_file(root, lineage.version)
    if find_record(root, lineage.version) is None:
        file.parent.mkdir(parents=True, exist_ok=True)
        write_text(file, lineage_text(lineage), synced=False)
    return file


def find_record(root: Path, version: str) -> Lineage | None:
    """The lineage of a version that was ever made in this lake; None if there is none."""
    if not _is_plain(version):
        return None
    file = record_file(root, version)
    try:
        values = read_object(file)
        return None if values is None else lineage_from(values, file)
    except ArtifactError as error:
        warn(error)
        return None


def record_file(root: Path, version: str) -> Path:
    """Where the lineage of a version is kept."""
    return root / RECORDS / f"{version}.json"


def write_checks_record(root: Path, version: str, checks: Mapping[str, Any]) -> None:
    """Keep the outcome of a version's checks beside its lineage record."""
    file = root / RECORDS / f"{version}.checks.json"
    if _is_plain(version) and file.parent.is_dir():
        write_text(file, json.dumps(dict(checks), indent=1, sort_keys=True), synced=False)


def read_checks_record(root: Path, version: str) -> dict[str, Any]:
    """The outcome of a version's checks; empty if none is known."""
    try:
        return read_object(root / RECORDS / f"{version}.checks.json") or {}
    except ArtifactError as error:
        warn(error)
        return {}


def is_log_artifact(name: str) -> bool:
    """True for a name of one log's artefact, such as 'frames/<log_id>'."""
    asset, slash, _ = name.partition("/")
    return bool(slash) and asset in ASSET_NAMES


def closure(root: Path, lineage: Lineage) -> dict[str, Any]:
    """All ancestors of an artefact: `records` (version -> lineage) and `log_sets`.

    A record does not repeat the logs of a whole lake: its `log_parents` is the digest of their
    names and versions, which `log_sets` holds once. An artefact of one log has no `log_sets`: that
    would keep every log in each of them; `<lake>/.lineage` has them. Logs' own records are there
    too, and here only if the artefact has few.
    """
    records: dict[str, dict[str, Any]] = {}
    log_sets: dict[str, dict[str, str]] = {}
    many = {name for name in lineage.parents if is_log_artifact(name)}
    pending = [
        version
        for name, version in lineage.parents.items()
        if len(many) <= FEW_PARENTS or name not in many
    ]
    while pending:
        version = pending.pop()
        if version in records or not _is_plain(version):
            continue
        try:
            record, logs = _record_parts(root, version)
        except KeyError:
            continue  # no artefact, such as the digest of a raw log's bytes
        records[version] = record
        if logs and not is_log_artifact(lineage.asset):
            log_sets[record["log_parents"]] = logs
        pending += record["parents"].values()
    return {"schema": 1, "records": records, "log_sets": log_sets}


def read_ancestors(path: Path) -> dict[str, Lineage]:
    """The lineages in the `ancestors.json` of an artefact, by version, with their logs as parents
    where they are known; empty if there is no such file or it is damaged, which a warning says.
    """
    file = path / ANCESTORS_FILE
    try:
        values = read_object(file) or {}
        found = {}
        for version, record in values.get("records", {}).items():
            logs = values.get("log_sets", {}).get(record.get("log_parents"), {})
            parents = {**record.get("parents", {}), **logs}
            found[version] = lineage_from({**record, "parents": parents}, file)
        return found
    except (AttributeError, TypeError) as error:
        warn(damaged(file, error))
    except ArtifactError as error:
        warn(error)
    return {}


@lru_cache(maxsize=256)
def _record_parts(root: Path, version: str) -> tuple[dict[str, Any], dict[str, str]]:
    """A record without its logs and with their digest, and the logs. Raises KeyError if it is
    unknown, which is not remembered.
    """
    lineage = find_record(root, version)
    if lineage is None:
        raise KeyError(version)
    record = asdict(lineage)
    logs = {name: item for name, item in lineage.parents.items() if is_log_artifact(name)}
    if len(logs) <= FEW_PARENTS:
        return record, {}
    record["parents"] = {name: item for name, item in lineage.parents.items() if name not in logs}
    record["log_parents"] = _digest(logs)
    return record, logs


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def _is_plain(version: str) -> bool:
    """True if a version is a name of one path component, as those that are made here."""
    return version.isalnum() and len(version) <= 64
