"""Versions of artefacts, known before they are made: hashes over configurations and code."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any

from storage.source_files import read_source, store_sources


def plain(value: Any) -> Any:
    """A value as JSON holds it: dataclasses become dicts, tuples lists and paths strings."""
    if is_dataclass(value) and not isinstance(value, type):
        return {key: plain(item) for key, item in asdict(value).items()}
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value


def digest(value: Any) -> str:
    """16 hex digits of the SHA-256 of a value's JSON with sorted keys.

    Dataclasses become dicts and paths strings first.
    """
    return hashlib.sha256(json.dumps(plain(value), sort_keys=True).encode()).hexdigest()[:16]


def code_version_of(modules: Sequence[Path]) -> str:
    """16 hex digits over the syntax trees of Python files or folders of them.

    Comments and formatting do not change it.
    """
    files = sorted(
        file for path in modules for file in (path.rglob("*.py") if path.is_dir() else [path])
    )
    version = digest([[file.name, read_source(file).digest] for file in files])
    store_sources()
    return version


def version_of(
    asset: str, parents: Mapping[str, str], config: Any, code_version: str, seed: int | None = None
) -> str:
    """The version of an artefact, known before it is made: a current artefact is not made again."""
    return digest([asset, dict(parents), plain(config), code_version, seed])
