"""The interface of a source of raw logs: a list of log references, and a handle on each log.

A handle is picklable and holds no open file; files are read when a method is called. Frames of
reference and units are those of docs/conventions.md.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np

from storage.camera import Camera
from storage.errors import SourceError
from storage.names import check_name
from storage.trajectory_table import Category, MapLayer

SPLIT_NAMES = ("train", "val", "test")


@dataclass(frozen=True, slots=True)
class Capabilities:
    """The kinds of data a log has; an asset that needs a missing kind does not apply to the log."""

    cameras: tuple[str, ...]  # names; the first is the front camera
    agents: bool  # boxes of other road users
    map: bool  # HD map and route
    traffic_lights: bool
    command: bool  # driving command from the route


@dataclass(frozen=True, slots=True)
class LogRef:
    """A log that can be opened. Raises SourceError for an id that is no safe part of a path."""

    log_id: str
    split: str  # train | val | test
    files: tuple[Path, ...]  # every file that the log is read from, apart from images
    image_files: tuple[Path, ...]  # images, front camera first, each camera sorted by name

    def __post_init__(self) -> None:
        check_name(self.log_id)
        if self.split not in SPLIT_NAMES:
            raise SourceError(
                "unknown split of a log",
                where=f"log {self.log_id}",
                expected=", ".join(SPLIT_NAMES),
                found=self.split,
                do="name one of these in the source",
            )


@dataclass(frozen=True, slots=True)
class RawImage:
    """One encoded image of a log: a file, or the frame with the number `frame_index` of a video."""

    frame_index: int
    camera: str
    timestamp_us: int
    file: Path  # JPEG or PNG, or a video


@dataclass(frozen=True, slots=True)
class Signals:
    """The ego signals of a whole log, one row a frame; T frames."""

    frame_index: np.ndarray  # (T,) int32
    timestamp_us: np.ndarray  # (T,) int64
    pose_world: np.ndarray  # (T, 3) float64: x, y, heading of the rear axle
    velocity_ego: np.ndarray  # (T, 2) float64 m/s
    acceleration_ego: np.ndarray  # (T, 2) float64 m/s2
    command: np.ndarray  # (T,) int8, Command
    has_image: np.ndarray  # (T,) bool: the front camera has an image for this frame
    route_roadblock_ids: list[list[str]]
    tags: list[list[str]]
    notes: tuple[str, ...] = ()  # corrections made by the reader, for the log's metadata


@dataclass(frozen=True, slots=True)
class Agents:
    """Boxes of other road users, one row a box and frame; A rows."""

    frame_index: np.ndarray  # (A,) int32
    track_token: np.ndarray  # (A,) object, str
    category: np.ndarray  # (A,) int8, Category
    center_world: np.ndarray  # (A, 3) float64, z above the ego's ground plane
    yaw_rad: np.ndarray  # (A,) float64, world
    velocity_world: np.ndarray  # (A, 2) float64
    size_lwh: np.ndarray  # (A, 3) float64
    notes: tuple[str, ...] = ()  # what the reader left out, for the log's metadata


@dataclass(frozen=True, slots=True)
class MapObject:
    """One map object; see storage.trajectory_table.MAP for the meaning of the fields."""

    layer: MapLayer
    token: str
    polygon_xy: np.ndarray  # (n, 2) float64 open ring
    baseline_xyyaw: np.ndarray = field(default_factory=lambda: np.zeros((0, 3)))
    speed_limit_mps: float | None = None
    roadblock_id: str = ""
    predecessors: tuple[str, ...] = ()
    successors: tuple[str, ...] = ()
    left_neighbor: str = ""
    right_neighbor: str = ""


@dataclass(frozen=True, slots=True)
class Lights:
    """Traffic-light states, one row a connector and frame; L rows."""

    frame_index: np.ndarray  # (L,) int32
    lane_connector_id: np.ndarray  # (L,) object, str
    is_red: np.ndarray  # (L,) bool


@runtime_checkable
class RawLog(Protocol):
    """A handle on one log. Every method raises SourceError, with log and frame, for bad data."""

    log_id: str
    split: str
    location: str  # map name, "" without a map
    capabilities: Capabilities

    def cameras(self) -> tuple[Camera, ...]: ...
    def images(self, camera: str) -> Iterator[RawImage]: ...
    def signals(self) -> Signals: ...
    def agents(self) -> Agents: ...
    def lights(self) -> Lights: ...
    def map_objects(self) -> list[MapObject]: ...


@runtime_checkable
class Source(Protocol):
    """A folder of raw logs in one format."""

    name: str
    # Logs that the last call of logs() found and could not list, by a printable name
    # (storage.names.safe_name), with the reason: a name that is no part of a path, a name that two
    # logs have, an unknown split, a file that cannot be read. They concern no other log.
    refused: Mapping[str, SourceError]

    def logs(self) -> list[LogRef]:
        """All logs under the folder that can be listed, sorted by log_id; the others are in
        `refused`.

        Raises SourceError for a missing or empty folder.
        """
        ...

    def open(self, log_id: str) -> RawLog:
        """A handle on one log.

        Raises SourceError if there is no such log or its index cannot be read.
        """
        ...


__all__ = [
    "Agents",
    "Camera",
    "Capabilities",
    "Category",
    "Lights",
    "LogRef",
    "MapLayer",
    "MapObject",
    "RawImage",
    "RawLog",
    "Signals",
    "Source",
]
