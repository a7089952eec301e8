"""Artefacts: directories with a `lineage.json` that are replaced atomically.

`<lake>/<name>` is a symlink to `<lake>/.versions/<name>-<version>`. A new version is written to a
temporary directory and then the symlink is swapped, so a reader sees the old artefact or the new
one, never half of one. A killed run leaves only a temporary directory, which the next run removes.
"""

import json
import os
import platform
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from glob import escape
from pathlib import Path
from typing import Any

from storage.asset_names import PER_LOG_ASSETS
from storage.errors import ArtifactError
from storage.versions import code_version_of as code_version_of
from storage.versions import digest as digest
from storage.versions import plain
from storage.versions import version_of as version_of

LINEAGE_FILE = "lineage.json"
CHECKS_FILE = "checks.json"


@dataclass(frozen=True, slots=True)
class Lineage:
    """The inputs an artefact was made from; `version` is the hash of all that can change it."""

    # asset key, with the log for artefacts of one log: "frames/<log_id>"
    asset: str
    version: str  # version_of(...) below
    parents: dict[str, str]  # name of each input artefact -> its version
    config: dict[str, Any]  # the configuration of this asset alone
    code_version: str  # code_version_of(...) of the modules that make it
    seed: int | None = None
    created_utc: str = ""  # filled in when written
    seconds: float = 0.0  # wall time of the work; filled in when written
    machine: dict[str, str] = field(default_factory=dict)


def planned_lineage(
    asset: str, parents: Mapping[str, str], config: Any, code_version: str, seed: int | None = None
) -> Lineage:
    """The lineage of an artefact that has these inputs; write_artifact takes it."""
    return Lineage(
        asset,
        version_of(asset, parents, config, code_version, seed),
        dict(parents),
        plain(config),
        code_version,
        seed,
    )


def read_lineage(path: Path) -> Lineage:
    """Lineage of the artefact at `path`. Raises ArtifactError if there is none."""
    file = path / LINEAGE_FILE
    if not file.exists():
        asset = path.parent.name if path.parent.name in PER_LOG_ASSETS else path.name
        raise ArtifactError(
            f"there is no artefact '{path.name}' here",
            where=path,
            expected=file,
            do=f"run: latentvla run --until {asset}",
        )
    return Lineage(**json.loads(file.read_text()))


def is_current(path: Path, version: str) -> bool:
    """True if `path` holds a finished artefact of exactly this version."""
    file = path / LINEAGE_FILE
    return file.exists() and json.loads(file.read_text())["version"] == version


@contextmanager
def write_artifact(path: Path, lineage: Lineage) -> Iterator[Path]:
    """Yield an empty directory to fill; on a clean exit it atomically becomes `path`.

    After an exception it is removed and `path` stays as it was.
    """
    versions = path.parent / ".versions"
    final = versions / f"{path.name}-{lineage.version}"
    unfinished = versions / f"{path.name}-{lineage.version}.part-{os.getpid()}"
    for leftover in versions.glob(f"{escape(path.name)}-*.part-*"):
        name, _, writer = leftover.name.rpartition(".part-")
        # "log-1" must not remove work on "log-1-a"
        if len(name) == len(final.name) and not _is_running(writer):
            shutil.rmtree(leftover, ignore_errors=True)
    unfinished.mkdir(parents=True)
    start = time.monotonic()
    try:
        yield unfinished
        finished = asdict(lineage) | {
            "created_utc": datetime.now(UTC).isoformat(timespec="seconds"),
            "seconds": round(time.monotonic() - start, 3),
            "machine": _machine(),
        }
        (unfinished / LINEAGE_FILE).write_text(json.dumps(finished, indent=1))
    except BaseException:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise
    if final.exists():  # the same version made again: renamed here, removed below
        discarded = versions / f"{path.name}-{'0' * len(lineage.version)}"
        shutil.rmtree(discarded, ignore_errors=True)
        os.replace(final, discarded)
    os.replace(unfinished, final)
    symlink = versions / f"{path.name}.symlink-{os.getpid()}"
    symlink.unlink(missing_ok=True)
    symlink.symlink_to(Path(".versions") / final.name)
    os.replace(symlink, path)
    for old in versions.glob(f"{escape(path.name)}-*"):
        if old != final and len(old.name) == len(final.name):
            shutil.rmtree(old, ignore_errors=True)


def record_checks(path: Path, results: Mapping[str, bool]) -> None:
    """Add outcomes of blocking checks to the artefact's `checks.json`, for require_checks."""
    unfinished = path / f"{CHECKS_FILE}.part"
    unfinished.write_text(json.dumps(read_checks(path) | dict(results), indent=1, sort_keys=True))
    os.replace(unfinished, path / CHECKS_FILE)


def read_checks(path: Path) -> dict[str, bool]:
    """Recorded outcomes of the blocking checks of the artefact at `path`; empty if none ran."""
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
            do="open the check in the Dagster UI, correct or remove the log, materialize it again",
        )


def _is_running(writer: str) -> bool:
    """True if a process with this id runs here, so that its temporary directory is in use."""
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
