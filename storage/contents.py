"""The content of files, by which published weights are known wherever they lie.

Hashing 15 GB takes a quarter of a minute, so hashes are kept in the user's cache folder
(`$XDG_CACHE_HOME/latentvla/contents.json`) and are valid while a file's inode, size and times are
the same. Where nothing can be written, files are hashed anew.
"""

import hashlib
import json
import logging
import os
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from storage.durable import write_text

_LOG = logging.getLogger(__name__)
# what a network and its tokenizer are read from; not read-me files, pictures or download marks
NETWORK_FILES = ("*.json", "*.safetensors", "*.bin", "*.txt", "*.model", "*.jinja")
_KEPT_BYTES = 1_000_000  # hashes of smaller files are not worth a cache
_TOLD_BYTES = 1_000_000_000  # from here on it is said why nothing happens for some seconds


def folder_content(folder: Path, patterns: Sequence[str] = NETWORK_FILES) -> str:
    """16 hex digits over the names and the bytes of those files in a folder that have these names;
    "" if there is none. Where the folder lies does not change it.
    """
    files = sorted({file for pattern in patterns for file in folder.glob(pattern)})
    hashes = [[file.name, _hash_of(file)] for file in files if file.is_file()]
    if not hashes:
        return ""
    return hashlib.sha256(json.dumps(hashes).encode()).hexdigest()[:16]


def _hash_of(file: Path) -> str:
    stat = file.stat()
    times = (stat.st_mtime_ns, stat.st_ctime_ns)
    stamp = "-".join(map(str, (stat.st_dev, stat.st_ino, stat.st_size, *times)))
    return _hash(file.absolute(), stamp, stat.st_size)


@cache
def _hash(file: Path, stamp: str, size: int) -> str:
    known = _stored().get(str(file)) if size >= _KEPT_BYTES else None
    if isinstance(known, list) and known[:1] == [stamp] and len(known) == 2:
        return str(known[1])
    if size >= _TOLD_BYTES:
        _LOG.info("reading %s once, %.1f GB, to know its content", file, size / 1e9)
    with file.open("rb") as stream:
        content = hashlib.file_digest(stream, "sha256").hexdigest()
    if size >= _KEPT_BYTES:
        _store(str(file), [stamp, content])
    return content


def _cache_file() -> Path:
    folder = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(folder) / "latentvla" / "contents.json"


def _stored() -> dict[str, Any]:
    try:
        stored = json.loads(_cache_file().read_text())
    except (OSError, ValueError, RuntimeError):  # RuntimeError: a user without a home folder
        return {}
    return stored if isinstance(stored, dict) else {}


def _store(file: str, entry: list[str]) -> None:
    """Add an entry; those of files that are gone are dropped."""
    try:
        cache_file = _cache_file()
        kept = {name: value for name, value in _stored().items() if os.path.exists(name)}
        cache_file.parent.mkdir(parents=True, exist_ok=True)
        text = json.dumps(kept | {file: entry}, indent=1, sort_keys=True)
        write_text(cache_file, text, synced=False)
    except (OSError, RuntimeError):
        _LOG.debug("no cache of contents", exc_info=True)
