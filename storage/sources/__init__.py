"""Readers of raw logs, one module and one source class per format; `contract` is the interface."""

import hashlib
from collections.abc import Callable
from functools import lru_cache
from importlib import import_module
from pathlib import Path

from storage.errors import unknown_name
from storage.sources.contract import LogRef, Source
from storage.sources.raw_files import raw_data_of

# name -> (module, class); imported by open_source, so that only the users of a format need its
# dependencies
SOURCES = {
    "comma2k19": ("storage.sources.comma2k19", "Comma2k19Source"),
    "kitti_odometry": ("storage.sources.kitti_sequences", "KittiOdometrySource"),
    "kitti_raw": ("storage.sources.kitti_raw", "KittiRawSource"),
    "nuscenes": ("storage.sources.nuscenes", "NuScenesSource"),
    "openscene": ("storage.sources.openscene", "OpenSceneSource"),
    "video": ("storage.sources.video", "VideoSource"),
}


def open_source(name: str, raw: Path) -> Source:
    """The source `name` over the folder `raw`.

    Raises ConfigError with the nearest name as suggestion if there is no such source.
    """
    if name not in SOURCES:
        raise unknown_name("source", name, SOURCES)
    module, kind = SOURCES[name]
    source_class: Callable[[Path], Source] = getattr(import_module(module), kind)
    return source_class(Path(raw))


def fingerprint(ref: LogRef) -> str:
    """32 hex digits over the names and the content of every file of a log.

    Modification times and parent folders do not change it. Raises SourceError for a file that
    cannot be read.
    """
    whole = hashlib.blake2b(digest_size=16)
    with raw_data_of(ref.log_id, "its fingerprint"):
        for file in ref.files:
            whole.update(f"{file.name}:{_shared_digest(file)}\n".encode())
        for file in ref.image_files:
            whole.update(f"{file.parent.name}/{file.name}:{_digest(file)}\n".encode())
    return whole.hexdigest()


def file_states(ref: LogRef) -> list[tuple[str, int, int]]:
    """Name, size in bytes and time of change in nanoseconds of every file of a log; reads no file.

    Raises SourceError for a file that is gone or cannot be reached.
    """
    with raw_data_of(ref.log_id, "the state of its files"):
        states = [(file.name, file.stat()) for file in (*ref.files, *ref.image_files)]
    return [(name, state.st_size, state.st_mtime_ns) for name, state in states]


def _digest(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, lambda: hashlib.blake2b(digest_size=16)).hexdigest()


def _shared_digest(file: Path) -> str:
    """Digest of an index or map file, cached until it changes: all logs of a town share one map."""
    stat = file.stat()
    return _cached_digest(file, stat.st_mtime_ns, stat.st_size)


@lru_cache(maxsize=4096)
def _cached_digest(file: Path, _mtime_ns: int, _size: int) -> str:
    return _digest(file)
