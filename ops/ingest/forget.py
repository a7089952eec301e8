"""Removes everything that a lake holds of one log, and finds what was made from it."""

import json
import re
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from ops.ingest.quarantine import release
from storage.artifact import LINEAGE_FILE
from storage.asset_names import PER_LOG_ASSETS
from storage.collect import bytes_of
from storage.lake import Lake

_VERSION = re.compile(r"-[0-9a-f]{16}(\..*)?")  # of a version's folder, after the log's name


@dataclass(frozen=True, slots=True)
class Removed:
    """A file or folder that was removed."""

    path: Path
    bytes: int


@dataclass(frozen=True, slots=True)
class Descendant:
    """An artefact that was made from the log and is still there."""

    asset: str
    version: str
    folder: Path
    present: bool  # False: an older version that is kept


def forget_log(lake: Lake, log_id: str, records: Iterable[Path] = ()) -> list[Removed]:
    """Remove a log's artefacts of every asset with all their versions, its cached scenes, the
    unfinished training runs, which hold its rows, pages of data docs that name it, the `records` of
    its data checks, and its quarantine record. May be repeated after it was killed.

    The lake must be held with `lake.lock()`.
    """
    removed = [
        _remove(path)
        for asset in PER_LOG_ASSETS
        # the link first: a log without it is not read
        for path in [lake.log(asset, log_id), *_versions(lake.root / asset, log_id)]
        if path.exists() or path.is_symlink()
    ]
    scenes = [path for path in lake.scenes.glob("*.arrow") if path.stem == log_id]
    runs = [path for path in lake.runs.glob("*") if path.is_dir()]
    pages = [
        path
        for path in (lake.root / "data_docs").rglob("*.html")
        if log_id in path.read_text(errors="replace")
    ]
    removed += [_remove(path) for path in (*scenes, *runs, *pages, *records)]
    release(lake, log_id)
    return removed


def descendants(lake: Lake, log_id: str) -> list[Descendant]:
    """Artefacts for all logs, older versions too, that were made from this log, directly or through
    others.
    """
    found: dict[str, Descendant] = {}
    parents: dict[str, dict[str, str]] = {}
    for file in _lineage_files(lake):
        try:
            lineage = json.loads(file.read_text())
            asset, version = str(lineage["asset"]), str(lineage["version"])
            parents[version] = {str(key): str(item) for key, item in lineage["parents"].items()}
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            continue  # a damaged lineage tells nothing
        present = (lake.root / asset).resolve() == file.parent.resolve()
        found[version] = Descendant(asset, version, file.parent, present)
    names = {f"{asset}/{log_id}" for asset in PER_LOG_ASSETS}
    descended: set[str] = set()
    grows = True
    while grows:
        more = {
            version
            for version, of in parents.items()
            if version not in descended and (names & of.keys() or descended & {*of.values()})
        }
        descended |= more
        grows = bool(more)
    return sorted(
        (found[version] for version in descended),
        key=lambda item: (not item.present, item.asset, item.version),
    )


def has_traces(lake: Lake, log_id: str) -> bool:
    """True if the lake holds an artefact of this log, or remains of one."""
    return any(
        (lake.root / asset).is_dir()
        and (
            lake.log(asset, log_id).is_symlink()
            or lake.log(asset, log_id).exists()
            or bool(_versions(lake.root / asset, log_id))
        )
        for asset in PER_LOG_ASSETS
    )


def _versions(folder: Path, log_id: str) -> list[Path]:
    """Folders with versions of one log's artefact: `.versions/<log>-<version>`, also unfinished
    ones, or `.versions/<log>/`.
    """
    versions = folder / ".versions"
    if not versions.is_dir():
        return []
    return [path for path in versions.iterdir() if _is_version_of(path, folder.name, log_id)]


def _is_version_of(path: Path, asset: str, log_id: str) -> bool:
    if path.name == log_id:
        return True
    if not path.name.startswith(log_id) or not _VERSION.fullmatch(path.name[len(log_id) :]):
        return False
    try:
        return json.loads((path / LINEAGE_FILE).read_text())["asset"] == f"{asset}/{log_id}"
    except (OSError, ValueError, KeyError, TypeError):
        # unfinished or damaged, unless it is the folder of a log whose name ends like a version
        return not any(_VERSION.fullmatch(f"-{item.name}") for item in path.iterdir())


def _lineage_files(lake: Lake) -> list[Path]:
    """Lineages of the artefacts that are made from many logs."""
    places = (".versions", "ablation/**/.versions")
    patterns = [f"{place}/{part}" for place in places for part in ("*", "*/*")]
    return [file for pattern in patterns for file in lake.root.glob(f"{pattern}/{LINEAGE_FILE}")]


def _remove(path: Path) -> Removed:
    removed = Removed(path, 0 if path.is_symlink() else bytes_of(path))
    if path.is_symlink() or path.is_file():
        path.unlink()
    else:
        shutil.rmtree(path)
    return removed
