"""The list of a source's logs; a log that cannot be listed stands apart with its reason."""

import os
import stat
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache, partial
from pathlib import Path

from storage.errors import SourceError
from storage.names import check_name, quoted, safe_name
from storage.sources.contract import LogRef
from storage.sources.raw_files import is_foreign, is_regular, raw_data_of, unreadable

IMAGE_ENDINGS = (".jpg", ".jpeg", ".png", ".webp", ".bmp")


class LogListing:
    """Collects logs; `refused` holds those that cannot be listed, by a printable name."""

    def __init__(self) -> None:
        self.refs: list[LogRef] = []
        self.refused: dict[str, SourceError] = {}

    def add(self, name: object, make: Callable[[], LogRef]) -> None:
        """Add the log that `make` describes. A SourceError, and whatever else its data make the
        reader raise, refuses this log alone; a name that is no part of a path is never given on.
        """
        shown = safe_name(name)
        try:
            with raw_data_of(shown, "the list of logs"):
                check_name(name)
                self.refs.append(make())
        except SourceError as error:
            self.refused[shown] = error

    def add_by_name(
        self,
        paths: Iterable[Path],
        log_of: Callable[[Path], str],
        make: Callable[[str, list[Path]], LogRef],
    ) -> None:
        """Add the logs of these folders or files, by name; `make` gets all paths of one log."""
        paths_of: dict[str, list[Path]] = {}
        for path in paths:
            paths_of.setdefault(log_of(path), []).append(path)
        for log_id, found in sorted(paths_of.items()):
            self.add(log_id, partial(make, log_id, found))

    def paths_below(self, parent: Path, wanted: Callable[[str], object]) -> Iterator[Path]:
        """The `wanted` entries of all folders in `parent`.

        A folder that cannot be read is refused as one, so that its logs do not seem to be gone.
        Raises SourceError if `parent` cannot be read.
        """
        try:
            names = sorted(os.listdir(parent))
        except FileNotFoundError:
            return
        except OSError as error:
            raise unreadable(error, parent) from error
        for folder in (parent / name for name in names if not is_foreign(name)):
            try:
                if not stat.S_ISDIR(os.stat(folder).st_mode):
                    continue
                found = os.listdir(folder)
            except OSError as error:
                self.refused[safe_name(f"{parent.name}/{folder.name}")] = unreadable(error, folder)
                continue
            yield from (folder / name for name in found if wanted(name) and not is_foreign(name))


def only_one(name: str, found: Iterable[object], where: object, do: str) -> None:
    """Raise SourceError that names all of `found`, the places of the logs of this name, if there
    are two or more.
    """
    places = [str(place) for place in found]
    if len(places) > 1:
        raise SourceError(
            f"the log {quoted(name)} exists twice",
            where=where,
            expected="one log of a name",
            found=", ".join(places),
            do=do,
        )


def is_image(name: str) -> bool:
    """True for a file name with the ending of an image, in any case."""
    return name.lower().endswith(IMAGE_ENDINGS)


def with_any_ending(file: Path) -> Path | None:
    """The image `file`, else the one of the same name and another ending; None if there is none.

    Raises SourceError for what is no regular file, and for two images with other endings.
    """
    if is_regular(file):
        return file
    try:
        changed_ns = os.stat(file.parent).st_mtime_ns
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise unreadable(error, file.parent) from error
    names = _images_by_stem(file.parent, changed_ns).get(file.stem, [])
    only_one_image(file, [file.parent / name for name in names])
    return file.parent / names[0] if names and is_regular(file.parent / names[0]) else None


@lru_cache(maxsize=32)  # a folder of nuScenes has the images of all scenes
def _images_by_stem(folder: Path, _mtime_ns: int) -> dict[str, list[str]]:
    """Names of the images in a folder by their names without ending, as of its time of change."""
    names: dict[str, list[str]] = {}
    for name in sorted(os.listdir(folder)):
        if is_image(name) and not is_foreign(name):
            names.setdefault(Path(name).stem, []).append(name)
    return names


def only_one_image(named: object, found: list[Path]) -> None:
    """Raises SourceError if there are two or more images of one frame."""
    if len(found) > 1:
        raise SourceError(
            "a frame has two images",
            where=named,
            expected="one image of this name, with any ending",
            found=", ".join(quoted(file.name) for file in found),
            do="keep one of them",
        )
