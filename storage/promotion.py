"""Promotion of a student: which version is the good one, moved by gates, and back.

The gates: the blocking checks of the student were recorded and passed, and there is an evaluation
of this very student whose blocking checks were recorded and passed.
"""

from datetime import UTC, datetime
from pathlib import Path

from storage.artifact import find_lineage, read_checks
from storage.errors import ArtifactError, ConfigError
from storage.lake import Lake
from storage.lineage import find_record
from storage.promoted import Promotion, folders_of, point_to, read_promotions
from storage.promoted import promoted_student as folder_of_promoted
from storage.version_store import VersionStore, version_of_folder

STUDENT, EVALUATION = "student", "evaluation"


def promoted_student(lake: Lake) -> Path | None:
    """Folder of the student that passed its gates and was promoted, with links resolved; None if
    none was.
    """
    return folder_of_promoted(lake.root)


def promote(lake: Lake, version: str | None = None) -> Promotion:
    """Make a student, the present one if `version` is None, the promoted one.

    Raises ArtifactError, with each gate that it does not pass, or if the lake has no such student;
    ConfigError if another process holds the lake.
    """
    with lake.writing(), VersionStore(lake.root / "promoted").lock():
        folder, version = _student(lake, version)
        evaluation, faults = _gates(lake, folder, version)
        if faults:
            raise ArtifactError(
                f"student {version} does not pass its gates",
                where=folder,
                expected="checks that passed, and an evaluation of it whose checks passed",
                found="; ".join(faults),
                do="latentvla run --until evaluation; then look at its scores: latentvla score",
            )
        made = Promotion(version, evaluation, datetime.now(UTC).isoformat(timespec="seconds"))
        before = [item for item in read_promotions(lake.root) if item.version != version]
        point_to(lake.root, folder, [*before, made])
        return made


def rollback(lake: Lake) -> Promotion:
    """Make the student that was promoted before the promoted one; return its promotion.

    Raises ArtifactError if there was none or its files are gone; ConfigError if another process
    holds the lake.
    """
    with lake.writing(), VersionStore(lake.root / "promoted").lock():
        promotions = read_promotions(lake.root)
        for index in range(len(promotions) - 2, -1, -1):
            folders = folders_of(lake.asset(STUDENT), promotions[index].version)
            if folders:
                point_to(lake.root, folders[0], promotions[: index + 1])
                return promotions[index]
        raise ArtifactError(
            "there is no student to return to",
            where=lake.root,
            expected="a student that was promoted before the present one, and its files",
            found=_told(promotions),
            do=_other_student(promotions, lake),
        )


def _told(promotions: list[Promotion]) -> str:
    """What was promoted, as far as it is known."""
    if not promotions:
        return "no student was promoted here"
    *before, now = [item.version for item in promotions]
    if not before:
        return f"one promotion, of the present student {now}"
    return f"{now} is promoted; the files of those before are gone: {', '.join(before)}"


def _other_student(promotions: list[Promotion], lake: Lake) -> str:
    """What to do where there is no student to return to: the versions that could be promoted."""
    now = promotions[-1].version if promotions else None
    made = {version_of_folder(item) for item in VersionStore(lake.asset(STUDENT)).versions()}
    others = sorted(made - {now})
    if not others:
        return "keep it, or train another one, which its gates promote: latentvla run"
    return f"promote another one that is here: latentvla promote {' or '.join(others)}"


def _student(lake: Lake, version: str | None) -> tuple[Path, str]:
    """Folder and whole version of a student of the lake; `version` may be its beginning."""
    store = VersionStore(lake.asset(STUDENT))
    if version is None:
        lineage = find_lineage(store.path)
        if lineage is not None:
            with store.lock():
                store.take_in(lineage.version)
        present = store.present()
        if present is None or lineage is None:
            raise ArtifactError(
                "there is no student here",
                where=store.path,
                expected="a finished student",
                do="run: latentvla run --until evaluation",
            )
        return present, lineage.version
    found = {item.name.partition(".")[0] for item in store.versions()}
    matching = sorted(item for item in found if version and item.startswith(version))
    if len(matching) == 1:
        return folders_of(store.path, matching[0])[0], matching[0]
    if len(matching) > 1:
        raise ConfigError(
            "several students begin so",
            where=store.path,
            found=", ".join(matching),
            expected="more digits",
            do="give the whole version",
        )
    known = find_record(lake.root, version)
    raise ArtifactError(
        f"the files of student {version} are not in this lake"
        if known is not None and known.asset == STUDENT
        else f"there is no student {version!r} here",
        where=store.path,
        expected=", ".join(sorted(found)) or "a finished student",
        do="give one of these versions, or make it: latentvla run --until evaluation",
    )


def _gates(lake: Lake, folder: Path, version: str) -> tuple[str, list[str]]:
    """Version of the evaluation that a student passes with, and what it lacks to pass."""
    faults = _check_faults(folder, STUDENT)
    evaluations = [
        (item, lineage)
        for item in _evaluations(lake)
        if (lineage := find_lineage(item)) is not None and lineage.parents.get(STUDENT) == version
    ]
    if not evaluations:
        return "", [*faults, "no evaluation of this student"]
    outcomes = [(lineage.version, _check_faults(item, EVALUATION)) for item, lineage in evaluations]
    passed, missing = min(outcomes, key=lambda outcome: len(outcome[1]))
    return passed, [*faults, *missing]


def _evaluations(lake: Lake) -> list[Path]:
    store = VersionStore(lake.asset(EVALUATION))
    present = store.present()
    rest = [item for item in store.versions() if item.resolve() != present]
    return [*([present] if present is not None else []), *rest]


def _check_faults(folder: Path, name: str) -> list[str]:
    checks = read_checks(folder)
    if not checks:
        return [f"the checks of the {name} were not recorded"]
    return [f"check {check} of the {name} failed" for check, passed in checks.items() if not passed]
