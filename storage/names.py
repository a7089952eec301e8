"""Names that come from data and become part of a path: ids of logs, towns, versions of maps.

Imports the errors only, so that every layer can use it.
"""

import hashlib
import unicodedata
from collections.abc import Callable

from storage.errors import LatentVLAError, SourceError

MAX_NAME_BYTES = 180  # of UTF-8; a lake adds versions and suffixes, and a file system takes 255
_FORBIDDEN = {
    "Cc": "a control character",
    "Cs": "a character that is no Unicode (a lone surrogate)",
    "Zl": "a line separator",
    "Zp": "a paragraph separator",
}
_BIDI = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
_RULE = (
    f"one part of a path: letters, digits, blanks and signs without / and \\, "
    f"not beginning with a dot, at most {MAX_NAME_BYTES} bytes"
)


def name_fault(name: object) -> str | None:
    """What keeps `name` from being one component of a path; None if nothing does."""
    if not isinstance(name, str):
        return f"a {type(name).__name__}, not a string"
    if not name or name.isspace():
        return "an empty name"
    if name.startswith("."):
        return "a name that begins with a dot, as the lake's own folders do"
    if "/" in name or "\\" in name:
        return "a path separator"
    if not name.isascii() or not name.isprintable():
        for character in name:
            if character in _BIDI:
                return f"a character that turns the direction of text, {character!a}"
            if fault := _FORBIDDEN.get(unicodedata.category(character)):
                return f"{fault}, {character!a}"
    size = len(name.encode())
    return f"{size} bytes" if size > MAX_NAME_BYTES else None


def check_name(
    name: object,
    kind: str = "log",
    *,
    where: object = None,
    error: Callable[..., LatentVLAError] = SourceError,
) -> str:
    """`name` if it is one safe component of a path.

    `kind` says what it names. Raises SourceError (or `error`) that quotes the name in ASCII.
    """
    fault = name_fault(name)
    if fault is None:
        return str(name)
    raise error(
        f"the name of a {kind} cannot be used in a path",
        where=where,
        expected=_RULE,
        found=f"{quoted(name)}: {fault}",
        do="rename it in the raw data",
    )


def safe_name(name: object) -> str:
    """`name` itself if check_name admits it, else a printable name that stands for it: what can be
    kept of it and 8 hex digits of its hash.
    """
    if name_fault(name) is None:
        return str(name)
    text = name if isinstance(name, str) else repr(name)
    kept = "".join(
        character if character.isascii() and (character.isalnum() or character in "_-.") else "_"
        for character in text[:60]
    )
    tag = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    return f"{kept.lstrip('.') or 'unnamed'}~{tag}"


def quoted(name: object, longest: int = 80) -> str:
    """`name` in ASCII, escaped and shortened, so that any terminal and any file can hold it."""
    text = ascii(name if isinstance(name, str) else type(name).__name__)
    return text if len(text) <= longest else f"{text[: longest - 3]}..."
