"""Removes what nothing in a lake refers to: old versions, leftovers of dead processes, finished or
abandoned training runs, caches of logs that are gone.

Lineage records, what is promoted, what is being read, and what another host may be writing stay.
"""

import os
import re
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from storage.artifact import VERSIONS_KEPT, versions_kept
from storage.errors import ConfigError
from storage.lake import Lake
from storage.lineage import record_file
from storage.locks import locked
from storage.manifest import LINEAGE_FILE
from storage.promoted import protected_folders
from storage.version_store import (
    LOCK,
    VERSIONS,
    VersionStore,
    remove_folder,
    version_of_folder,
    writer_tag,
)
from storage.writers import tag_is_running

IDLE_DAYS = 7.0  # an unfinished training run that was not touched for so long is abandoned
_RUN_VERSION = re.compile(r"-([0-9a-f]{16})(?:-|\Z)")
_NOT_ARTIFACTS = {"raw", ".runs", ".scenes", ".lineage", "quarantine"}
_OLD_RECORD = re.compile(r"\..+\.[0-9]+\Z")  # unfinished quarantine record of an earlier version


@dataclass(frozen=True, slots=True)
class Collected:
    """Something that was removed, or would be."""

    kind: str  # version | unfinished | run | scenes
    path: Path
    bytes: int


@dataclass(slots=True)
class _Collector:
    lake: Lake
    keep: int
    idle_days: float
    dry_run: bool
    found: list[Collected] = field(default_factory=list)

    def take(self, kind: str, path: Path, remove: Callable[[Path], object]) -> None:
        """Remove a path, or only note it."""
        size = bytes_of(path)
        if not self.dry_run:
            remove(path)
            if path.exists() or path.is_symlink():
                return  # it is being read, or may not be removed
        self.found.append(Collected(kind, path, size))


def collect(
    lake: Lake,
    *,
    keep: int = VERSIONS_KEPT,
    idle_days: float = IDLE_DAYS,
    dry_run: bool = False,
) -> list[Collected]:
    """Remove what nothing refers to, and return it; with `dry_run` only return it.

    `keep`: versions of each trained asset, the present one included; of everything else the present
    version alone is kept. Raises ConfigError for less than one, and if another process holds the
    lake or writes in it.
    """
    if keep < 1:
        raise ConfigError(
            "the present version is always kept",
            expected="--keep 1 or more",
            found=keep,
            do=f"give --keep {VERSIONS_KEPT}",
        )
    if not idle_days >= 0:
        raise ConfigError(
            "a training run cannot be idle for less than no time",
            expected="--idle-days 0 or more",
            found=idle_days,
            do=f"give --idle-days {IDLE_DAYS:g}",
        )
    collector = _Collector(lake, keep, idle_days, dry_run)
    if dry_run:
        _collect(collector)
    elif lake.root.is_dir():
        with lake.lock():
            _collect(collector)
    return collector.found


def bytes_of(path: Path) -> int:
    """Bytes of a file, or of all files below a folder; links are not followed."""
    if path.is_symlink() or not path.is_dir():
        return path.lstat().st_size if path.is_symlink() or path.exists() else 0
    return sum(
        Path(place, name).lstat().st_size for place, _, names in os.walk(path) for name in names
    )


def _collect(collector: _Collector) -> None:
    lake, protected = collector.lake, protected_folders(collector.lake.root)
    for folder in _version_folders(lake.root):
        for store in sorted(folder.iterdir()):
            if store.is_dir() and not store.is_symlink():
                _collect_versions(collector, folder.parent / store.name, store, protected)
    for folder in (lake.root, lake.quarantine, lake.root / ".lineage", lake.scenes):
        _collect_parts(collector, folder)
    _collect_parts(collector, lake.root / "raw" / "maps")
    for run in _folders(lake.runs):
        if _is_abandoned(lake, run, collector.idle_days):
            collector.take("run", run, _remove_tree)
    known = set(lake.log_ids("trajectories"))
    for file in sorted(lake.scenes.glob("*.arrow")) if lake.scenes.is_dir() else []:
        if file.stem not in known:
            collector.take("scenes", file, Path.unlink)


def _collect_versions(
    collector: _Collector, path: Path, folder: Path, protected: set[Path]
) -> None:
    """Versions of one artefact; `folder` is its store, or a version in the layout of before."""
    if (folder / LINEAGE_FILE).exists() or writer_tag(folder.name) is not None:
        artifact = path.with_name(path.name.rpartition("-")[0])
        is_present = artifact.exists() and artifact.resolve() == folder.resolve()
        tag = writer_tag(folder.name)
        if not is_present and (tag is None or tag_is_running(tag) is False):
            collector.take("version", folder, _remove_tree)
        return
    store = VersionStore(path)
    for item in sorted(folder.iterdir()):
        tag = writer_tag(item.name)
        if tag is not None and tag_is_running(tag) is False:
            collector.take("unfinished", item, _remove_tree)
    present, waiting = store.present(), store.waiting()
    asset = path.relative_to(collector.lake.root).as_posix()
    keep = collector.keep if versions_kept(asset) > 1 else 1
    kept = {version_of_folder(present)} if present is not None else set()
    newest = sorted(store.versions(), key=lambda item: item.stat().st_mtime_ns, reverse=True)
    for item in newest:
        version, real = version_of_folder(item), item.resolve()
        if real == present or real in protected or item == waiting:
            continue
        if present is not None and version not in kept and len(kept) < keep:
            kept.add(version)
        else:
            collector.take("version", item, remove_folder)
    if present is None and not collector.dry_run and not store.versions() and waiting is None:
        _remove_empty(folder)


def _remove_empty(folder: Path) -> None:
    """Remove the store of an artefact that is gone, unless there is more in it than its lock."""
    if {item.name for item in folder.iterdir()} <= {LOCK}:
        (folder / LOCK).unlink(missing_ok=True)
        folder.rmdir()


def _collect_parts(collector: _Collector, folder: Path) -> None:
    """Files and folders that dead processes were writing."""
    if not folder.is_dir():
        return
    for item in sorted(folder.iterdir()):
        tag = writer_tag(item.name)
        if tag is None and folder == collector.lake.quarantine and _OLD_RECORD.match(item.name):
            tag = item.name.rpartition(".")[2]
        if tag is not None and tag_is_running(tag) is False:
            collector.take("unfinished", item, _remove_any)


def _is_abandoned(lake: Lake, run: Path, idle_days: float) -> bool:
    """True for a training run whose artefact is made, or that nobody touched for long; False while
    a process holds it.
    """
    if (run / LOCK).exists():
        try:
            with locked(run / LOCK, what="", do=""):
                pass
        except ConfigError:
            return False
    version = _RUN_VERSION.search(run.name)
    if version is not None and record_file(lake.root, version[1]).exists():
        return True
    newest = max((item.lstat().st_mtime for item in [run, *run.rglob("*")]), default=0.0)
    return time.time() - newest > idle_days * 86400


def _version_folders(root: Path) -> Iterator[Path]:
    """Every `.versions` of a lake; versions themselves are not searched."""
    pending = [root]
    while pending:
        folder = pending.pop()
        for item in _folders(folder):
            if item.name == VERSIONS:
                yield item
            elif item.name not in _NOT_ARTIFACTS or folder != root:
                pending.append(item)


def _folders(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    with os.scandir(folder) as entries:
        return sorted(
            folder / entry.name for entry in entries if entry.is_dir(follow_symlinks=False)
        )


def _remove_tree(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)


def _remove_any(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        _remove_tree(path)
    else:
        path.unlink(missing_ok=True)
