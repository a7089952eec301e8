"""Logs of comma2k19 (https://github.com/commaai/comma2k19): video and poses of a minute each.

Layout: `[<Chunk_N>/]<dongle>|<time>/<segment>/` with `video.hevc`, NumPy arrays
`global_pose/frame_{times,positions,orientations}` and `processed_log/CAN/speed/{t,value}`; `|` may
be `_`, as on Windows. Positions are those of the camera in ECEF, orientations turn its axes
(forward, right, down) into ECEF. No map, no lights, no command, no splits: every segment is train.

The data say nothing about where the camera hangs in the car. Its direction is found from the motion
(`_mounting`); its place is assumed, CAMERA_IN_EGO.
"""

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np

from storage.camera import Camera
from storage.errors import SourceError
from storage.names import name_fault
from storage.sources.bare_log import BareLog
from storage.sources.camera_file import OPTICAL, at_size, mounted
from storage.sources.contract import Capabilities, LogRef, RawImage, Signals
from storage.sources.earth import east_north_up
from storage.sources.listing import LogListing, only_one
from storage.sources.motion import bare_signals, motion_of_poses, signed_speed, whole_microseconds
from storage.sources.raw_files import REPAIR, folders_in, is_regular, read_regular
from storage.sources.rotations import rotation_of_quaternion
from storage.sources.signal_validation import require_logs, validate_signals, wrap_parse_errors
from storage.sources.video_file import MAX_HZ, evenly_thinned, require_av, video_index

CAMERA = "road"
# the EON's camera, comma2k19's utils/camera.py
FOCAL_PX, WIDTH, HEIGHT = 910.0, 1164, 874
# metres forward, left and up of the rear axle: assumed for a windscreen of the RAV4 and the Civic,
# whose wheel bases are 2.66 and 2.70 m; the height is openpilot's
CAMERA_IN_EGO = np.array([1.5, 0.0, 1.22])
STRAIGHT_MPS = 5.0  # the camera's direction is found from frames that are at least as fast
MAX_MOUNTING_RAD = 0.35  # beyond, the axes are not those of the format
MAX_LOST_FRAMES = 2  # times for which the end of the video has no frame, or the other way round
LARGEST = 1e15  # number in an array; squares of larger ones overflow
MAX_ARRAY_BYTES = 64 * 2**20
UNIT_TOLERANCE = 0.01  # of a quaternion's length
_ROUTE = re.compile(r"([0-9a-f]{16})[|_](\d{4}-\d\d-\d\d--\d\d-\d\d-\d\d)")
_LOG = re.compile(rf"{_ROUTE.pattern}--(\d+)")
_POSES = ("times", "positions", "orientations")
_SPEED = ("processed_log/CAN/speed/t", "processed_log/CAN/speed/value")


@dataclass(frozen=True, slots=True)
class _Poses:
    """Every pose of a segment, at the rear axle. Legend: T poses."""

    time_us: np.ndarray  # (T,) int64, since the device started
    pose_world: np.ndarray  # (T, 3) east and north of the first, heading from east
    motion: np.ndarray  # (T, 4)
    camera_to_ego: np.ndarray  # (4, 4)
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class CommaLog(BareLog):
    """One segment; holds paths only."""

    log_id: str
    split: str
    location: str
    capabilities: Capabilities
    folder: Path

    @wrap_parse_errors
    def cameras(self) -> tuple[Camera, ...]:
        """The EON's camera, a pinhole of known focal length."""
        index = video_index(self._video)
        camera = _eon(_read_poses(self.folder).camera_to_ego)
        return (at_size(camera, index.width, index.height, self._video)[0],)

    @wrap_parse_errors
    def images(self, camera: str) -> Iterator[RawImage]:
        """The frames of the video that are read, in order."""
        time_us = _read_poses(self.folder).time_us
        kept = self._kept(time_us)
        return iter([RawImage(n, camera, int(time_us[n]), self._video) for n in kept.tolist()])

    @wrap_parse_errors
    def signals(self) -> Signals:
        """Poses of the rear axle, velocities of the poses with the car's own speed, at the frames
        that are read.
        """
        poses = _read_poses(self.folder)
        kept = self._kept(poses.time_us)
        index = video_index(self._video)
        camera = _eon(poses.camera_to_ego)
        notes = [*poses.notes, at_size(camera, index.width, index.height, self._video)[1]]
        notes.append(
            f"{len(kept)} of {len(poses.time_us)} frames read: about {MAX_HZ:g} a second"
            if len(kept) < len(poses.time_us)
            else ""
        )
        lost = len(poses.time_us) - index.frames
        if lost:
            more, less = ("times", "frames") if lost > 0 else ("frames", "times")
            notes.append(f"{abs(lost)} more {more} than {less}: those at the end are left out")
        return validate_signals(
            bare_signals(
                kept,
                poses.time_us[kept],
                poses.pose_world[kept],
                poses.motion[kept],
                np.ones(len(kept), bool),
                tuple(filter(None, notes)),
            ),
            self.log_id,
            self.folder / "global_pose",
        )

    @property
    def _video(self) -> Path:
        return self.folder / "video.hevc"

    def _kept(self, time_us: np.ndarray) -> np.ndarray:
        """Numbers of the frames that are read; the format joins frames and times by number."""
        frames = video_index(self._video).frames
        if abs(frames - len(time_us)) > MAX_LOST_FRAMES:
            raise SourceError(
                "the video and its times do not belong together",
                where=self._video,
                expected=f"{len(time_us)} frames, one for each of global_pose/frame_times",
                found=f"{frames} frames: which are missing cannot be told",
                do="download the segment again",
            )
        return evenly_thinned(time_us[:frames])


class Comma2k19Source:
    """A folder of comma2k19 segments."""

    name = "comma2k19"

    def __init__(self, raw: Path) -> None:
        self.raw = raw
        self.refused: Mapping[str, SourceError] = {}

    def logs(self) -> list[LogRef]:
        """All segments that can be listed, sorted by log id; `refused` holds the others.

        Raises SourceError for a missing or empty folder.
        """
        listing = LogListing()
        self.refused = listing.refused
        folders = require_logs(
            self.raw,
            (folder for route in self._routes() for folder in folders_in(route)),
            "[Chunk_N/]<dongle>|<time>/<segment>/video.hevc",
            listing.refused,
        )
        listing.add_by_name(folders, _log_id, self._ref)
        return listing.refs

    @wrap_parse_errors
    def open(self, log_id: str) -> CommaLog:
        """A handle on one segment. Raises SourceError if it does not exist or lacks a file,
        ConfigError without PyAV.
        """
        named = _LOG.fullmatch(log_id) if name_fault(log_id) is None else None
        found: list[Path] = []
        if named:
            routes = (f"{named[1]}{sign}{named[2]}" for sign in "|_")
            chunks = (item for item in folders_in(self.raw) if not _ROUTE.fullmatch(item.name))
            parents = [self.raw, *chunks]
            places = (parent / route / named[3] for route in routes for parent in parents)
            found = [folder for folder in places if folder.is_dir()]
        if not found:
            raise SourceError(
                f"there is no log '{log_id}'",
                where=self.raw,
                expected="<dongle>_<time>--<segment>",
                found=log_id,
                do="list them: latentvla logs",
            )
        require_av()
        ref = self._ref(log_id, found)
        capabilities = Capabilities((CAMERA,), False, False, False, False)
        return CommaLog(log_id, ref.split, "", capabilities, found[0])

    def _routes(self) -> Iterator[Path]:
        for folder in folders_in(self.raw):
            if _ROUTE.fullmatch(folder.name):
                yield folder
            else:
                yield from (route for route in folders_in(folder) if _ROUTE.fullmatch(route.name))

    def _ref(self, log_id: str, found: list[Path]) -> LogRef:
        only_one(log_id, found, self.raw, "keep one of these folders")
        folder = found[0]
        poses = [folder / "global_pose" / f"frame_{name}" for name in _POSES]
        more = [folder / name for name in _SPEED]
        for file in (folder / "video.hevc", *poses):
            if not is_regular(file):
                raise SourceError(
                    "the log is not complete",
                    where=f"log {log_id}, {folder}",
                    expected=file.relative_to(folder),
                    found="no file",
                    do="download the segment again",
                )
        files = (*poses, *(file for file in more if is_regular(file)))
        return LogRef(log_id, "train", files, (folder / "video.hevc",))


def _log_id(folder: Path) -> str:
    return f"{folder.parent.name.replace('|', '_')}--{folder.name}"


def _eon(camera_to_ego: np.ndarray) -> Camera:
    middle = [(WIDTH - 1) / 2, (HEIGHT - 1) / 2]
    intrinsics = np.array([[FOCAL_PX, 0, middle[0]], [0, FOCAL_PX, middle[1]], [0, 0, 1]])
    return Camera(CAMERA, WIDTH, HEIGHT, intrinsics, camera_to_ego)


def _read_poses(folder: Path) -> _Poses:
    arrays = {name: _array(folder / "global_pose" / f"frame_{name}") for name in _POSES}
    time_s, ecef, wxyz = (arrays[name] for name in _POSES)
    rows = len(time_s)
    if time_s.shape != (rows,) or ecef.shape != (rows, 3) or wxyz.shape != (rows, 4) or not rows:
        found = ", ".join(f"{name} {array.shape}" for name, array in arrays.items())
        raise _wrong(folder / "global_pose", "times (T,), positions (T, 3), orientations", found)
    _require(folder, "times", np.diff(time_s, prepend=-np.inf) > 0, "times that increase", time_s)
    time_us = whole_microseconds(time_s, folder / "global_pose" / "frame_times")
    length = np.linalg.norm(wxyz, axis=1)
    _require(folder, "orientations", np.abs(length - 1) <= UNIT_TOLERANCE, "unit length", wxyz)
    to_world = east_north_up(ecef[0])
    # columns: the camera's forward, left and up in east, north, up
    turn = to_world @ rotation_of_quaternion(wxyz / length[:, None]) @ np.diag([1.0, -1.0, -1.0])
    camera_xyz = (ecef - ecef[0]) @ to_world.T
    heading = np.unwrap(np.arctan2(turn[:, 1, 0], turn[:, 0, 0]))
    values = np.column_stack([camera_xyz, heading])
    velocity = np.gradient(values, time_s, axis=0) if rows > 1 else np.zeros((1, 4))
    notes = ["the camera's place in the car is assumed: 1.5 m before the rear axle, 1.22 m high"]
    camera_to_ego = np.eye(4)
    camera_to_ego[:3, :3], note = _mounting(folder, turn, velocity[:, :3], velocity[:, 3])
    camera_to_ego[:3, 3] = CAMERA_IN_EGO
    ego_turn = turn @ OPTICAL @ camera_to_ego[:3, :3].T
    ego_xyz = camera_xyz - ego_turn @ CAMERA_IN_EGO
    yaw = np.arctan2(ego_turn[:, 1, 0], ego_turn[:, 0, 0])
    pose = np.column_stack([ego_xyz[:, :2] - ego_xyz[0, :2], yaw])
    motion = motion_of_poses(time_s - time_s[0], pose)
    motion[:, 0], speed_note = _car_speed(folder, time_s, motion[:, 0])
    return _Poses(time_us, pose, motion, camera_to_ego, (*notes, note, speed_note))


def _mounting(
    folder: Path, turn: np.ndarray, velocity: np.ndarray, yaw_rate: np.ndarray
) -> tuple[np.ndarray, str]:
    """The rotation from camera to ego (3, 3): a car moves where it points, so the median direction
    of motion as the camera sees it gives the camera's yaw and pitch. Its roll is taken as zero.
    That motion is the rear axle's, which does not slip: without the part of the turning car.

    `turn` (T, 3, 3): the camera's forward, left and up in the world, `velocity` (T, 3) of the
    camera, `yaw_rate` (T,) in rad/s.
    """
    fast = np.linalg.norm(velocity, axis=1) > STRAIGHT_MPS
    if not fast.any():
        note = f"the camera looks straight ahead, taken so: the car is never above {STRAIGHT_MPS:g}"
        return mounted(0, 0, 0), f"{note} m/s"
    forward, left, up = np.einsum("tji,tj->it", turn[fast], velocity[fast])
    left = left - yaw_rate[fast] * CAMERA_IN_EGO[0]
    yaw = -float(np.median(np.arctan2(left, forward)))
    pitch = float(np.median(np.arctan2(up, np.hypot(forward, left))))
    if max(abs(yaw), abs(pitch)) > MAX_MOUNTING_RAD:
        raise _wrong(
            folder / "global_pose",
            "a camera that looks where the car drives",
            f"{np.degrees(yaw):.0f} degrees to the left, {np.degrees(pitch):.0f} down of it",
        )
    note = f"the camera looks {np.degrees(yaw):.1f} degrees to the left of the car's motion and "
    return mounted(yaw, pitch, 0), f"{note}{np.degrees(pitch):.1f} degrees down"


def _car_speed(folder: Path, time_s: np.ndarray, forward_mps: np.ndarray) -> tuple[np.ndarray, str]:
    """The forward velocity (T,): the car's own speed where the CAN bus gives it, else that of the
    poses.
    """
    if not all(is_regular(folder / name) for name in _SPEED):
        return forward_mps, "no speed of the CAN bus: the velocity is that of the poses"
    can_s, speed = _array(folder / _SPEED[0]), _array(folder / _SPEED[1]).reshape(-1)
    if can_s.shape != speed.shape or not len(can_s) or (np.diff(can_s) < 0).any():
        found = f"t {can_s.shape}, value {speed.shape}"
        raise _wrong(folder / _SPEED[0], "times in order and a speed for each", found)
    right = np.clip(np.searchsorted(can_s, time_s), 0, len(can_s) - 1)
    nearest_s = np.minimum(np.abs(can_s[right] - time_s), np.abs(can_s[right - 1] - time_s))
    known = nearest_s < 0.2
    if not known.any():
        return forward_mps, "no speed of the CAN bus at these times: that of the poses is used"
    speed = np.where(known, np.interp(time_s, can_s, speed), np.abs(forward_mps))
    signed = signed_speed(speed, forward_mps, str(folder / _SPEED[1]))
    return signed, f"the forward velocity is the car's own speed at {int(known.sum())} frames"


def _array(file: Path) -> np.ndarray:
    """An array of finite numbers as float64. Nothing is allocated that the file does not hold."""
    data = read_regular(file, MAX_ARRAY_BYTES)
    try:
        stream = BytesIO(data)
        version = np.lib.format.read_magic(stream)
        read_header = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }[version]
        shape, _, kind = read_header(stream)
        if kind.kind not in "fiu" or math.prod(shape) * kind.itemsize > len(data):
            raise ValueError(f"{kind} {shape} in {len(data)} bytes")
        values = np.load(BytesIO(data), allow_pickle=False).astype(np.float64)
    except (ValueError, KeyError, EOFError) as error:
        raise _wrong(file, "an array of numbers, as NumPy saves it", str(error)) from error
    finite = (
        (np.abs(values) < LARGEST).reshape(len(values), -1).all(axis=1) if values.ndim else [False]
    )
    if not np.all(finite):
        row = int(np.flatnonzero(~np.asarray(finite))[0])
        raise _wrong(f"frame {row}, file {file}", "finite numbers", str(values[row : row + 1]))
    return values


def _require(folder: Path, name: str, sound: np.ndarray, expected: str, values: np.ndarray) -> None:
    if not sound.all():
        row = int(np.flatnonzero(~sound)[0])
        file = folder / "global_pose" / f"frame_{name}"
        raise _wrong(f"frame {row}, file {file}", expected, str(values[row]))


def _wrong(where: object, expected: str, found: str) -> SourceError:
    return SourceError(
        "the poses of a segment are not those of the format",
        where=where,
        expected=expected,
        found=found,
        do=REPAIR,
    )
