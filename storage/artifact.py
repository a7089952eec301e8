"""Artefacts: directories with a `lineage.json` that are replaced atomically.

`<lake>/<name>` is a symlink to `<lake>/.versions/<name>/<version>` (`storage/version_store.py`). A
reader sees the old artefact or the new one, never half of one, also after a power cut. A killed run
leaves only a temporary directory, which the next run removes.
"""

import contextlib
import json
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from storage.asset_names import ASSET_NAMES
from storage.durable import damaged as damaged
from storage.durable import read_object as read_object
from storage.durable import warn as warn
from storage.durable import write_text
from storage.errors import ArtifactError, ConfigError
from storage.lineage import (
    SCHEMA,
    closure,
    lineage_fault,
    lineage_text,
    write_checks_record,
    write_record,
)
from storage.lineage import Lineage as Lineage
from storage.lineage import find_lineage as find_lineage
from storage.lineage import planned_lineage as planned_lineage
from storage.lineage import read_lineage as read_lineage
from storage.locks import held_lake, writing_in_lake
from storage.manifest import ANCESTORS_FILE, write_manifest
from storage.manifest import CHECKS_FILE as CHECKS_FILE
from storage.manifest import LINEAGE_FILE as LINEAGE_FILE
from storage.manifest import require_intact as require_intact
from storage.manifest import verify as verify_files
from storage.openlineage import MakingEvents
from storage.promoted import protected_folders
from storage.provenance import commit, machine, packages
from storage.version_store import VERSIONS, VersionStore, is_unfinished
from storage.version_store import reading as reading
from storage.versions import code_version_of as code_version_of
from storage.versions import digest as digest
from storage.versions import version_of as version_of

# versions kept of the pipeline's trained assets; of all others 1, which can be made again
VERSIONS_KEPT = 2


def is_current(path: Path, version: str) -> bool:
    """True if `path` holds a finished artefact of exactly this version.

    A damaged lineage counts as none, and a warning names it. A version that was finished, but not
    linked when its writer was killed, is taken now.
    """
    lineage = find_lineage(path)
    if lineage is not None and lineage.version == version:
        return True
    store = VersionStore(path)
    waiting = store.waiting()
    if waiting is None:
        return False
    finished = find_lineage(waiting)
    if finished is None or finished.version != version:
        return False
    try:
        with store.lock():
            return store.adopt()
    except (ConfigError, OSError):
        return False  # it is just being linked, or the lake cannot be written


def adopt_waiting(folder: Path) -> None:
    """Link the versions of the artefacts in `folder` that were finished, and not yet linked, when
    their writer was killed.
    """
    versions = folder / VERSIONS
    for item in sorted(versions.iterdir()) if versions.is_dir() else []:
        store = VersionStore(folder / item.name)
        waiting = store.waiting()
        if waiting is not None and find_lineage(waiting) is not None:
            with contextlib.suppress(ConfigError, OSError), store.lock():
                store.adopt()


@contextmanager
def write_artifact(path: Path, lineage: Lineage) -> Iterator[Path]:
    """Yield an empty directory to fill; on a clean exit it atomically becomes `path`.

    After an exception it is removed and `path` stays as it was. Raises ConfigError if another
    process makes this artefact, or holds the lake for a run.
    """
    root, store, events = lake_root(path, lineage.asset), VersionStore(path), MakingEvents(lineage)
    with writing_in_lake(root), store.lock():
        part, start = store.new_part(lineage.version), time.monotonic()
        events.begun()
        try:
            yield part
            made = _finish(part, root, lineage, time.monotonic() - start)
            record, durable = write_record(root, made), not is_unfinished(path.parent)
            store.publish(part, made.version, durable=durable, beside=(record, record.parent, root))
        except BaseException as error:
            shutil.rmtree(part, ignore_errors=True)
            events.failed(error)
            raise
        events.finished(made)
        with contextlib.suppress(OSError):
            store.remove_versions(versions_kept(lineage.asset), _never_removed(root, lineage.asset))


def lake_root(path: Path, asset: str) -> Path:
    """The lake of an artefact: its path without the asset's name. If the path does not end so: the
    folder around it that this run holds, or its own folder.
    """
    names = tuple(asset.split("/"))
    if names == path.parts[-len(names) :]:
        return path.parents[len(names) - 1]
    return held_lake(path) or path.parent


def versions_kept(asset: str) -> int:
    """How many versions of an artefact are kept when a new one is published."""
    return VERSIONS_KEPT if asset in ASSET_NAMES else 1


def verify(path: Path) -> list[str]:
    """One line for each file of the artefact at `path` that is missing, or not what was written,
    with its name first; empty if all are intact. Reads every byte; raises nothing for damage.
    """
    with reading(path) as folder:
        try:
            read_lineage(folder)
            fault = lineage_fault(folder)
        except ArtifactError as error:
            return [f"{LINEAGE_FILE}: {error.found or 'missing'}"]
        return [*filter(None, [fault]), *verify_files(folder)]


def record_checks(path: Path, results: Mapping[str, bool]) -> None:
    """Add outcomes of blocking checks to the artefact's `checks.json` and to the lake's record of
    its version. Inside write_artifact they are published with the artefact.
    """
    with reading(path) as folder:
        try:
            recorded = read_object(folder / CHECKS_FILE) or {}
        except ArtifactError as error:
            warn(error)
            recorded = {}
        checks = recorded | dict(results)
        write_text(folder / CHECKS_FILE, json.dumps(checks, indent=1, sort_keys=True))
        lineage = find_lineage(folder)
    if lineage is not None:
        with contextlib.suppress(OSError):
            write_checks_record(lake_root(path, lineage.asset), lineage.version, checks)


def read_checks(path: Path) -> dict[str, bool]:
    """Recorded outcomes of the blocking checks of the artefact at `path`; empty if none ran. A
    damaged file counts as none, and a warning names it.
    """
    try:
        return _checks(path)
    except ArtifactError as error:
        warn(error)
        return {}


def _checks(path: Path) -> dict[str, bool]:
    values = read_object(path / CHECKS_FILE) or {}
    return {name: passed for name, passed in values.items() if isinstance(passed, bool)}


def _never_removed(root: Path, asset: str) -> set[Path]:
    return protected_folders(root) if asset in ASSET_NAMES else set()


def _finish(part: Path, root: Path, lineage: Lineage, seconds: float) -> Lineage:
    """Write lineage, manifest and ancestors of a folder whose content is complete."""
    ancestors = closure(root, lineage)
    if ancestors["records"]:
        (part / ANCESTORS_FILE).write_text(json.dumps(ancestors, sort_keys=True))
    made = replace(
        lineage,
        created_utc=datetime.now(UTC).isoformat(timespec="seconds"),
        seconds=round(seconds, 3),
        machine=machine(),
        schema=SCHEMA,
        git=commit(),
        packages=packages(),
        files=write_manifest(part),
    )
    (part / LINEAGE_FILE).write_text(lineage_text(made))
    return made
