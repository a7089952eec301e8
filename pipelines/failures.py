"""Puts what the system refuses into an error for users: full disks, missing rights, a path through
a file, a history that cannot be written. Programming errors stay what they are.
"""

import errno
import os
import sqlite3
from pathlib import Path

from storage.errors import ConfigError, LatentVLAError

_ROOM = "make room; the same command goes on where it stopped"
_LIMIT = "raise the limit on the size of files (ulimit -f), or make room; then start again"
_RIGHTS = (
    "let this user write there, or choose another folder: --lake for the artefacts, DAGSTER_HOME "
    "for Dagster's history"
)
_PATH = "look at this path: a folder is missing, or a file or a link to nowhere is in its place"
_DISK = "the disk or the network behind it failed: look at it, then start again"
_DO = {
    errno.ENOSPC: _ROOM,
    errno.EDQUOT: _ROOM,
    errno.EFBIG: _LIMIT,
    errno.EACCES: _RIGHTS,
    errno.EPERM: _RIGHTS,
    errno.EROFS: _RIGHTS,
    errno.ENOENT: _PATH,
    errno.ENOTDIR: _PATH,
    errno.EISDIR: _PATH,
    errno.EEXIST: _PATH,
    errno.ELOOP: _PATH,
    errno.EINVAL: _PATH,
    errno.ENAMETOOLONG: "choose a shorter path",
    errno.EIO: _DISK,
    errno.ESTALE: _DISK,
    errno.EMFILE: "raise the number of open files: ulimit -n 4096",
    errno.ENFILE: "close other programs: the system has too many open files",
}
_WITHOUT_A_FILE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)


def explained(error: BaseException) -> LatentVLAError | None:
    """The error for users that `error` amounts to, or None if it is a fault of the program."""
    if isinstance(error, OSError):
        return _of_the_system(error)
    origin = getattr(error, "orig", error)  # SQLAlchemy wraps the error of the database
    if isinstance(origin, sqlite3.DatabaseError) and not isinstance(
        origin, (sqlite3.ProgrammingError, sqlite3.IntegrityError)
    ):
        return ConfigError(
            "Dagster's history cannot be used",
            where=os.environ.get("DAGSTER_HOME") or Path(".dagster").absolute(),
            expected="a folder that this user can write, with room, and whole databases in it",
            found=str(origin),
            do="set DAGSTER_HOME to another folder; a damaged history can be moved away: the "
            "artefacts are in the lake",
        )
    return None


def _of_the_system(error: OSError) -> LatentVLAError | None:
    number, file = error.errno, error.filename
    if number is None and " requested and " in str(error):  # numpy, where the disk is full
        number = errno.ENOSPC
    if number not in _DO or (file is None and number not in _WITHOUT_A_FILE):
        return None
    return ConfigError(
        "the disk is full" if _DO[number] == _ROOM else "the system refuses a file",
        where=os.fsdecode(file) if isinstance(file, (str, bytes)) else None,
        found=error.strerror or str(error),
        do=_DO[number],
    )
