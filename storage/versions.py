"""Versions of artefacts, known before they are made: hashes over configurations and code.

A field of a configuration says by its metadata how it counts:

    field(default=2, metadata={"how": True})     a knob: how the work is done, not what comes out
    field(default="", metadata={"content": True})  a folder: its files count, not where it lies

All other fields count by their value.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from functools import cache
from pathlib import Path
from typing import Any

from storage.contents import folder_content
from storage.source_files import read_source, store_sources

# Packages whose numbers or files are in artefacts, with their distributions: a release with another
# first or second number changes the version of every artefact whose code imports them.
COUNTED_PACKAGES = {
    "PIL": ("pillow",),
    "cv2": ("opencv-python-headless", "opencv-python"),
    "numba": ("numba",),
    "numpy": ("numpy",),
    "onnx": ("onnx",),
    "onnxruntime": ("onnxruntime", "onnxruntime-gpu"),
    "peft": ("peft",),
    "pyarrow": ("pyarrow",),
    "scipy": ("scipy",),
    "shapely": ("shapely",),
    "torch": ("torch",),
    "transformers": ("transformers",),
    "vector_quantize_pytorch": ("vector-quantize-pytorch",),
    "zarr": ("zarr",),
    "zarrs": ("zarrs",),
}


@dataclass(frozen=True, slots=True)
class Joined:
    """A configuration with settings from elsewhere beside it, recorded as one."""

    config: Any
    beside: Mapping[str, Any]


def plain(value: Any) -> Any:
    """A value as JSON holds it: dataclasses become dicts, tuples lists and paths strings.

    Beside a folder whose content counts stands `<field>_content`, its hash.
    """
    if isinstance(value, Joined):
        return (plain(value.config) or {}) | plain(value.beside)
    if is_dataclass(value) and not isinstance(value, type):
        out = {}
        for item in fields(value):
            out[item.name] = plain(getattr(value, item.name))
            if item.metadata.get("content") and out[item.name]:
                out[f"{item.name}_content"] = folder_content(Path(out[item.name]))
        return out
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value


def counted(value: Any) -> Any:
    """What of a value counts, as JSON holds it: plain() without knobs and without the places of
    folders whose content counts.
    """
    if isinstance(value, Joined):
        return (counted(value.config) or {}) | counted(value.beside)
    if is_dataclass(value) and not isinstance(value, type):
        return {
            item.name: _counted_field(getattr(value, item.name), item.metadata)
            for item in fields(value)
            if not item.metadata.get("how")
        }
    if isinstance(value, Mapping):
        return {str(key): counted(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [counted(item) for item in value]
    return plain(value)


def digest(value: Any) -> str:
    """16 hex digits of the SHA-256 of what counts of a value, as JSON with sorted keys."""
    return _digest_of_counted(counted(value))


def _digest_of_counted(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]


def code_version_of(modules: Sequence[Path]) -> str:
    """16 hex digits over what these Python files, or folders of them, do."""
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
    return digest([asset, dict(parents), config, code_version, seed])


def version_of_counted(
    asset: str, parents: Mapping[str, str], config: Any, code_version: str, seed: int | None = None
) -> str:
    """The same for a configuration of which counted() was taken before: for many artefacts that
    have one configuration.
    """
    return _digest_of_counted([asset, dict(parents), config, code_version, seed])


def counted_packages(imported: Iterable[str]) -> dict[str, str]:
    """First and second number of the version of those packages among `imported` that count, by the
    name that code imports.
    """
    counts = sorted({name.split(".")[0] for name in imported} & set(COUNTED_PACKAGES))
    return {name: minor_version(COUNTED_PACKAGES[name]) for name in counts}


def minor_version(distributions: Iterable[str]) -> str:
    """The first two numbers of the version of the first of these distributions that is installed;
    "" if none is.
    """
    installed = next((found for name in distributions if (found := _installed(name))), "")
    return ".".join(installed.split("+")[0].split(".")[:2])


@cache
def _installed(distribution: str) -> str:
    from importlib import metadata  # takes as long to import as all the rest

    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return ""


def _counted_field(value: Any, metadata: Mapping[str, Any]) -> Any:
    if metadata.get("content") and value:
        return {"content": folder_content(Path(value))}
    return counted(value)
