"""An artefact: a directory that is written aside and appears whole, with `lineage.json` in it. Not
what is inside.

`<lake>/<name>` is a symbolic asset to `<lake>/.versions/<name>-<version>`; swapping the asset is
atomic, so a reader sees the old artefact or the new one, never half of one, and a killed run leaves
only an unfinished directory that the next run removes.
"""

import ast
import hashlib
import json
import os
import platform
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, is_dataclass
from datetime import UTC, datetime
from functools import cache
from glob import escape
from pathlib import Path
from typing import Any

from storage.errors import ArtifactError

LINEAGE_FILE = "lineage.json"
CHECKS_FILE = "checks.json"


@dataclass(frozen=True, slots=True)
class Lineage:
    """What made an artefact. `version` is the hash of everything that can change its content."""

    # asset key, with the log for artefacts of one log: "frames/<log_id>"
    asset: str
    version: str  # version_of(...) below
    parents: dict[str, str]  # name of each input artefact -> its version
    config: dict[str, Any]  # the configuration of this asset alone
    code_version: str  # code_version_of(...) of the modules that did the work
    seed: int | None = None
    created_utc: str = ""  # filled in when written
    seconds: float = 0.0  # wall time of the work; filled in when written
    machine: dict[str, str] = field(default_factory=dict)


def _plain(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return {key: _plain(item) for key, item in asdict(value).items()}
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value


def digest(value: Any) -> str:
    """16 hex digits of the SHA-256 of a value's canonical JSON; dataclasses and paths are made
    plain first.
    """
    return hashlib.sha256(json.dumps(_plain(value), sort_keys=True).encode()).hexdigest()[:16]


def code_version_of(modules: Sequence[Path]) -> str:
    """16 hex digits over the syntax trees of Python files or folders of them; comments and layout
    do not count.
    """
    files = sorted(
        file for path in modules for file in (path.rglob("*.py") if path.is_dir() else [path])
    )
    return digest([[file.name, _syntax_digest(file, file.stat().st_mtime_ns)] for file in files])


@cache
def _syntax_digest(file: Path, _mtime_ns: int) -> str:
    return digest(ast.dump(ast.parse(file.read_text())))


def version_of(
    asset: str, parents: Mapping[str, str], config: Any, code_version: str, seed: int | None = None
) -> str:
    """The version an artefact will have: known before the work is done, so unchanged work is not
    done again.
    """
    return digest([asset, dict(parents), _plain(config), code_version, seed])


def plan(
    asset: str, parents: Mapping[str, str], config: Any, code_version: str, seed: int | None = None
) -> Lineage:
    """The lineage an artefact will have, from its inputs."""
    return Lineage(
        asset,
        version_of(asset, parents, config, code_version, seed),
        dict(parents),
        _plain(config),
        code_version,
        seed,
    )


def read_lineage(path: Path) -> Lineage:
    """Lineage of the artefact at `path`. Raises ArtifactError if there is none."""
    file = path / LINEAGE_FILE
    if not file.exists():
        raise ArtifactError(
            f"there is no artefact '{path.name}' here",
            where=path,
            expected=file,
            do=f"make it: latentvla run --until {path.name.split('/')[0]}",
        )
    return Lineage(**json.loads(file.read_text()))


def is_current(path: Path, version: str) -> bool:
    """True if `path` holds a finished artefact of exactly this version."""
    file = path / LINEAGE_FILE
    return file.exists() and json.loads(file.read_text())["version"] == version


@contextmanager
def write_artifact(path: Path, lineage: Lineage) -> Iterator[Path]:
    """Yield an empty directory to fill; on a clean exit it becomes `path` in one step, else it is
    removed.
    """
    versions = path.parent / ".versions"
    final = versions / f"{path.name}-{lineage.version}"
    aside = versions / f"{path.name}-{lineage.version}.part-{os.getpid()}"
    for leftover in versions.glob(f"{escape(path.name)}-*.part-*"):
        name, _, writer = leftover.name.rpartition(".part-")
        # "log-1" must not remove work on "log-1-a"
        if len(name) == len(final.name) and not _is_at_work(writer):
            shutil.rmtree(leftover, ignore_errors=True)
    aside.mkdir(parents=True)
    start = time.monotonic()
    try:
        yield aside
        done = asdict(lineage) | {
            "created_utc": datetime.now(UTC).isoformat(timespec="seconds"),
            "seconds": round(time.monotonic() - start, 3),
            "machine": _machine(),
        }
        (aside / LINEAGE_FILE).write_text(json.dumps(done, indent=1))
    except BaseException:
        shutil.rmtree(aside, ignore_errors=True)
        raise
    if final.exists():  # the same version made again: out of the way in one step, removed below
        discarded = versions / f"{path.name}-{'0' * len(lineage.version)}"
        shutil.rmtree(discarded, ignore_errors=True)
        os.replace(final, discarded)
    os.replace(aside, final)
    asset = versions / f"{path.name}.asset-{os.getpid()}"
    asset.unlink(missing_ok=True)
    asset.symlink_to(Path(".versions") / final.name)
    os.replace(asset, path)
    for old in versions.glob(f"{escape(path.name)}-*"):
        if old != final and len(old.name) == len(final.name):
            shutil.rmtree(old, ignore_errors=True)


def record_checks(path: Path, results: Mapping[str, bool]) -> None:
    """Write the outcome of the blocking checks beside the artefact, for later runs to refuse bad
    inputs.
    """
    aside = path / f"{CHECKS_FILE}.part"
    aside.write_text(json.dumps(read_checks(path) | dict(results), indent=1, sort_keys=True))
    os.replace(aside, path / CHECKS_FILE)


def read_checks(path: Path) -> dict[str, bool]:
    """Recorded outcomes of the blocking checks of the artefact at `path`; empty if none ran yet."""
    file = path / CHECKS_FILE
    return json.loads(file.read_text()) if file.exists() else {}


def require_checks(path: Path) -> None:
    """Raise ArtifactError if a recorded blocking check of the artefact at `path` failed."""
    failed = [name for name, passed in read_checks(path).items() if not passed]
    if failed:
        raise ArtifactError(
            f"'{path.name}' failed its data checks",
            where=path,
            found=", ".join(sorted(failed)),
            do="open the check in the Dagster UI, mend or quarantine the log, and materialize it again",
        )


def _is_at_work(writer: str) -> bool:
    """True if a process of this number runs here: its unfinished artefact is not a leftover."""
    try:
        os.kill(int(writer), 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return int(writer) != os.getpid()


def _machine() -> dict[str, str]:
    return {
        "host": platform.node(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpus": str(os.cpu_count()),
    }
