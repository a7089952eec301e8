"""The files of an artefact with their sizes and SHA-256, so that damage is noticed by name.

They are in `files.json` beside the lineage, which holds the digest of that file: a lineage stays
small, and nothing can be changed in silence.
"""

import hashlib
import json
import os
from pathlib import Path
from typing import Any

from storage.durable import read_object
from storage.errors import ArtifactError

LINEAGE_FILE = "lineage.json"
FILES_FILE = "files.json"
CHECKS_FILE = "checks.json"
ANCESTORS_FILE = "ancestors.json"
LOCK_FILE = ".lock"  # of a lake inside an artefact
# written by the store itself: after the manifest, or beside it
_OWN = {LINEAGE_FILE, FILES_FILE, CHECKS_FILE, ANCESTORS_FILE}


def write_manifest(folder: Path) -> dict[str, Any]:
    """Write `files.json` of a folder whose content is complete; return number and bytes of the
    files and the SHA-256 of `files.json`, for the lineage.
    """
    files = {name: [size, sha256_of(folder / name)] for name, size in _files(folder).items()}
    text = json.dumps(files, indent=0, sort_keys=True).encode()
    (folder / FILES_FILE).write_bytes(text)
    return {
        "count": len(files),
        "bytes": sum(size for size, _ in files.values()),
        "sha256": hashlib.sha256(text).hexdigest(),
    }


def verify(path: Path, *, whole: bool = True) -> list[str]:
    """One line for each file of the artefact at `path` that is missing, or not what was written,
    with its name first; empty if all are intact. Reads every byte, or if not `whole` the manifest
    and the size of each file; raises nothing for damage.
    """
    try:
        recorded, faults = _recorded(path)
    except ArtifactError as error:
        return [f"{Path(str(error.where)).name}: {error.what}, {error.found}"]
    for name, entry in recorded.items():
        fault = _fault(path, name, entry, whole)
        if fault:
            faults.append(f"{name}: {fault}")
    return faults


def require_intact(file: Path, largest: int | None = None) -> None:
    """Raise ArtifactError if a file of a finished artefact is not the one that was written.

    Of files above `largest` bytes only the size is compared. Files of no artefact, and of one that
    is still being made, are not known and pass.
    """
    for folder in file.parents:
        if (folder / LINEAGE_FILE).is_file():
            break
    else:
        return
    recorded, _ = _recorded(folder)
    name = file.relative_to(folder).as_posix()
    if name not in recorded:
        return
    whole = largest is None or recorded[name][0] <= largest
    fault = _fault(folder, name, recorded[name], whole)
    if fault:
        raise ArtifactError(
            f"'{file.name}' is damaged",
            where=file,
            expected=f"the file that was written, {recorded[name][0]} bytes",
            found=fault,
            do="make it again: remove the artefact's folder, then latentvla run; or restore it",
        )


def sha256_of(file: Path) -> str:
    """The SHA-256 of a file's content, 64 hex digits."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _recorded(folder: Path) -> tuple[dict[str, list], list[str]]:
    """The manifest, and what is wrong with it itself. Raises ArtifactError if it is damaged."""
    summary = (read_object(folder / LINEAGE_FILE) or {}).get("files") or {}
    recorded = read_object(folder / FILES_FILE)
    if recorded is None:
        why = "it is missing" if summary else "an earlier version kept none"
        return {}, [f"{FILES_FILE}: {why}, so no file can be verified"]
    faults = []
    if sha256_of(folder / FILES_FILE) != summary.get("sha256"):
        faults.append(f"{FILES_FILE}: other content than its lineage says")
    entries = {
        name: entry
        for name, entry in recorded.items()
        if isinstance(entry, list)
        and len(entry) == 2
        and isinstance(entry[0], int)
        and not Path(name).is_absolute()
        and ".." not in Path(name).parts
    }
    return entries, faults


def _fault(folder: Path, name: str, entry: list, whole: bool) -> str:
    size, digest = entry
    file = folder / name
    try:
        found = file.stat().st_size
        if found != size:
            return f"{found} bytes, expected {size}"
        if whole and sha256_of(file) != digest:
            return "other content"
    except OSError as error:
        return "missing" if isinstance(error, FileNotFoundError) else str(error.strerror)
    return ""


def _files(folder: Path) -> dict[str, int]:
    """Regular files below a folder, by their path in it, with sizes; links are left out."""
    found = {}
    for place, _, names in os.walk(folder):
        for name in names:
            file = Path(place, name)
            relative = file.relative_to(folder).as_posix()
            if relative not in _OWN and name != LOCK_FILE and not file.is_symlink():
                found[relative] = file.stat().st_size
    return dict(sorted(found.items()))
