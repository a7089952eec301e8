"""Version of the code that makes an artefact, and of the rules that check it: hashes over the
modules that do the work and all our modules that they import.

Code is named by files and folders below the repository root, and by parts of a file:

    ops/vla/finetune.py                    a module
    storage/sources                        every module of a folder
    ops/training/launch.py::Session.prepare  a function, class or value of a module
    assets/vla.py::vla()                   what happens in an asset's body, without its declaration
                                           and without what Dagster is shown of the result

What code imports counts too, as do files such as templates that it names and that lie beside it.
"""

from collections.abc import Sequence
from functools import cache, lru_cache
from hashlib import sha256
from pathlib import Path
from typing import Any

from storage.source_files import SourceFile, read_part, read_source, store_sources
from storage.versions import counted_packages, digest

ROOT = Path(__file__).parents[2]
# Assets are named by their bodies; the rest of assets/ runs and shows them.
OUR_PACKAGES = ("models", "ops", "storage")
# Code that cannot change what later assets read; a change here makes nothing stale, unless the code
# of an asset names it.
CODE_VERSION_EXCLUDES = (
    "storage/errors.py",
    "storage/printable.py",
    "storage/artifact.py",
    "storage/asset_names.py",
    "storage/contents.py",
    "storage/source_files.py",
    "storage/versions.py",
    "storage/version_store.py",
    "storage/durable.py",
    "storage/lineage.py",
    "storage/locks.py",
    "storage/manifest.py",
    "storage/openlineage.py",
    "storage/promoted.py",
    "storage/provenance.py",
    "storage/collect.py",
    "storage/lineage_lookup.py",
    "storage/promotion.py",
    "storage/writers.py",
    "storage/lake.py",
    "storage/catalogue.py",
    "ops/pool.py",
    "ops/training/launch.py",
    "ops/training/runs.py",
    "ops/ingest/each_log.py",
    "ops/ingest/quarantine.py",
    # pictures of a codebook and times of a student, which nothing but the report shows
    "ops/latent_actions/pictures.py",
    "ops/planners/latency.py",
)
# Parts of excluded modules that do change what artefacts hold.
COUNTED_PARTS = {
    "ops/training/launch.py": ("Session.prepare", "Session.average_batch_norm"),
}
# The function that holds the checks of an asset, where it is not called `<asset>_checks`.
CHECKS = {"report": "opens_offline"}
# The package that runs data rules: what those functions call in assets/ counts if it imports it.
_RULES_PACKAGE = "ops.quality"


@lru_cache
def code_version_of_modules(code: tuple[str, ...], root: Path = ROOT) -> str:
    """16 hex digits over this code below the root, what it imports, and the first two numbers of
    the versions of the packages that it computes and writes with.
    """
    found = _closure(code, root)
    packages = counted_packages(name for source in found.values() for name in source.imports)
    store_sources()
    return digest([[[name, source.digest] for name, source in sorted(found.items())], packages])


def rules_version(asset: str, limits: Any = None, root: Path = ROOT) -> str:
    """16 hex digits over the rules by which an asset is checked and their configured `limits`.

    Checks that were recorded under another version have to run again; the artefact stays.
    """
    return digest([_code_of_rules(asset, root), limits])


@lru_cache
def _code_of_rules(asset: str, root: Path) -> str:
    found = _rules(asset, root)
    store_sources()
    return digest([[name, source.digest] for name, source in sorted(found.items())])


def rules_modules(asset: str, root: Path = ROOT) -> list[str]:
    """Names of everything that counts for the rules of an asset, as modules_of() names code."""
    return sorted(_rules(asset, root))


def _rules(asset: str, root: Path) -> dict[str, SourceFile]:
    """All code that counts for the checks of an asset, by name."""
    code = {f"assets/{asset}.py::{CHECKS.get(asset, f'{asset}_checks')}"}
    while True:
        found = _closure(sorted(code), root)
        imports = {name for source in found.values() for name in source.imports}
        parts = {part for name in imports for part in _part_with_rules(name, root)} - found.keys()
        if not parts:
            return found
        code |= parts


@cache
def _part_with_rules(name: str, root: Path) -> tuple[str, ...]:
    """The function of assets/ that has this name, if it runs data rules."""
    module, _, part = name.rpartition(".")
    path = f"{module.replace('.', '/')}.py"
    if not name.startswith("assets.") or not (root / path).is_file():
        return ()
    try:
        imports = _source(root / path, part).imports
    except LookupError:  # what the module has imported itself
        return ()
    return (f"{path}::{part}",) if any(item.startswith(_RULES_PACKAGE) for item in imports) else ()


def modules_of(code: tuple[str, ...], root: Path = ROOT) -> list[str]:
    """Names of everything that counts for this code: modules, parts of modules and files that they
    read, as paths below the root.
    """
    return sorted(_closure(code, root))


def _closure(code: Sequence[str], root: Path) -> dict[str, SourceFile]:
    """All code that counts, by name."""
    pending = [name for item in code for name in _expanded(item, root)]
    found: dict[str, SourceFile] = {}
    while pending:
        name = pending.pop()
        if name in found:
            continue
        path, _, part = name.partition("::")
        source = found[name] = _source(root / path, part)
        if part:
            pending += [f"{path}::{used}" for used in source.names]
        else:
            found |= _files_beside(path, source.names, root)
        for imported in source.imports:
            pending += _modules_of_import(imported, root)
    return found


@cache
def _source(file: Path, part: str) -> SourceFile:
    if part:
        return read_part(file, part.removesuffix("()"), body=part.endswith("()"))
    return read_source(file)


def _expanded(item: str, root: Path) -> list[str]:
    """The modules of a folder; everything else as it is. Raises LookupError if it does not exist:
    code that has moved must not silently stop to count.
    """
    path = root / item.partition("::")[0]
    if not path.exists():
        raise LookupError(f"{path} does not exist, but a code version names it")
    if not path.is_dir():
        return [item]
    return [file.relative_to(root).as_posix() for file in sorted(path.rglob("*.py"))]


def _files_beside(path: str, names: Sequence[str], root: Path) -> dict[str, SourceFile]:
    """Files in a module's folder that it names and that are no Python, such as templates."""
    folder = Path(path).parent
    files = [folder / name for name in names if not name.endswith(".py")]
    return {
        file.as_posix(): SourceFile(_bytes_digest(root / file), (), ())
        for file in files
        if (root / file).is_file()
    }


def _bytes_digest(file: Path) -> str:
    return sha256(file.read_bytes()).hexdigest()[:16]


@cache
def _modules_of_import(name: str, root: Path) -> tuple[str, ...]:
    """What counts of an imported module or name: the module, or parts of an excluded one."""
    if name.split(".")[0] not in OUR_PACKAGES:
        return ()
    stem = name.replace(".", "/")
    paths = [path for path in (f"{stem}.py", f"{stem}/__init__.py") if (root / path).exists()]
    return (
        *(path for path in paths if path not in CODE_VERSION_EXCLUDES),
        *(f"{path}::{part}" for path in paths for part in COUNTED_PARTS.get(path, ())),
    )
