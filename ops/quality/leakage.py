"""Logs that are one and the same drive: images that look alike, or one place at one time.

Everything is read from the records of the logs. Legend: I distinct image hashes of all logs.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

MIN_IMAGES = 8  # distinct hashes of a log, below which its images tell too little
NEAR_BITS = 4  # of 64: hashes of one image, scaled or compressed anew, differ by no more
NEIGHBORS = 16  # hashes with one equal half that a hash is compared with
SPLITS = ("train", "val", "test")


@dataclass(frozen=True, slots=True)
class Drive:
    """What the records tell of one log."""

    log_id: str
    split: str
    location: str
    time_us: tuple[int, int]
    box_m: tuple[float, float, float, float]  # around the path: x and y, lowest then highest
    hashes: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Pair:
    """Two logs that share a drive. `log` is the one to set aside: of train rather than of val or
    test, else the later in the alphabet.
    """

    log: Drive
    twin: Drive
    value: float  # share of the log's images that both have, or metres between their paths

    @property
    def splits_differ(self) -> bool:
        """True if data of one split is in another."""
        return self.log.split != self.twin.split


def alike(drives: Sequence[Drive], least_share: float) -> list[Pair]:
    """Pairs of logs of which one shares more than `least_share` of its images with the other.

    Hashes with an equal half, next to each other in the order of all hashes, are compared: the work
    grows as I log I.
    """
    distinct = [np.unique(np.array(drive.hashes, np.uint64)) for drive in drives]
    counts = np.array([len(item) if len(item) >= MIN_IMAGES else 0 for item in distinct])
    usable = [item for item in distinct if len(item) >= MIN_IMAGES]
    if len(usable) < 2:
        return []
    hashes, owner = np.concatenate(usable), np.repeat(np.arange(len(drives)), counts)
    matches = [_matches(hashes, owner, half) for half in (hashes >> np.uint64(32), hashes)]
    # each image counts once for each log that shows it too
    seen = np.unique(np.concatenate(matches), axis=0)
    pairs, images = np.unique(
        np.stack([owner[seen[:, 0]], seen[:, 1]], axis=1), axis=0, return_counts=True
    )
    shares: dict[tuple[int, int], float] = {}
    for (mine, other), count in zip(pairs, images, strict=True):
        key = (min(mine, other), max(mine, other))
        shares[key] = max(shares.get(key, 0.0), count / counts[mine])
    found = [(a, b, share) for (a, b), share in shares.items() if share > least_share]
    return [_pair(drives[a], drives[b], float(share)) for a, b, share in found]


def met(drives: Sequence[Drive], within_m: float) -> list[Pair]:
    """Pairs of logs of different splits, recorded at the same time in one location with boxes
    around their paths nearer than `within_m`.
    """
    pairs = []
    for location in sorted({drive.location for drive in drives}):
        members = sorted(
            (drive for drive in drives if drive.location == location),
            key=lambda drive: drive.time_us,
        )
        start, end = np.array([drive.time_us for drive in members]).T
        boxes = np.array([drive.box_m for drive in members])
        after = np.searchsorted(start, end, side="right")  # those before it have begun by then
        for step in range(1, int((after - np.arange(len(members))).max())):
            earlier = np.flatnonzero(np.arange(len(members)) + step < after)
            later = earlier + step
            gap = np.maximum(boxes[earlier, :2], boxes[later, :2]) - np.minimum(
                boxes[earlier, 2:], boxes[later, 2:]
            )
            distance = np.hypot(*np.maximum(gap, 0.0).T)
            pairs += [
                _pair(members[a], members[b], float(metres))
                for a, b, metres in zip(earlier, later, distance, strict=True)
                if metres < within_m and members[a].split != members[b].split
            ]
    return pairs


def bits_between(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """In how many bits two arrays of 64-bit hashes differ."""
    parts = np.ascontiguousarray(a ^ b).view(np.uint16).reshape(-1, 4)
    return _BITS[parts].sum(axis=1)


_BITS = np.array([value.bit_count() for value in range(1 << 16)], np.uint8)


def _matches(hashes: np.ndarray, owner: np.ndarray, half: np.ndarray) -> np.ndarray:
    """(hash, log that shows it too) of hashes of two logs with equal lower 32 bits of `half`."""
    half = half & np.uint64(0xFFFFFFFF)
    order = np.lexsort((hashes, half))
    found = []
    for step in range(1, min(NEIGHBORS, len(order) - 1) + 1):
        first, second = order[:-step], order[step:]
        equal = (half[first] == half[second]) & (owner[first] != owner[second])
        first, second = first[equal], second[equal]
        near = bits_between(hashes[first], hashes[second]) <= NEAR_BITS
        first, second = first[near], second[near]
        found += [
            np.stack([first, owner[second]], axis=1),
            np.stack([second, owner[first]], axis=1),
        ]
    return np.concatenate(found)


def _pair(a: Drive, b: Drive, value: float) -> Pair:
    def place(drive: Drive) -> tuple[int, str]:
        known = drive.split in SPLITS
        return (SPLITS.index(drive.split) if known else len(SPLITS), drive.log_id)

    first, second = sorted((a, b), key=place)
    if first.split == second.split:
        first, second = second, first
    return Pair(first, second, value)


def drive_of(log_id: str, tables: Mapping, images: Mapping) -> Drive:
    """A log from the statistics of its two records."""
    return Drive(
        log_id,
        tables["split"],
        tables["location"],
        tuple(tables["time_us"]),
        tuple(tables["box_m"]),
        tuple(int(item, 16) for item in images.get("hashes", ())),
    )
