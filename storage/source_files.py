"""What a Python source file says apart from its comments and formatting, and what it imports.

Parsing all modules takes a second, so the results are kept beside the byte code and are valid while
a file's time of change and size are the same. Where nothing can be written, files are parsed anew.
"""

import ast
import json
import os
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from pathlib import Path

_CACHE = Path(__file__).parent / "__pycache__" / "source_files.json"
_VERSION = 1  # of the cache's layout


@dataclass(frozen=True, slots=True)
class SourceFile:
    """One Python file."""

    digest: str  # of its syntax tree: comments and formatting do not change it
    imports: tuple[str, ...]  # every module or name that it imports, also inside functions


def read_source(file: Path) -> SourceFile:
    """The digest and the imports of a Python file. Raises SyntaxError if it is not one."""
    stat = file.stat()
    return _read(file, f"{stat.st_mtime_ns}-{stat.st_size}")


@cache
def _read(file: Path, stamp: str) -> SourceFile:
    known = _stored().get(str(file))
    if known is not None and known[0] == stamp:
        return SourceFile(known[1], tuple(known[2]))
    tree = ast.parse(file.read_text())
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    text = json.dumps(ast.dump(tree), sort_keys=True)
    source = SourceFile(sha256(text.encode()).hexdigest()[:16], tuple(sorted(names)))
    _stored()[str(file)] = [stamp, source.digest, list(source.imports)]
    return source


@cache
def _stored() -> dict[str, list]:
    """The cache of this process, filled from the file; unreadable contents count as none."""
    try:
        stored = json.loads(_CACHE.read_text())
    except (OSError, ValueError):
        return {}
    return stored["files"] if isinstance(stored, dict) and stored.get("version") == _VERSION else {}


def store_sources() -> None:
    """Keep what was read for the next process, if anything is new."""
    text = json.dumps({"version": _VERSION, "files": _stored()}, sort_keys=True)
    try:
        if _CACHE.exists() and _CACHE.read_text() == text:
            return
        part = _CACHE.with_suffix(f".{os.getpid()}.part")
        _CACHE.parent.mkdir(exist_ok=True)
        part.write_text(text)
        os.replace(part, _CACHE)
    except OSError:
        return  # a read-only installation
