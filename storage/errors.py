"""Errors for users: what went wrong, where, what was expected, what was found, what to do next.

Programming errors are assertions.
"""

import errno
import re
from collections.abc import Iterable
from difflib import get_close_matches

from storage.printable import printable

NEAREST = 3  # names that are suggested
LIKENESS = 0.6  # from which a name is suggested, from 0 to 1 (difflib's ratio)
MANY = 40  # names of which all are told
LONGEST_PART = 2000  # characters of one part of a message; data can hold names of any length
# libraries that write say it in words alone; the last is numpy's
_FULL_DISK = re.compile(
    r"No space left on device|Disk quota exceeded|disk is full|^\d+ requested and \d+ written$"
)


class LatentVLAError(Exception):
    """Base class; the parts of the message are attributes."""

    def __init__(
        self,
        what: str,
        *,
        where: object = None,
        expected: object = None,
        found: object = None,
        do: str | None = None,
    ) -> None:
        self.what, self.where, self.expected, self.found, self.do = what, where, expected, found, do
        parts = [shown(what)]
        parts += [
            f"  {label}: {shown(value)}"
            for label, value in (
                ("where", where),
                ("expected", expected),
                ("found", found),
                ("what to do", do),
            )
            if value is not None
        ]
        super().__init__("\n".join(parts))

    def __reduce__(self) -> tuple:
        """Pickle with the keyword arguments, so that the error survives a process pool."""
        return _rebuild, (type(self), self.what, self.where, self.expected, self.found, self.do)


def shown(value: object) -> str:
    """The text of a value with control characters and lone surrogates escaped, shortened to
    LONGEST_PART characters.
    """
    text = str(value)
    if len(text) > LONGEST_PART:
        text = f"{text[:LONGEST_PART]}... ({len(text)} characters)"
    return printable(text, keep="\n\t")


def _rebuild(
    kind: type[LatentVLAError],
    what: str,
    where: object,
    expected: object,
    found: object,
    do: str | None,
) -> LatentVLAError:
    return kind(what, where=where, expected=expected, found=found, do=do)


class SourceError(LatentVLAError):
    """A raw log or a raw folder cannot be used; such a log is quarantined, the others go on."""

    def of_log(self, log_id: str) -> "SourceError":
        """The same error with the log named in `where`, for readers that get a file only."""
        where = "" if self.where is None else str(self.where)
        if re.search(rf"\blog {re.escape(log_id)}(?![\w.-])", where):
            return self
        return SourceError(
            self.what,
            where=", ".join(["log " + log_id, *filter(None, [where])]),
            expected=self.expected,
            found=self.found,
            do=self.do,
        )


class ArtifactError(LatentVLAError):
    """An artefact is missing, damaged, of another version, or failed its checks."""


class ConfigError(LatentVLAError):
    """A command, option or configuration names something unknown or impossible."""


def full_disk(error: BaseException) -> ArtifactError | None:
    """The error to raise in place of one that says that there is no room left; None for others.

    It concerns no single log: the next one would fail alike.
    """
    number = getattr(error, "errno", None)
    by_text = number is None and _FULL_DISK.search(str(error))
    if number not in (errno.ENOSPC, errno.EDQUOT) and not by_text:
        return None
    return ArtifactError(
        "there is no room left on the disk",
        where=getattr(error, "filename", None),
        found=str(error),
        do="make room, then run the same command again: finished artefacts stay",
    )


def nearest(name: str, known: Iterable[str]) -> list[str]:
    """At most three of the known names that look like `name`, the nearest first."""
    return get_close_matches(name, sorted(known), n=NEAREST, cutoff=LIKENESS)


def unknown_name(
    kind: str, name: str, known: Iterable[str], *, listed_by: str = "", where: object = None
) -> ConfigError:
    """A ConfigError for a name that does not exist, with the nearest known names as suggestion.

    Of more than MANY known names their number is told, and the command they are `listed_by`.
    """
    known = sorted(known)
    near, many = nearest(name, known), len(known) > MANY
    if near:
        hint = f"did you mean {' or '.join(repr(item) for item in near)}?"
    elif listed_by:
        hint = f"list them: {listed_by}"
    else:
        hint = f"choose one of: {', '.join(known[:MANY])}{', ...' if many else ''}"
    expected = f"one of {len(known)} {kind}s" if many or listed_by else ", ".join(known)
    what = f"there is no {kind} '{name}'"
    return ConfigError(what, where=where, expected=expected, found=name, do=hint)
