"""Logs of one video and a table of poses, as dash-cams give them.

Layout: `<log>/` with one video, `poses.csv` (storage/sources/pose_table.py), `camera.json` or
`camera.yaml` (storage/sources/camera_file.py), and for a video without time stamps `frames.csv`.
Frames and poses are joined by time. No map, no lights, no command, no splits: every log is `train`.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from storage.camera import Camera
from storage.errors import SourceError
from storage.names import name_fault
from storage.sources.bare_log import BareLog
from storage.sources.camera_file import CAMERA_FILES, CameraFile, at_size, read_camera_file
from storage.sources.contract import Capabilities, LogRef, RawImage, Signals
from storage.sources.listing import LogListing
from storage.sources.motion import bare_signals
from storage.sources.pose_table import poses_between, read_columns, read_poses
from storage.sources.raw_files import is_regular, regular_files
from storage.sources.signal_validation import require_logs, validate_signals, wrap_parse_errors
from storage.sources.video_file import (
    MAX_HZ,
    evenly_thinned,
    is_video,
    require_av,
    video_index,
)

LAYOUT = "<log>/ with a video (.mp4, .mkv, ...), poses.csv and camera.json"


@dataclass(frozen=True, slots=True)
class _Frames:
    """The frames of a video that are read and have a pose."""

    number: np.ndarray  # (T,) int64
    time_us: np.ndarray  # (T,) int64
    pose_and_motion: np.ndarray  # (T, 7)
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class VideoLog(BareLog):
    """One video with its poses; holds paths only."""

    log_id: str
    split: str
    location: str
    capabilities: Capabilities
    folder: Path
    video: Path

    @wrap_parse_errors
    def cameras(self) -> tuple[Camera, ...]:
        """The camera, at the size of the video's frames."""
        index = video_index(self.video)
        camera = read_camera_file(_camera_file(self.folder)).camera
        return (at_size(camera, index.width, index.height, self.video)[0],)

    @wrap_parse_errors
    def images(self, camera: str) -> Iterator[RawImage]:
        """The frames that have a pose, in order; `file` is the video."""
        frames = self._frames()
        return iter(
            [
                RawImage(number, camera, time_us, self.video)
                for number, time_us in zip(
                    frames.number.tolist(), frames.time_us.tolist(), strict=True
                )
            ]
        )

    @wrap_parse_errors
    def signals(self) -> Signals:
        """Poses at the frames' times; velocity and acceleration from the poses, the forward
        velocity from `speed_mps` where the table has it.
        """
        frames = self._frames()
        return validate_signals(
            bare_signals(
                frames.number,
                frames.time_us,
                frames.pose_and_motion[:, :3],
                frames.pose_and_motion[:, 3:],
                np.ones(len(frames.number), bool),
                frames.notes,
            ),
            self.log_id,
            self.folder / "poses.csv",
        )

    def _frames(self) -> _Frames:
        calibration = read_camera_file(_camera_file(self.folder))
        index = video_index(self.video)
        table = read_poses(self.folder / "poses.csv", calibration.pose_in_ego)
        all_us = _frame_times(self.folder, self.video, calibration)
        kept = evenly_thinned(all_us)
        values, posed = poses_between(table, all_us[kept])
        _require_overlap(self.video, all_us, table.time_us, posed)
        notes = ["the velocity is that of the poses: the format has no inertial data"]
        if len(kept) < len(all_us):
            notes.append(f"{len(kept)} of {len(all_us)} frames read: about {MAX_HZ:g} a second")
        if not posed.all():
            notes.append(
                f"{int((~posed).sum())} of these frames lie outside the poses or in a gap of them, "
                f"and are left out"
            )
        if index.streams > 1:
            notes.append(f"the first of {index.streams} videos in the file is read")
        notes.append(at_size(calibration.camera, index.width, index.height, self.video)[1])
        return _Frames(kept[posed], all_us[kept][posed], values[posed], tuple(filter(None, notes)))


class VideoSource:
    """A folder of logs that are a video and a table of poses each."""

    name = "video"

    def __init__(self, raw: Path) -> None:
        self.raw = raw
        self.refused: Mapping[str, SourceError] = {}

    def logs(self) -> list[LogRef]:
        """All folders with a video or a table of poses, sorted by name; `refused` holds those that
        are not complete.

        Raises SourceError for a missing or empty folder.
        """
        listing = LogListing()
        self.refused = listing.refused
        found = listing.paths_below(self.raw, lambda name: name == "poses.csv" or is_video(name))
        files = require_logs(self.raw, found, LAYOUT, listing.refused)
        for folder in sorted({file.parent for file in files}):
            listing.add(folder.name, partial(_ref, folder))
        return listing.refs

    @wrap_parse_errors
    def open(self, log_id: str) -> VideoLog:
        """A handle on one log. Raises SourceError if it does not exist or is not complete,
        ConfigError without PyAV.
        """
        folder = self.raw / log_id if name_fault(log_id) is None else None
        if folder is None or not folder.is_dir():
            raise SourceError(
                f"there is no log '{log_id}'",
                where=self.raw,
                expected="the name of a log's folder",
                found=log_id,
                do="list them: latentvla logs",
            )
        require_av()
        ref = _ref(folder)
        camera = read_camera_file(_camera_file(folder)).camera
        capabilities = Capabilities((camera.name,), False, False, False, False)
        return VideoLog(log_id, ref.split, "", capabilities, folder, ref.image_files[0])


def _ref(folder: Path) -> LogRef:
    camera_file, poses, frames = _camera_file(folder), folder / "poses.csv", folder / "frames.csv"
    if not is_regular(poses):
        raise _incomplete(folder, "poses.csv, a table of the car's poses", "none")
    videos = [folder / name for name in regular_files(folder, is_video)]
    if len(videos) != 1:
        named = read_camera_file(camera_file).video
        if not named or folder / named not in videos:
            expected = "one video, or the field 'video' of the camera's file that names one of them"
            raise _incomplete(folder, expected, ", ".join(file.name for file in videos) or "none")
        videos = [folder / named]
    more = [frames] if is_regular(frames) else []
    return LogRef(folder.name, "train", (poses, camera_file, *more), tuple(videos))


def _camera_file(folder: Path) -> Path:
    files = [folder / name for name in CAMERA_FILES if is_regular(folder / name)]
    if len(files) != 1:
        found = ", ".join(file.name for file in files) or "none"
        raise _incomplete(folder, f"one of {', '.join(CAMERA_FILES)}", found)
    return files[0]


def _frame_times(folder: Path, video: Path, calibration: CameraFile) -> np.ndarray:
    """The time (N,) int64 of every frame of the video on the clock of the poses."""
    file, index = folder / "frames.csv", video_index(video)
    if not is_regular(file):
        if not len(index.time_us):
            raise _incomplete(
                folder,
                "frames.csv with frame_index and timestamp_us of every frame: a bare stream has "
                "no time stamps",
                f"{video.name} alone",
            )
        return index.time_us + calibration.video_start_us
    columns = read_columns(file, ((("frame_index",),), (("timestamp_us",),)))
    numbers, time_us = columns["frame_index"], columns["timestamp_us"]
    if not np.array_equal(numbers, np.arange(index.frames)) or (np.diff(time_us) <= 0).any():
        raise _incomplete(
            folder,
            f"frames.csv with the frames 0 to {index.frames - 1} of {video.name}, times increasing",
            f"{len(numbers)} lines, frames {numbers[0]} to {numbers[-1]}",
        )
    return time_us


def _require_overlap(
    video: Path, frame_us: np.ndarray, pose_us: np.ndarray, posed: np.ndarray
) -> None:
    if posed.any():
        return
    raise SourceError(
        "no frame of the video has a pose",
        where=video,
        expected=f"poses between {frame_us[0]} and {frame_us[-1]} us, the times of the frames",
        found=f"poses from {pose_us[0]} to {pose_us[-1]} us",
        do="give the time of the first frame on the clock of the poses: video_start_us in the "
        "camera's file",
    )


def _incomplete(folder: Path, expected: str, found: str) -> SourceError:
    return SourceError(
        "the log is not complete",
        where=f"log {folder.name}, {folder}" if name_fault(folder.name) is None else folder,
        expected=expected,
        found=found,
        do="add what is missing: docs/bring_your_own_logs.md",
    )
