"""The promoted student of a lake: the version that passed its gates, which nothing removes.

`<lake>/promoted` is a symlink to that version's folder, swapped atomically. `.promotions.json` says
since when, by which evaluation, and which versions were promoted before.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from storage.durable import damaged, place_link, read_object, sync_folder, warn, write_text
from storage.errors import ArtifactError
from storage.version_store import PROMOTED, VersionStore, version_of_folder

HISTORY_FILE = ".promotions.json"
KEPT = 2  # the promoted version, and the one that rollback() returns to


@dataclass(frozen=True, slots=True)
class Promotion:
    """A student that passed its gates."""

    version: str  # of the student
    evaluation: str  # version of the evaluation that it passed with
    since_utc: str


def promoted_student(root: Path) -> Path | None:
    """Folder of the promoted student of the lake at `root`, with links resolved; None if no student
    was promoted.
    """
    link = root / PROMOTED
    return link.resolve() if (link / "lineage.json").is_file() else None


def read_promotions(root: Path) -> list[Promotion]:
    """Every promotion of a lake, oldest first, without those that were rolled back; empty if there
    was none or the file is damaged, which a warning says.
    """
    file = root / HISTORY_FILE
    try:
        values = (read_object(file) or {}).get("promotions", [])
        return [
            Promotion(*(str(item[name]) for name in Promotion.__slots__))
            for item in values
            if isinstance(item, dict)
        ]
    except (TypeError, KeyError) as error:
        warn(damaged(file, error))
    except ArtifactError as error:
        warn(error)
    return []


def point_to(root: Path, folder: Path, promotions: list[Promotion]) -> None:
    """Make `folder`, a version's folder in this lake, the promoted student, and keep the list."""
    text = json.dumps({"promotions": [asdict(item) for item in promotions]}, indent=1)
    write_text(root / HISTORY_FILE, text)  # first: what it names is not removed
    place_link(root / PROMOTED, folder.resolve().relative_to(root.resolve()))
    sync_folder(root)


def protected_folders(root: Path) -> set[Path]:
    """Folders of versions that are never removed: students that are promoted, or were before, and
    their evaluations; resolved.
    """
    folders = {root.joinpath(PROMOTED).resolve()}
    for item in read_promotions(root)[-KEPT:]:
        folders |= set(folders_of(root / "student", item.version))
        folders |= set(folders_of(root / "evaluation", item.evaluation))
    return folders


def folders_of(path: Path, version: str) -> list[Path]:
    """Folders in which a version of the artefact `path` lies, resolved; the present one first."""
    store = VersionStore(path)
    present = store.present()
    found = [item.resolve() for item in store.versions() if version_of_folder(item) == version]
    return sorted(found, key=lambda item: item != present)
