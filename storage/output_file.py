"""Files that a person asks for by name: written aside and renamed, and never over what they are
made from.
"""

import os
import secrets
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from storage.errors import ConfigError


def check_output(file: Path, *, keep: Iterable[Path] = ()) -> Path:
    """Where `file` leads, without links and `..`, if it can be written; before any work is done.

    `keep` are files and folders that stay as they are: the inputs, and the lake. Raises ConfigError
    if `file` is one of them or lies below one, whatever links lead there, if it is a folder or no
    regular file, or if its folder cannot be written.
    """
    try:
        target = file.resolve()
        for kept in keep:
            if _is_within(target, kept.resolve()):
                raise ConfigError(
                    "the output would overwrite what it is made from",
                    where=file,
                    expected="a file outside the lake and other than the inputs",
                    found=f"{target} is {kept} or lies below it",
                    do="choose another file with --out",
                )
        if target.exists() and not target.is_file():
            kind = "a folder" if target.is_dir() else "no regular file"
            raise ConfigError(
                "the output cannot be written",
                where=file,
                expected="a new or a regular file",
                found=kind,
                do="choose another file with --out",
            )
        parent = next(folder for folder in target.parents if folder.exists())
        if not parent.is_dir():
            raise NotADirectoryError(20, "a file lies where a folder is needed", str(parent))
        if not os.access(parent, os.W_OK | os.X_OK):
            raise PermissionError(13, "the folder cannot be written", str(parent))
    except (OSError, ValueError, RuntimeError) as error:
        raise _unwritable(file, error) from error
    return target


@contextmanager
def write_output(file: Path, *, keep: Iterable[Path] = ()) -> Iterator[Path]:
    """Yield a new path beside `file` to write to; on a clean exit it atomically becomes `file`.

    After an exception `file` is as it was. A link is followed. Raises ConfigError as `check_output`
    does, and where the system refuses to write.
    """
    target = check_output(file, keep=keep)
    part = target.parent / f".part-{os.getpid()}-{secrets.token_hex(4)}{target.suffix}"
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        yield part
        with part.open("rb") as written:
            os.fsync(written.fileno())
        os.replace(part, target)
    except OSError as error:
        raise _unwritable(file, error) from error
    finally:
        _remove(part)


def _remove(part: Path) -> None:
    try:
        part.unlink(missing_ok=True)
    except OSError:  # its folder was never made, or is gone
        return


def _is_within(target: Path, kept: Path) -> bool:
    """True if `target` is `kept` or lies below it, also through a second name of the folder."""
    if target == kept or kept in target.parents:
        return True
    return kept.exists() and any(
        path.exists() and path.samefile(kept) for path in (target, *target.parents)
    )


def _unwritable(file: Path, error: Exception) -> ConfigError:
    reason = error.strerror if isinstance(error, OSError) else None
    return ConfigError(
        "the output cannot be written",
        where=file,
        expected="a folder that can be written, with room for the file",
        found=reason or str(error),
        do="choose another file with --out, or make room",
    )
