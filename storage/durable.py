"""Files that survive a power cut, and JSON files that may be damaged.

A file is written aside, synced, renamed, and its folder is synced: after a cut it is the old one or
the new one. What cannot be read is an ArtifactError with the file's name, never a bare error.
"""

import contextlib
import ctypes
import errno
import json
import logging
import os
import shutil
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any

from storage.errors import ArtifactError, LatentVLAError
from storage.writers import this_writer

_LOG = logging.getLogger(__name__)
SYNC_THREADS = 8  # a file system writes its journal once for files that are synced together
# ext2 to ext4, XFS, Btrfs, F2FS, overlay, tmpfs
_SYNCED_AS_A_WHOLE = {0xEF53, 0x58465342, 0x9123683E, 0xF2F52010, 0x794C7630, 0x01021994}
# of file systems that cannot sync a folder
_NOT_SYNCABLE = (errno.EINVAL, errno.EBADF, errno.ENOTSUP, errno.EACCES)


def sync_file(file: Path) -> None:
    """Wait until the content of a file is on the disk."""
    descriptor = os.open(file, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def place_link(link: Path, target: str | Path) -> None:
    """Make `link` a symlink to `target`, atomically if it is one already. A folder in its place, as
    in a copy of the lake that followed the links, is removed.
    """
    staged = part_of(link)
    staged.unlink(missing_ok=True)
    staged.symlink_to(target)
    if link.is_dir() and not link.is_symlink():
        aside = link.with_name(f"{staged.name}.replaced")
        os.rename(link, aside)
        os.replace(staged, link)
        shutil.rmtree(aside)
    else:
        os.replace(staged, link)


def sync_folder(folder: Path) -> None:
    """Wait until the names in a folder are on the disk, where the file system can say so."""
    try:
        sync_file(folder)
    except OSError as error:
        if error.errno not in _NOT_SYNCABLE:
            raise


def sync_tree(folder: Path, *others: Path) -> None:
    """Wait until all files and folders below `folder`, itself and `others`, files or folders of the
    same file system, are on the disk.

    One call for the whole file system where that is known to do it: a tenth of the time of many.
    """
    if _sync_file_system(folder):
        return
    files, folders = [], [folder]
    for place, names, file_names in os.walk(folder):
        files += [Path(place, name) for name in file_names]
        folders += [Path(place, name) for name in names]
    files += [item for item in others if item.is_file()]
    folders = [item for item in others if item.is_dir()] + folders
    with ThreadPoolExecutor(SYNC_THREADS) as pool:
        for _ in pool.map(sync_file, [file for file in files if not file.is_symlink()]):
            pass
    for item in reversed(folders):
        if not item.is_symlink():
            sync_folder(item)


def _sync_file_system(folder: Path) -> bool:
    """True if everything on the folder's file system is on the disk now; False where the system
    has no such call, or the file system may ignore it (network and user space).
    """
    library = _system_library()
    if library is None or _magic_number(folder) not in _SYNCED_AS_A_WHOLE:
        return False
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        if library.syncfs(descriptor) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), str(folder))
    finally:
        os.close(descriptor)
    return True


@cache
def _system_library() -> Any:
    try:
        library = ctypes.CDLL(None, use_errno=True)
        return library if library.syncfs and library.statfs else None
    except (AttributeError, OSError):
        return None


def _magic_number(folder: Path) -> int:
    """Kind of the file system, from statfs; 0 where it cannot be told."""
    buffer = ctypes.create_string_buffer(256)
    if sys.platform != "linux" or _system_library().statfs(os.fsencode(folder), buffer) != 0:
        return 0
    return int.from_bytes(buffer.raw[:8], sys.byteorder) & 0xFFFFFFFF


def part_of(file: Path) -> Path:
    """Where `file` is written aside: hidden, beside it, with the writer's name."""
    return file.with_name(f".{file.name}.part-{this_writer().tag}")


@contextlib.contextmanager
def replacing(file: Path, *, synced: bool = True) -> Iterator[Path]:
    """Yield a path to write to; on a clean exit its content becomes `file`, at once and durably.
    After an exception `file` stays as it was, and an OSError names it.

    Not `synced`: for what a reader can do without; after a power cut it may be empty.
    """
    part = part_of(file)
    try:
        yield part
        if synced:
            sync_file(part)
        os.replace(part, file)
    except BaseException as error:
        if isinstance(error, OSError) and error.filename is None:  # as of a write
            error.filename = str(file)
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
        raise
    if synced:
        sync_folder(file.parent)


def write_text(file: Path, text: str, *, synced: bool = True) -> None:
    """Replace a file by this text, at once and durably (see replacing)."""
    with replacing(file, synced=synced) as part:
        part.write_text(text, encoding="utf-8")


def read_object(file: Path) -> dict[str, Any] | None:
    """The object in a JSON file; None if there is no such file. Raises ArtifactError if it cannot
    be read or holds something else.
    """
    try:
        value = json.loads(file.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, RecursionError) as error:
        raise damaged(file, error) from error
    if not isinstance(value, dict):
        raise damaged(file, f"a {type(value).__name__} where an object belongs")
    return value


def damaged(file: Path, why: object) -> ArtifactError:
    """The error of a file that cannot be read as what it should be."""
    found = str(why) or type(why).__name__
    return ArtifactError(
        f"'{file.name}' is damaged",
        where=file,
        found=found.splitlines()[0][:200],
        do="make it again: latentvla run; or restore the file",
    )


def warn(error: LatentVLAError) -> None:
    """Say once a process that something is damaged and left out."""
    _warn_once(str(error.what), str(error.where), str(error.found))


@cache
def _warn_once(what: str, where: str, found: str) -> None:
    _LOG.warning("%s and is left out: %s (%s)", what, where, found)
