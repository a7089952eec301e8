"""What a Python source file does, apart from what it tells its readers, and what it imports.

A digest covers the syntax tree without comments, formatting, docstrings and the fields of
configurations that are marked as knobs (`metadata={"how": True}`), and is the same under every
Python version.

Parsing all modules takes a second, so the results are kept beside the byte code and are valid while
a file's time of change and size are the same. Where nothing can be written, files are parsed anew.
"""

import ast
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any

from storage.durable import write_text

_ROOT = Path(__file__).parents[1]
_CACHE = Path(__file__).parent / "__pycache__" / "source_files.json"
_VERSION = 2  # of the cache's layout and of the digests
_FILE_NAME = re.compile(r"[\w-]+(\.[\w-]+)+")
# of a syntax tree: the context of a name follows from its place, the others are comments or layout
_IGNORED_FIELDS = ("ctx", "kind", "type_comment", "type_ignores")
_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


@dataclass(frozen=True, slots=True)
class SourceFile:
    """One Python file, or a part of one."""

    digest: str  # of what it does
    imports: tuple[str, ...]  # every module or name that it imports, also inside functions
    # of a file: text constants that can be names of files; of a part: names that the file defines
    # at its top level and the part uses
    names: tuple[str, ...]


def read_source(file: Path) -> SourceFile:
    """What a Python file does and imports. Raises SyntaxError if it is none."""
    return _read(file, _stamp(file), "", False)


def read_part(file: Path, name: str, *, body: bool = False) -> SourceFile:
    """What a part of a Python file does: a function, class or value of that name, with dots inside
    it: "Session.prepare".

    `body`: of a function, only what happens in it, without its decorators and without what it
    returns or yields. Raises LookupError if the file has no such part.
    """
    return _read(file, _stamp(file), name, body)


def store_sources() -> None:
    """Keep what was read for the next process, if anything is new."""
    cached = _cached()
    if not cached.changed:
        return
    text = json.dumps({"version": _VERSION, "files": cached.files}, sort_keys=True)
    try:
        _CACHE.parent.mkdir(exist_ok=True)
        write_text(_CACHE, text, synced=False)
    except OSError:
        return  # a read-only installation
    cached.changed = False


@dataclass(slots=True)
class _Cached:
    """The cache of this process: stamp, digest, imports and names by file and part."""

    files: dict[str, list[Any]]
    changed: bool = False


@cache
def _cached() -> _Cached:
    """The cache, filled from its file; unreadable contents count as none."""
    try:
        stored = json.loads(_CACHE.read_text())
        if stored["version"] == _VERSION:
            return _Cached(dict(stored["files"]))
    except (OSError, ValueError, KeyError, TypeError):
        pass
    return _Cached({})


def _stamp(file: Path) -> str:
    stat = file.stat()
    return f"{stat.st_mtime_ns}-{stat.st_size}"


@cache
def _read(file: Path, stamp: str, part: str, body: bool) -> SourceFile:
    ours = file.is_relative_to(_ROOT)
    key = f"{file.relative_to(_ROOT) if ours else file}::{part}{'()' if body else ''}"
    cached = _cached()
    known = cached.files.get(key) if ours else None
    if known is not None and known[0] == stamp:
        return SourceFile(known[1], tuple(known[2]), tuple(known[3]))
    tree = ast.parse(file.read_text())
    source = _part_of(tree, file, part, body) if part else _file_of(tree)
    if ours:
        cached.files[key] = [stamp, source.digest, list(source.imports), list(source.names)]
        cached.changed = True
    return source


def _file_of(tree: ast.Module) -> SourceFile:
    imports = {name for names in _bound(ast.walk(tree)).values() for name in names}
    texts = {
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
    files = {text for text in texts if len(text) < 100 and _FILE_NAME.fullmatch(text)}
    return SourceFile(_digest(tree.body), tuple(sorted(imports)), tuple(sorted(files)))


def _part_of(tree: ast.Module, file: Path, name: str, body: bool) -> SourceFile:
    statements: Sequence[ast.stmt] = tree.body
    imported: dict[str, set[str]] = {}  # by the name that the file gives it
    found: ast.stmt | None = None
    for word in name.split("."):
        imported |= _bound(statements)
        found = next((item for item in statements if word in _defined(item)), None)
        if found is None:
            raise LookupError(f"{file} has no part '{name}', which a code version names")
        statements = getattr(found, "body", [])
    assert found is not None
    shown = [item for item in statements if not _is_shown(item)] if body else [found]
    inside = [node for item in shown for node in ast.walk(item)]
    used = {node.id for node in inside if isinstance(node, ast.Name)}
    local = _bound(inside)
    imports = {item for names in local.values() for item in names}
    imports |= {item for word in used - set(local) for item in imported.get(word, ())}
    top_level = {word for item in tree.body for word in _defined(item)}
    return SourceFile(
        _digest(shown),
        tuple(sorted(imports)),
        tuple(sorted((used & top_level) - {name.split(".")[0]})),
    )


def _defined(item: ast.stmt) -> set[str]:
    """The names that a statement defines, apart from imports."""
    if isinstance(item, (*_FUNCTIONS, ast.ClassDef)):
        return {item.name}
    targets = (
        item.targets
        if isinstance(item, ast.Assign)
        else [item.target]
        if isinstance(item, ast.AnnAssign)
        else []
    )
    return {
        node.id for target in targets for node in ast.walk(target) if isinstance(node, ast.Name)
    }


def _bound(nodes: Sequence[ast.AST] | Iterator[ast.AST]) -> dict[str, set[str]]:
    """What these import statements import, by the name that they give it."""
    bound: dict[str, set[str]] = {}
    for node in nodes:
        if isinstance(node, ast.Import):
            for alias in node.names:
                name = alias.asname or alias.name.split(".")[0]
                bound.setdefault(name, set()).add(alias.name)
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                names = {node.module, f"{node.module}.{alias.name}"}
                bound.setdefault(alias.asname or alias.name, set()).update(names)
    return bound


def _is_shown(item: ast.stmt) -> bool:
    """True for what a function hands out: `return x`, `yield x`."""
    is_yield = isinstance(item, ast.Expr) and isinstance(item.value, (ast.Yield, ast.YieldFrom))
    return is_yield or isinstance(item, ast.Return)


def _is_remark(item: object) -> bool:
    """True for a docstring, and for a configuration's field that is a knob."""
    if isinstance(item, ast.Expr):
        return isinstance(item.value, ast.Constant) and isinstance(item.value.value, str)
    return (
        isinstance(item, ast.AnnAssign)
        and isinstance(item.value, ast.Call)
        and any(
            keyword.arg == "metadata"
            and isinstance(keyword.value, ast.Dict)
            and any(
                isinstance(key, ast.Constant) and key.value == "how" for key in keyword.value.keys
            )
            for keyword in item.value.keywords
        )
    )


def _digest(statements: Sequence[ast.stmt]) -> str:
    text = json.dumps(_meaning(list(statements)), sort_keys=True)
    return sha256(text.encode()).hexdigest()[:16]


def _meaning(node: Any) -> Any:
    """A syntax tree as nested lists, the same for every Python version: fields that are empty are
    left out, since newer versions have more of them.
    """
    if isinstance(node, ast.Constant):
        # ascii(): which characters repr() shows depends on Python's Unicode tables
        return [type(node.value).__name__, ascii(node.value)]
    if isinstance(node, ast.JoinedStr):  # how a text between two values is cut differs
        return ["JoinedStr", _joined(node.values)]
    if isinstance(node, ast.AST):
        fields = [
            [name, _meaning(value)]
            for name, value in ast.iter_fields(node)
            if name not in _IGNORED_FIELDS
        ]
        return [
            type(node).__name__,
            *sorted(field for field in fields if field[1] not in (None, [])),
        ]
    if isinstance(node, list):
        return [_meaning(item) for item in node if not _is_remark(item)]
    return node


def _joined(values: Sequence[ast.expr]) -> list[Any]:
    parts: list[Any] = []
    for value in values:
        if isinstance(value, ast.Constant) and parts and isinstance(parts[-1], str):
            parts[-1] += str(value.value)
        elif isinstance(value, ast.Constant):
            parts.append(str(value.value))
        else:
            parts.append(_meaning(value))
    return [part for part in parts if part != ""]
