"""The versions of one artefact: `<folder>/.versions/<name>/<version>`, and the link to one of them.

`<folder>/<name>` is a symlink to the present version. A version is made in a folder `.part-...`
beside it, synced, renamed, and then the link is swapped: a reader sees the old version or the new
one at every moment. The link to swap in is laid out first (`.next`), so that a version whose writer
was killed between the two renames is found and taken. Making a version again gives a folder of its
own (`<version>.2`): nothing that is being read is replaced.
"""

import contextlib
import ctypes
import fcntl
import os
import re
import shutil
import time
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from storage.durable import sync_folder, sync_tree
from storage.locks import locked
from storage.writers import tag_is_running, this_writer

VERSIONS = ".versions"
NEXT = ".next"  # symlink that becomes the artefact's
LOCK = ".lock"
PROMOTED = "promoted"  # of a lake: symlink to a version that is never removed
_REMOVED = ".removed-"
_PART = ".part-"
_VERSION = re.compile(r"([0-9a-f]{16})(?:\.([0-9]+))?\Z")
_UNFINISHED = re.compile(rf".*(?:{re.escape(_PART)}|{re.escape(_REMOVED)})(.+)\Z", re.DOTALL)
_EXCHANGE = 2  # renameat2's RENAME_EXCHANGE
_HERE = -100  # AT_FDCWD
_LEASE_ATTEMPTS, _LEASE_WAIT_S = 50, 0.01


@dataclass(frozen=True, slots=True)
class VersionStore:
    """The versions of the artefact `path`."""

    path: Path

    @property
    def folder(self) -> Path:
        """Where the versions lie."""
        return self.path.parent / VERSIONS / self.path.name

    def lock(self) -> contextlib.AbstractContextManager[None]:
        """Hold this artefact for writing. Raises ConfigError if another process does."""
        return locked(
            self.folder / LOCK,
            what=f"another process is making '{self.path.name}'",
            do="wait until it has finished; then the same command finds it made",
        )

    def new_part(self, version: str) -> Path:
        """An empty folder in which a version is made. The lock must be held."""
        self.remove_unfinished()
        part = self.folder / f"{version}{_PART}{this_writer().tag}"
        part.mkdir(parents=True)
        return part

    def remove_unfinished(self) -> None:
        """Remove what dead processes left. Folders of other hosts stay: nobody can say whether
        their writers live.
        """
        for item in self._entries():
            match = _UNFINISHED.match(item.name)
            mine = match is not None and match[1] == this_writer().tag
            if match is not None and (mine or tag_is_running(match[1]) is False):
                shutil.rmtree(item, ignore_errors=True)

    def publish(
        self, part: Path, version: str, *, durable: bool = True, beside: Sequence[Path] = ()
    ) -> Path:
        """Make a finished part the artefact's present version; return its folder. What it needs
        `beside` it is on the disk before it appears.
        """
        if durable:
            sync_tree(part, self.path.parent, self.folder.parent, self.folder, *beside)
        final, before = self._free_name(version), self._flat_version()
        self._stage(final)
        os.rename(part, final)
        if durable:
            sync_folder(self.folder)
        self._swap()
        if durable:
            sync_folder(self.path.parent)
        if before is not None:
            os.rename(before, self._free_name(before.name[len(self.path.name) + 1 :]))
        return final

    def adopt(self) -> bool:
        """Take a version that was finished and not yet linked when its writer was killed; True if
        there was one. Its lock must be held.
        """
        final = self.waiting()
        if final is None:
            return False
        self._swap()
        sync_folder(self.path.parent)
        return True

    def take_in(self, version: str) -> None:
        """If the artefact is a folder where a link belongs, as in a copy of the lake that followed
        the links: make it a version, without a moment without it. The lock must be held.
        """
        if not self.path.is_dir() or self.path.is_symlink():
            return
        final, part = self._free_name(version), self.new_part(version)
        shutil.copytree(self.path, part, symlinks=True, copy_function=os.link, dirs_exist_ok=True)
        self._stage(final)
        os.rename(part, final)
        self._swap()

    def waiting(self) -> Path | None:
        """The finished version that is not linked yet, or None."""
        try:
            target = os.readlink(self.folder / NEXT)
        except OSError:
            return None
        final = self.path.parent / target
        return final if final.parent == self.folder and final.is_dir() else None

    def versions(self) -> list[Path]:
        """The finished versions, unordered; of a version that was made again, each making."""
        return [item for item in self._entries() if _VERSION.match(item.name)]

    def present(self) -> Path | None:
        """The folder of the present version, or None."""
        return self.path.resolve() if self.path.exists() else None

    def remove_versions(self, keep: int, never: Collection[Path] = ()) -> list[Path]:
        """Remove versions beyond the `keep` newest and return them. The present one, those in
        `never` (resolved paths), and what is being read stay. The lock must be held.
        """
        present, waiting = self.present(), self.waiting()
        newest = sorted(self.versions(), key=lambda item: item.stat().st_mtime_ns, reverse=True)
        kept = {version_of_folder(present)} if present is not None else set()
        removed = []
        for item in newest:
            version, real = version_of_folder(item), item.resolve()
            if real == present or real in never or item == waiting:
                continue
            if version in kept or len(kept) >= max(keep, 1):
                if remove_folder(item):
                    removed.append(item)
            else:
                kept.add(version)
        return removed

    def _entries(self) -> list[Path]:
        try:
            with os.scandir(self.folder) as entries:
                return [
                    self.folder / entry.name
                    for entry in entries
                    if entry.is_dir(follow_symlinks=False)
                ]
        except FileNotFoundError:
            return []

    def _flat_version(self) -> Path | None:
        """The present version if an earlier layout has it: `.versions/<name>-<version>`."""
        if not self.path.is_symlink():
            return None
        target = self.path.parent / os.readlink(self.path)
        prefix = f"{self.path.name}-"
        flat = target.parent == self.folder.parent and target.name.startswith(prefix)
        return target if flat and _VERSION.match(target.name[len(prefix) :]) else None

    def _free_name(self, version: str) -> Path:
        final, making = self.folder / version, 1
        while final.exists():
            making += 1
            final = self.folder / f"{version}.{making}"
        return final

    def _stage(self, final: Path) -> None:
        staged = self.folder / NEXT
        if staged.is_symlink() or not staged.is_dir():
            staged.unlink(missing_ok=True)
        else:  # a copy of the lake that followed the links
            shutil.rmtree(staged)
        staged.symlink_to(Path(VERSIONS) / self.path.name / final.name)

    def _swap(self) -> None:
        """Put the staged link in the artefact's place; a folder that lies there, as in a copy that
        followed the links, is kept as a version.
        """
        staged = self.folder / NEXT
        if self.path.is_dir() and not self.path.is_symlink():
            aside = self.folder / f"copied{_REMOVED}{this_writer().tag}"
            shutil.rmtree(aside, ignore_errors=True)
            if _exchange(staged, self.path):
                os.rename(staged, aside)
            else:
                os.rename(self.path, aside)
                os.replace(staged, self.path)
            version = _version_in(aside)
            if version is None or (self.folder / version).exists():
                shutil.rmtree(aside, ignore_errors=True)
            else:
                os.rename(aside, self._free_name(version))
        else:
            os.replace(staged, self.path)


def version_of_folder(folder: Path) -> str:
    """The version in the name of a version's folder; the whole name of another folder."""
    match = _VERSION.match(folder.name)
    return match[1] if match else folder.name


def is_unfinished(folder: Path) -> bool:
    """True for a folder that is being made or removed, and for what lies in one."""
    return any(_PART in name or _REMOVED in name for name in folder.parts)


def writer_tag(name: str) -> str | None:
    """The writer in the name of an unfinished file or folder; None for another name."""
    match = _UNFINISHED.match(name)
    return match[1] if match else None


def remove_folder(folder: Path) -> bool:
    """Remove the folder of a version unless it is being read: True if it is gone. A kill in the
    middle leaves no half version.
    """
    aside = folder.with_name(f"{folder.name}{_REMOVED}{this_writer().tag}")
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except FileNotFoundError:
        return True
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(aside, ignore_errors=True)
        os.rename(folder, aside)
    except OSError:
        return False
    finally:
        os.close(descriptor)
    shutil.rmtree(aside, ignore_errors=True)
    return True


@contextlib.contextmanager
def reading(path: Path) -> Iterator[Path]:
    """The folder of an artefact's present version, which nobody removes or replaces while it is
    read. Where `path` is no artefact: itself.
    """
    with contextlib.ExitStack() as stack:
        for _ in range(_LEASE_ATTEMPTS):
            present = path.resolve()
            leased = next(
                (item for item in reversed(present.parents) if _is_version(item)),
                present if _is_version(present) else None,
            )
            if leased is None or _lease(leased, stack):
                break
            time.sleep(_LEASE_WAIT_S)
        yield present


def _is_version(folder: Path) -> bool:
    return folder.parent.parent.name == VERSIONS and bool(_VERSION.match(folder.name))


def _lease(folder: Path, stack: contextlib.ExitStack) -> bool:
    """Hold a folder against removal until the stack is closed; False if it is being removed."""
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except FileNotFoundError:
        return False
    except OSError:
        return True  # it cannot be held; reading it says why
    stack.callback(os.close, descriptor)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        return os.path.samestat(os.fstat(descriptor), os.stat(folder))
    except (BlockingIOError, FileNotFoundError):
        return False
    except OSError:
        return True  # a file system without locks


def _version_in(folder: Path) -> str | None:
    """The version that the lineage in a folder names, if it can be the name of a folder."""
    from storage.durable import read_object
    from storage.errors import ArtifactError

    try:
        version = (read_object(folder / "lineage.json") or {}).get("version")
    except ArtifactError:
        return None
    return version if isinstance(version, str) and _VERSION.match(version) else None


def _exchange(one: Path, other: Path) -> bool:
    """Exchange two names at once; False where system or file system cannot."""
    try:
        rename = ctypes.CDLL(None, use_errno=True).renameat2
    except (AttributeError, OSError):
        return False
    return rename(_HERE, os.fsencode(one), _HERE, os.fsencode(other), _EXCHANGE) == 0
