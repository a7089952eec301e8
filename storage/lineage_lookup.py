"""Finds lineages: of an asset, a file or folder anywhere, or a version that was ever made.

A version's lineage is looked for in the `ancestors.json` of the artefact that descends from it, in
the lake's records, and beside the present artefact if that has this very version: never is the
lineage of another version given for it.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from storage.artifact import lake_root, read_checks
from storage.asset_names import ASSET_NAMES
from storage.errors import ArtifactError, ConfigError, unknown_name
from storage.lineage import (
    RECORDS,
    Lineage,
    find_lineage,
    find_record,
    is_log_artifact,
    read_ancestors,
    read_checks_record,
    read_lineage,
)
from storage.manifest import LINEAGE_FILE
from storage.version_store import VERSIONS

# folders of a lake with artefacts that are no assets -> the verb that makes them
MADE_BESIDE = {
    "ablation": "latentvla ablate",
    "study": "latentvla study unlabelled",
    "zero_shot": "latentvla run --until evaluation",
}
_DIGITS = re.compile(r"[0-9a-f]{4,16}\Z")


@dataclass(frozen=True, slots=True)
class FoundLineage:
    """A lineage and what is needed to follow it."""

    lineage: Lineage
    root: Path  # the lake
    folder: Path | None  # of the artefact, if its files are there
    ancestors: dict[str, Lineage] = field(default_factory=dict)  # that it carries, by version

    @property
    def checks(self) -> dict[str, Any]:
        """Recorded outcomes of its blocking checks; empty if none ran."""
        checks: dict[str, Any] = dict(read_checks(self.folder)) if self.folder else {}
        return checks or read_checks_record(self.root, self.lineage.version)

    def of(self, name: str, version: str) -> Lineage | None:
        """The lineage of this version of an ancestor; None if the lake does not know it."""
        known = self.ancestors.get(version) or find_record(self.root, version)
        if known is not None:
            return known
        present = find_lineage(self.root / name)
        return present if present is not None and present.version == version else None

    def newer(self, name: str, version: str) -> str | None:
        """The version that the lake has of an ancestor now, if it is another one."""
        present = find_lineage(self.root / name)
        return None if present is None or present.version == version else present.version

    def closure(self, *, every_log: bool = False) -> dict[str, Lineage]:
        """The lineages of all ancestors that are known, by version; those of a whole lake's logs
        only if asked for.
        """
        found: dict[str, Lineage] = {}
        pending = [self.lineage]
        while pending:
            lineage = pending.pop()
            for name, version in lineage.parents.items():
                follow = every_log or not is_log_artifact(name) or is_log_artifact(lineage.asset)
                if version in found or not follow:
                    continue
                parent = self.of(name, version)
                if parent is not None:
                    found[version] = parent
                    pending.append(parent)
        return found


def find(root: Path, target: str) -> FoundLineage:
    """The lineage of `target`: an artefact's name in the lake at `root` ('student',
    'ablation/vla/0'), a path to an artefact or anything in it, or a version or its first digits.

    Raises ConfigError for what is none of these, and ArtifactError if there is no such artefact or
    its lineage is damaged.
    """
    inside = bool(target) and not Path(target).is_absolute() and ".." not in Path(target).parts
    if inside and _exists(root / target / LINEAGE_FILE):
        return _of_folder(root / target)
    path = Path(target)
    if target and _exists(path):
        for folder in (path, *path.absolute().parents):
            if _exists(folder / LINEAGE_FILE):
                return _of_folder(folder)
    if _DIGITS.match(target):
        return _of_version(root, target)
    if inside and target.split("/")[0] in ASSET_NAMES:
        read_lineage(root / target)  # raises, with the command that makes it
    if target and _exists(path):
        raise ArtifactError(
            "this path belongs to no artefact",
            where=path,
            expected=f"a folder with {LINEAGE_FILE}, or something in one",
            do="give an asset's name, the folder of an artefact, or a version",
        )
    if inside and (made_by := MADE_BESIDE.get(target.split("/")[0])) is not None:
        raise ArtifactError(
            f"there is no '{target}' in this lake",
            where=root / target.split("/")[0],
            expected="something that was made beside the assets",
            found="nothing of this name",
            do=f"make it: {made_by}",
        )
    raise unknown_name("asset", target.split("/")[0], ASSET_NAMES)


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):  # no name that a file can have
        return False


def _of_folder(folder: Path) -> FoundLineage:
    lineage, store = read_lineage(folder), folder.absolute()
    link = store.parents[2] / store.parent.name if store.parents[1].name == VERSIONS else store
    return FoundLineage(lineage, lake_root(link, lineage.asset), folder, read_ancestors(folder))


def _of_version(root: Path, digits: str) -> FoundLineage:
    versions = sorted(
        file.stem for file in (root / RECORDS).glob(f"{digits}*.json") if "." not in file.stem
    )
    if len(versions) > 1:
        raise ConfigError(
            "several versions begin so",
            where=root / RECORDS,
            found=", ".join(versions[:8]),
            expected="more digits",
            do="give the whole version",
        )
    lineage = find_record(root, versions[0]) if versions else None
    if lineage is None:
        raise ArtifactError(
            f"no version {digits!r} was made in this lake",
            where=root / RECORDS,
            expected="a version that a lineage names, or its first digits",
            do="latentvla lineage student names its versions; choose the lake with --lake",
        )
    path = root / lineage.asset
    places = [path, *sorted((path.parent / VERSIONS / path.name).glob(f"{lineage.version}*"))]
    for folder in places:
        present = find_lineage(folder)
        if present is not None and present.version == lineage.version:
            return FoundLineage(present, root, folder, read_ancestors(folder))
    return FoundLineage(lineage, root, None)


def differences(one: Lineage, other: Lineage) -> dict[str, tuple[Any, Any]]:
    """What differs between two lineages: the path of each field -> its two values, None where it is
    missing. Times and the manifest are left out.
    """
    left, right = (dict(_flat("", _told(lineage))) for lineage in (one, other))
    return {
        name: (left.get(name), right.get(name))
        for name in [*left, *(name for name in right if name not in left)]
        if left.get(name) != right.get(name)
    }


def _told(lineage: Lineage) -> dict[str, Any]:
    values = asdict(lineage)
    for name in ("created_utc", "seconds", "files", "schema"):
        del values[name]
    # a parent's name may hold dots
    parents = {f"parents[{name}]": version for name, version in values.pop("parents").items()}
    return values | parents


def _flat(prefix: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping) and value:
        for key, item in value.items():
            yield from _flat(f"{prefix}.{key}" if prefix else str(key), item)
    else:
        yield prefix, value
