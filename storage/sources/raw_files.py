"""Access to files of raw logs: regular files only, of bounded size; every failure is a SourceError.

Links are followed: data sets that are put together from links are common. A link to nothing, to a
folder, a pipe or a device is refused, as is any of these in place of a file.
"""

import errno
import json
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from storage.errors import LatentVLAError, SourceError, full_disk

MAX_TEXT_BYTES = 256 * 2**20  # of a text, XML or JSON file of one log
REPAIR = "correct or leave out this log; it is read again when its bytes change"
# files that programs leave in any folder, and hidden ones: they are no part of a log
_LEFT_BY_PROGRAMS = frozenset(
    (
        "thumbs.db",
        "ehthumbs.db",
        "desktop.ini",
        "@eadir",
        "@recycle",
        "#recycle",
        "$recycle.bin",
        "system volume information",
        "__macosx",
        "__pycache__",
        "lost+found",
    )
)
# of this process or this machine, not of one log: the next log would fail alike
_NOT_OF_A_LOG = (errno.EMFILE, errno.ENFILE)


def is_foreign(name: str) -> bool:
    """True for files that are no data: hidden ones, backups of editors (`x~`), and those that file
    managers leave, in any case.
    """
    return name.startswith(".") or name.endswith("~") or name.lower() in _LEFT_BY_PROGRAMS


def regular_files(folder: Path, wanted: Callable[[str], bool] = lambda name: True) -> list[str]:
    """Names of the files in `folder`, sorted, without foreign ones and those that are not `wanted`;
    empty if there is no such folder.

    Raises SourceError if one is no regular file, or the folder cannot be read.
    """
    names = []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if is_foreign(entry.name) or not wanted(entry.name):
                    continue
                if not entry.is_file():
                    raise _irregular(Path(entry.path))
                names.append(entry.name)
    except FileNotFoundError:
        return []
    except OSError as error:
        raise unreadable(error, folder) from error
    return sorted(names)


def folders_in(folder: Path) -> list[Path]:
    """Folders in `folder`, sorted, without foreign ones; empty if there is no such folder.

    Raises SourceError if it cannot be read.
    """
    try:
        with os.scandir(folder) as entries:
            names = [item.name for item in entries if not is_foreign(item.name) and _is_dir(item)]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise unreadable(error, folder) from error
    return [folder / name for name in sorted(names)]


def _is_dir(entry: os.DirEntry) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # links that lead to each other
        return False


def is_regular(file: Path) -> bool:
    """True for a regular file or a link to one, False if there is nothing.

    Raises SourceError for anything else, for example a link that leads nowhere.
    """
    try:
        mode = os.stat(file).st_mode
    except (FileNotFoundError, NotADirectoryError):
        if os.path.islink(file):
            raise _irregular(file) from None
        return False
    except OSError as error:
        raise unreadable(error, file) from error
    if not stat.S_ISREG(mode):
        raise _irregular(file)
    return True


def read_regular(file: Path, max_bytes: int) -> bytes:
    """The content of a regular file.

    Raises SourceError if it is missing, cannot be read, is no regular file, or is larger than
    `max_bytes`.
    """
    try:
        # a pipe without a writer must not be waited for
        handle = os.open(file, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise unreadable(error, file) from error
    try:
        state = os.fstat(handle)
        if not stat.S_ISREG(state.st_mode):
            raise _irregular(file)
        if state.st_size > max_bytes:
            raise too_large(file, f"at most {max_bytes} bytes", f"{state.st_size} bytes")
        with open(handle, "rb", closefd=False) as stream:
            return stream.read()
    except OSError as error:
        raise unreadable(error, file) from error
    finally:
        os.close(handle)


def read_text(file: Path, max_bytes: int = MAX_TEXT_BYTES) -> str:
    """The text of a regular UTF-8 file. Raises SourceError as read_regular, and for other bytes."""
    try:
        return read_regular(file, max_bytes).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise SourceError(
            "a text file holds bytes that are no text",
            where=file,
            expected="UTF-8",
            found=str(error),
            do=REPAIR,
        ) from error


def read_json(file: Path, what: str, max_bytes: int = MAX_TEXT_BYTES) -> Any:
    """The content of a JSON file. Raises SourceError that begins with `what` if it is damaged or
    nested too deeply.
    """
    try:
        return json.loads(read_text(file, max_bytes))
    except (RecursionError, ValueError) as error:
        raise SourceError(
            f"{what} cannot be read",
            where=file,
            expected="JSON",
            found=f"{type(error).__name__}: {error}",
            do="download or write it again, or remove it to read the log without it",
        ) from error


@contextmanager
def raw_data_of(
    log_id: str, reading: str, expected: str = "the format's documented fields"
) -> Iterator[None]:
    """Reads of one log: whatever the data make a reader raise becomes a SourceError that names it.

    Not so a full disk, too many open files, and a missing package, which concern no single log.
    """
    try:
        yield
    except SourceError as error:
        named = error.of_log(log_id)
        if named is error:
            raise
        raise named from error
    except (LatentVLAError, ImportError):
        raise
    except OSError as error:
        if full_disk(error) is not None or error.errno in _NOT_OF_A_LOG:
            raise
        raise unreadable(error, None).of_log(log_id) from error
    except Exception as error:
        raise SourceError(
            "a log holds something that its format does not have",
            where=f"log {log_id}, read for {reading}",
            expected=expected,
            found=f"{type(error).__name__}: {error}",
            do=REPAIR,
        ) from error


def too_large(where: object, expected: str, found: str) -> SourceError:
    """The error for data beyond a limit, which is refused before it takes memory or time."""
    return SourceError(
        "raw data are larger than any log needs",
        where=where,
        expected=expected,
        found=found,
        do=REPAIR,
    )


def unreadable(error: OSError, file: Path | None) -> SourceError:
    """The SourceError of a failed access to a raw file."""
    if error.errno in _NOT_OF_A_LOG:
        raise error
    return SourceError(
        "a raw file cannot be read",
        where=error.filename if file is None else file,
        expected="a file that this user may read",
        found=f"{errno.errorcode.get(error.errno or 0, type(error).__name__)}: {error.strerror}",
        do="copy it again, or correct its permissions; the log is tried again at the next run",
    )


def _irregular(file: Path) -> SourceError:
    try:
        mode = os.stat(file).st_mode
    except OSError as error:
        found = f"a link to {os.readlink(file)}, which leads to no file ({error.strerror})"
    else:
        kinds = (
            (stat.S_ISDIR, "a folder"),
            (stat.S_ISFIFO, "a pipe"),
            (stat.S_ISSOCK, "a socket"),
            (stat.S_ISCHR, "a device"),
            (stat.S_ISBLK, "a device"),
        )
        found = next((text for is_kind, text in kinds if is_kind(mode)), "something else")
    return SourceError(
        "this is no regular file",
        where=file,
        expected="a file, or a link to one",
        found=found,
        do="remove it, or put the file there",
    )
