"""The inventory of one raw log: its files, their fingerprint, and the log's capabilities."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from storage.artifact import Lineage, damaged, digest, read_object, write_artifact
from storage.errors import ArtifactError
from storage.sources import file_states, fingerprint, open_source
from storage.sources.contract import Capabilities, LogRef

INVENTORY_FILE = "inventory.json"


@dataclass(frozen=True, slots=True)
class Inventory:
    """The content of one raw log."""

    log_id: str
    split: str  # train | val | test
    location: str  # map name, "" without a map
    files: int  # all files that the log's reader uses
    images: int
    bytes: int
    fingerprint: str  # digest of all bytes; it changes when the log changes
    # digest of names, sizes and modification times; the fingerprint is reused while it is the same
    stamp: str
    capabilities: Capabilities


def take_inventory(source: str, raw: Path, ref: LogRef, path: Path, lineage: Lineage) -> Inventory:
    """Make the artefact `path` with `inventory.json`. Raises SourceError for an unreadable log."""
    log = open_source(source, raw).open(ref.log_id)
    files = [*ref.files, *ref.image_files]
    inventory = Inventory(
        log.log_id,
        log.split,
        log.location,
        len(files),
        len(ref.image_files),
        sum(size for _, size, _ in file_states(ref)),
        fingerprint(ref),
        stamp_of(ref),
        log.capabilities,
    )
    with write_artifact(path, lineage) as out:
        (out / INVENTORY_FILE).write_text(json.dumps(asdict(inventory), indent=1))
    return inventory


def read_inventory(path: Path) -> Inventory:
    """The inventory in a finished artefact. Raises ArtifactError if there is none or it is damaged.
    Fields that a newer version adds are left out.
    """
    file = path / INVENTORY_FILE
    values = read_object(file)
    if values is None:
        raise ArtifactError(
            "there is no inventory here",
            where=path,
            expected=INVENTORY_FILE,
            do="run: latentvla run --until raw_logs",
        )
    try:
        capabilities = _known(Capabilities, values["capabilities"])
        capabilities["cameras"] = tuple(capabilities["cameras"])
        known = _known(Inventory, values) | {"capabilities": Capabilities(**capabilities)}
        return Inventory(**known)
    except (TypeError, KeyError) as error:
        raise damaged(file, f"{type(error).__name__}: {error}") from error


def _known(kind: Any, values: dict[str, Any]) -> dict[str, Any]:
    """Those of `values` that are fields of this dataclass."""
    return {item.name: values[item.name] for item in fields(kind) if item.name in values}


def inventory_by_split(inventories: Sequence[Inventory]) -> list[dict[str, Any]]:
    """One row a split: number of logs, files and images, MB, and what its first log holds."""
    rows = []
    for split in sorted({item.split for item in inventories}):
        members = [item for item in inventories if item.split == split]
        capabilities = members[0].capabilities
        rows.append(
            {
                "split": split,
                "logs": len(members),
                "files": sum(item.files for item in members),
                "images": sum(item.images for item in members),
                "MB": sum(item.bytes for item in members) / 1e6,
                "cameras": ", ".join(capabilities.cameras),
                "agents": capabilities.agents,
                "map": capabilities.map,
                "command": capabilities.command,
            }
        )
    return rows


def stamp_of(ref: LogRef) -> str:
    """Digest of the names, sizes and modification times of a log's files; reads no file.

    Raises SourceError for a file that is gone or cannot be reached.
    """
    return digest([list(state) for state in file_states(ref)])
