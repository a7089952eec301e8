"""Takes stock of one raw log: its files, its bytes and what it holds. Reads no pixel and changes
nothing.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from storage.artifact import Lineage, digest, write_artifact
from storage.errors import ArtifactError
from storage.sources import fingerprint, open_source
from storage.sources.contract import Capabilities, LogRef

INVENTORY_FILE = "inventory.json"


@dataclass(frozen=True, slots=True)
class Inventory:
    """What one raw log consists of."""

    log_id: str
    split: str  # train | val | test
    location: str  # map name, "" without a map
    files: int  # all files that the log's reader uses
    images: int
    bytes: int
    fingerprint: str  # of the bytes; another fingerprint means that the log changed
    # of names, sizes and times of change; while it is the same, no byte is read again
    stamp: str
    capabilities: Capabilities


def take_inventory(source: str, raw: Path, ref: LogRef, path: Path, lineage: Lineage) -> Inventory:
    """Make the artefact `path` with `inventory.json` in it. Raises SourceError if the log cannot be
    opened.
    """
    log = open_source(source, raw).open(ref.log_id)
    files = [*ref.files, *ref.image_files]
    inventory = Inventory(
        log.log_id,
        log.split,
        log.location,
        len(files),
        len(ref.image_files),
        sum(file.stat().st_size for file in files),
        fingerprint(ref),
        stamp_of(ref),
        log.capabilities,
    )
    with write_artifact(path, lineage) as out:
        (out / INVENTORY_FILE).write_text(json.dumps(asdict(inventory), indent=1))
    return inventory


def read_inventory(path: Path) -> Inventory:
    """The inventory in a finished artefact. Raises ArtifactError if there is none."""
    file = path / INVENTORY_FILE
    if not file.exists():
        raise ArtifactError(
            "there is no inventory here",
            where=path,
            expected=INVENTORY_FILE,
            do="make it: latentvla run --until raw_logs",
        )
    values = json.loads(file.read_text())
    capabilities = values.pop("capabilities")
    return Inventory(
        **values,
        capabilities=Capabilities(**capabilities | {"cameras": tuple(capabilities["cameras"])}),
    )


def stamp_of(ref: LogRef) -> str:
    """Digest of names, sizes and times of change of a log's files: cheap, and changes whenever a
    file is written.
    """
    stats = [(file.name, file.stat()) for file in (*ref.files, *ref.image_files)]
    return digest([[name, stat.st_size, stat.st_mtime_ns] for name, stat in stats])


def fingerprint_of(ref: LogRef, path: Path) -> str:
    """The log's fingerprint, taken from the inventory at `path` if no file was written since."""
    if (path / INVENTORY_FILE).exists():
        inventory = read_inventory(path)
        if inventory.stamp == stamp_of(ref):
            return inventory.fingerprint
    return fingerprint(ref)
