"""Locks of a lake: one for all that write it, one for each artefact and training run.

A lock is held by the kernel (flock) and ends with its process, also when that is killed. The lock
file says who holds it. Where a file system has no flock, what the file says counts.
"""

import contextlib
import errno
import fcntl
import json
import os
import threading
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from storage.errors import ConfigError
from storage.writers import Writer, is_running, this_writer

LAKE_LOCK = ".lock"
# lakes that a process holds for itself and its child processes: JSON [[root, process id], ...]
HELD = "LATENTVLA_HELD_LAKES"
_BUSY = (errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES)
_NO_FLOCK = (errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS)
_MAX_HOLDERS = 64  # named in a lock file that many share
ATTEMPTS = 100  # at a lock whose file is removed while it is taken


class BusyError(ConfigError):
    """Another process holds a lock; `found` says which one."""


@dataclass(slots=True)
class _Held:
    """A lock on a lake that this process holds."""

    alone: bool
    count: int
    stack: contextlib.ExitStack


_held: dict[str, _Held] = {}
_guard = threading.RLock()


@contextlib.contextmanager
def alone_in_lake(root: Path) -> Iterator[None]:
    """Hold a lake for this process and its children; inside, again at no cost.

    Raises BusyError if another process holds or writes it, ConfigError if it cannot be written.
    """
    with _lake_lock(root, alone=True):
        kept = os.environ.get(HELD)
        held = [*_inherited(), [os.path.realpath(root), os.getpid()]]
        os.environ[HELD] = json.dumps(held)
        try:
            yield
        finally:
            if kept is None:
                del os.environ[HELD]
            else:
                os.environ[HELD] = kept


@contextlib.contextmanager
def writing_in_lake(root: Path) -> Iterator[None]:
    """Write in a lake, with others who write other artefacts; inside a run that holds the lake, at
    no cost. Raises BusyError if another run holds it, ConfigError if it cannot be written.
    """
    with _lake_lock(root, alone=False):
        yield


def held_lake(path: Path) -> Path | None:
    """The innermost lake around `path` that this process, or the one that started it, holds."""
    real = Path(os.path.realpath(path))
    with _guard:
        roots = {*_held, *(str(item[0]) for item in _inherited() if item)}
    return next((folder for folder in real.parents if str(folder) in roots), None)


def users_of_lake(root: Path) -> str:
    """Who holds the lake at `root` or writes in it, as its lock file says; "" if nobody does.
    Takes no lock, so that it disturbs nobody who does.
    """
    try:
        descriptor = os.open(root / LAKE_LOCK, os.O_RDONLY)
    except OSError:
        return ""
    try:
        me = this_writer()
        others = [item for item in _holders(descriptor) if item.writer != me]
        return _names(others) if others else ""
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _lake_lock(root: Path, alone: bool) -> Iterator[None]:
    key = os.path.realpath(root)
    if not alone and _is_held_by_parent(key):
        yield
        return
    with _guard:
        held = _held.get(key)
        if held is None or (alone and not held.alone):
            stack = contextlib.ExitStack()
            stack.enter_context(
                locked(
                    root / LAKE_LOCK,
                    alone=alone,
                    what="another run is using this lake",
                    do="wait until it has finished, or choose another lake with --lake",
                )
            )
            held = _held[key] = _Held(alone, 0, stack)
        held.count += 1
    try:
        yield
    finally:
        with _guard:
            held.count -= 1
            if held.count == 0:
                if _held.get(key) is held:
                    del _held[key]
                held.stack.close()


@contextlib.contextmanager
def locked(file: Path, *, what: str, do: str, alone: bool = True) -> Iterator[None]:
    """Hold the lock file `file`, alone or shared. Raises BusyError, with `what`, who holds it and
    what to `do`, if others prevent it, and ConfigError if the file cannot be written.
    """
    for attempt in range(ATTEMPTS):
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(file, os.O_RDWR | os.O_CREAT, 0o666)
        except OSError as error:
            if isinstance(error, FileNotFoundError) and attempt < ATTEMPTS - 1:
                continue  # its folder was removed just now
            raise ConfigError(
                "this folder cannot be written",
                where=file.parent,
                found=error.strerror,
                do="choose a folder of your own, or give yourself the right to write it",
            ) from error
        try:
            if not _acquire(descriptor, alone):
                found = _names(_holders(descriptor))
                raise BusyError(what, where=file.parent, found=found, do=do)
            if _is_file(descriptor, file):
                _sign(descriptor, alone)
                try:
                    yield
                finally:
                    _unsign(descriptor)
                return
        finally:
            os.close(descriptor)
    raise ConfigError(
        what, where=file.parent, found="its lock file is replaced all the time", do=do
    )


def _acquire(descriptor: int, alone: bool) -> bool:
    try:
        fcntl.flock(descriptor, (fcntl.LOCK_EX if alone else fcntl.LOCK_SH) | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in _BUSY:
            return False
        if error.errno not in _NO_FLOCK:
            raise
        me = this_writer()
        return all(item.writer == me for item in _holders(descriptor) if item.alone or alone)
    return True


def _is_file(descriptor: int, file: Path) -> bool:
    """False if the file was removed, or another one made, before the lock was taken."""
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(file))
    except FileNotFoundError:
        return False


@dataclass(frozen=True, slots=True)
class _Holder:
    """A line of a lock file."""

    writer: Writer
    alone: bool
    since_utc: str


def _sign(descriptor: int, alone: bool) -> None:
    """Write who holds the lock; it is held also where this cannot be written."""
    me = this_writer()
    others = [] if alone else [item for item in _holders(descriptor) if not item.alone]
    if any(item.writer == me for item in others):
        return
    now = datetime.now(UTC).isoformat(timespec="seconds")
    _write(descriptor, [*others[-_MAX_HOLDERS:], _Holder(me, alone, now)])


def _unsign(descriptor: int) -> None:
    me = this_writer()
    _write(descriptor, [item for item in _holders(descriptor) if item.writer != me])


def _write(descriptor: int, holders: list[_Holder]) -> None:
    """Put these lines into a lock file, over what was there: empty lines follow, because making a
    file shorter may wait for the disk.
    """
    text = "".join(json.dumps(asdict(holder)) + "\n" for holder in holders).encode()
    with contextlib.suppress(OSError):
        os.pwrite(descriptor, text.ljust(os.fstat(descriptor).st_size, b"\n"), 0)


def _holders(descriptor: int) -> list[_Holder]:
    """The processes that a lock file names and that may still run."""
    found = []
    for line in os.pread(descriptor, 1 << 16, 0).splitlines():
        try:
            values: Any = json.loads(line)
            holder = _Holder(
                Writer(**values["writer"]), bool(values["alone"]), str(values["since_utc"])
            )
            if is_running(holder.writer) is not False:
                found.append(holder)
        except (ValueError, TypeError, KeyError, AttributeError):
            continue  # half a line: the holder is writing it
    return found


def _names(holders: list[_Holder]) -> str:
    if not holders:
        return "a process that does not say who it is"
    return "; ".join(f"{item.writer}, since {item.since_utc}" for item in holders[-5:])


def _inherited() -> list[list[Any]]:
    try:
        held = json.loads(os.environ.get(HELD, "[]"))
    except ValueError:
        return []
    return [item for item in held if isinstance(item, list)] if isinstance(held, list) else []


def _is_held_by_parent(key: str) -> bool:
    """True if the process that started this one holds the lake, as its lock file confirms."""
    for item in _inherited():
        if len(item) != 2 or item[0] != key or item[1] == os.getpid():
            continue
        with contextlib.suppress(OSError):
            descriptor = os.open(Path(key) / LAKE_LOCK, os.O_RDONLY)
            try:
                names = _holders(descriptor)
            finally:
                os.close(descriptor)
            if any(holder.alone and holder.writer.pid == item[1] for holder in names):
                return True
    return False
