"""Joins the files of a KITTI drive with their time stamps by the numbers in the files' names.

A line of timestamps.txt belongs to a number, not to a place in a folder: line k to number k; in a
drive that was cut and kept its numbers, to its first number plus k; where files and lines were cut
alike, to the k-th file. What a sensor lost is a gap in its numbers. Legend: L lines.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from storage.errors import SourceError
from storage.sources.raw_files import regular_files

MAX_DIGITS = 18  # of a file's number, after leading zeros: it fits into an int64
SAME_RATE = 0.2  # two sensors whose numbers count alike differ by less in time per number
MAX_APART = 1.5  # numbers: what two sensors recorded under one number is not farther apart
CLOCKS_S = 60.0  # farther apart than this are clocks, and not lost frames


@dataclass(frozen=True, slots=True)
class Recording:
    """What one sensor recorded: a time for each of its numbers, and files for most of them."""

    number: np.ndarray  # (L,) int64, increasing
    time_us: np.ndarray  # (L,) int64
    files: dict[int, Path]  # in numeric order; all their numbers are in `number`

    def period_us(self) -> float:
        """Time from one number to the next: the median; NaN for a single line."""
        return _period_us(self.number, self.time_us)

    def times(self) -> dict[int, int]:
        """Number -> time stamp in microseconds."""
        return dict(zip(self.number.tolist(), self.time_us.tolist(), strict=True))


def numbered_files(folder: Path, wanted: Callable[[str], bool], what: str) -> dict[int, Path]:
    """Number -> file, in numeric order, of the files in `folder` whose name is `wanted` and whose
    stem is a number of any length; empty if there is no such folder.

    Raises SourceError for two files of one number; `what` names such files.
    """
    files: dict[int, Path] = {}
    for name in regular_files(folder, lambda name: wanted(name) and is_numbered(name)):
        file = folder / name
        number = int(file.stem)
        other = files.setdefault(number, file)
        if other != file:
            raise SourceError(
                f"a frame has two {what}",
                where=f"{folder}, frame {number}",
                expected="one file a number",
                found=f"{other.name}, {file.name}",
                do="keep one of them",
            )
    return dict(sorted(files.items()))


def is_numbered(name: str) -> bool:
    """True if the name of a file is a number of at most MAX_DIGITS digits with an ending."""
    stem = name.rpartition(".")[0]
    return stem.isascii() and stem.isdecimal() and len(stem.lstrip("0")) <= MAX_DIGITS


def ways_to_join(
    stamps: Path, time_us: np.ndarray, files: dict[int, Path], first: int, what: str
) -> list[Recording]:
    """The ways in which the lines of `stamps` and the `files` of a sensor fit together, in the
    order of this module's head; `first` is the first number of another sensor.

    Raises SourceError that begins with `what` if there is none.
    """
    firsts = {0, first, *list(files)[:1]}
    ways = [Recording(number, time_us, files) for number in _ways(time_us, files, firsts)]
    if not ways or not len(time_us):
        raise SourceError(
            what,
            where=stamps,
            expected="a line for each file, counted from number 0 or from the first file; gaps in "
            "the numbers are gaps in time",
            found=f"{len(time_us)} lines for {len(files)} files"
            + (f", numbers {min(files)} to {max(files)}" if files else ""),
            do="copy timestamps.txt and the files of this folder again",
        )
    return ways


def best_of(pairs: Iterable[tuple[Recording, Recording]]) -> tuple[Recording, Recording]:
    """The pair whose time stamps agree best number by number; the first of those that agree."""
    return min(pairs, key=lambda pair: _apart_us(*pair))


def shared_numbers(one: Recording, other: Recording) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Numbers that both have, and the lines of both (n,) for them; empty where their numbers do not
    count alike, as with an odometry of another rate.
    """
    ratio = one.period_us() / other.period_us() if other.period_us() else np.inf
    if abs(ratio - 1) > SAME_RATE:  # not so for NaN, a single line
        return (np.zeros(0, np.int64),) * 3
    return np.intersect1d(one.number, other.number, assume_unique=True, return_indices=True)


def check_clocks(camera: Recording, odometry: Recording, where: Path) -> None:
    """Raise SourceError if camera and odometry never ran at the same time, or if what they recorded
    under one number lies more than MAX_APART numbers apart.
    """
    _, ours, theirs = shared_numbers(camera, odometry)
    if len(ours):
        apart_us = float(np.median(odometry.time_us[theirs] - camera.time_us[ours]))
        if not abs(apart_us) > MAX_APART * np.nanmax([odometry.period_us(), camera.period_us()]):
            return
    else:
        apart_us = float(odometry.time_us[0] - camera.time_us[0])
        if camera.time_us[0] <= odometry.time_us[-1] and odometry.time_us[0] <= camera.time_us[-1]:
            return
    clocks = abs(apart_us) > CLOCKS_S * 1e6 or not len(ours)
    order = "ahead of" if apart_us > 0 else "behind"
    raise SourceError(
        "camera and odometry have two clocks"
        if clocks
        else "images and odometry of the same numbers are from different times",
        where=f"{where}, frame {int(camera.number[ours[0]] if len(ours) else camera.number[0])}",
        expected="time stamps of one clock, one image and one reading a number",
        found=f"the odometry is {duration(abs(apart_us) * 1e-6)} {order} the camera: "
        f"{stamp_text(odometry.time_us[theirs[0] if len(ours) else 0])} and "
        f"{stamp_text(camera.time_us[ours[0] if len(ours) else 0])}",
        do="write both time stamps in one clock (a time zone?)"
        if clocks
        else "copy images, odometry and both timestamps.txt of the same frames again",
    )


def duration(seconds: float) -> str:
    """A span of time in the unit that suits it."""
    if seconds >= 3600:
        return f"{seconds / 3600:.2f} h"
    return f"{seconds / 60:.1f} min" if seconds >= 120 else f"{seconds:.2f} s"


def stamp_text(time_us: int) -> str:
    """A time stamp as KITTI writes it, to the millisecond."""
    return str(np.datetime64(int(time_us), "us").astype("datetime64[ms]")).replace("T", " ")


def _ways(time_us: np.ndarray, files: dict[int, Path], firsts: set[int]) -> Iterator[np.ndarray]:
    """The numbers (L,) that the lines can have."""
    lines, numbers = len(time_us), np.fromiter(files, np.int64, len(files))
    if not len(numbers):
        yield np.arange(lines)
        return
    for first in sorted(firsts):
        if first <= numbers[0] and numbers[-1] < first + lines:
            yield first + np.arange(lines)
    if len(numbers) == lines and numbers[-1] - numbers[0] >= lines:
        step, step_us = np.diff(numbers), np.diff(time_us)
        period_us = _period_us(numbers, time_us)
        if (np.abs(step_us - step * period_us) <= 0.5 * period_us).all():
            yield numbers


def _period_us(number: np.ndarray, time_us: np.ndarray) -> float:
    return float(np.median(np.diff(time_us) / np.diff(number))) if len(number) > 1 else float("nan")


def _apart_us(one: Recording, other: Recording) -> float:
    _, ours, theirs = shared_numbers(one, other)
    if not len(ours):
        return 0.0
    return abs(float(np.median(one.time_us[ours] - other.time_us[theirs])))
