"""Version of the code that makes an artefact: a hash over the modules that do the work and all
our modules that they import.
"""

from functools import lru_cache
from pathlib import Path

from storage.source_files import read_source
from storage.versions import code_version_of

ROOT = Path(__file__).parents[2]
OUR_PACKAGES = ("assets", "models", "ops", "storage")
# Code that cannot change what an artefact holds; a change here makes nothing stale.
CODE_VERSION_EXCLUDES = (
    "storage/errors.py",
    "storage/artifact.py",
    "storage/versions.py",
    "storage/lake.py",
    "storage/catalogue.py",
    "ops/training/launch.py",
    "ops/ingest/each_log.py",
    "ops/ingest/quarantine.py",
)


@lru_cache
def code_version_of_modules(modules: tuple[str, ...]) -> str:
    """16 hex digits over these files or folders below the root, and what they import."""
    return code_version_of([ROOT / name for name in modules_of(modules)])


def modules_of(modules: tuple[str, ...]) -> list[str]:
    """Paths of these files or folders and of every module of ours that they import, also inside
    functions, without CODE_VERSION_EXCLUDES.
    """
    pending = [file for name in modules for file in _python_files(ROOT / name)]
    seen: set[Path] = set()
    while pending:
        file = pending.pop()
        if file in seen or str(file.relative_to(ROOT)) in CODE_VERSION_EXCLUDES:
            continue
        seen.add(file)
        pending += [module for name in _imported(file) for module in _files_of_module(name)]
    return sorted(str(file.relative_to(ROOT)) for file in seen)


def _python_files(path: Path) -> list[Path]:
    return sorted(path.rglob("*.py")) if path.is_dir() else [path] if path.exists() else []


def _imported(file: Path) -> list[str]:
    return [name for name in read_source(file).imports if name.split(".")[0] in OUR_PACKAGES]


def _files_of_module(name: str) -> list[Path]:
    path = ROOT.joinpath(*name.split("."))
    return [file for file in (path.with_suffix(".py"), path / "__init__.py") if file.exists()]
