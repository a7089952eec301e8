"""The numbers of a raw log, checked where they enter: the same for every source.

`checked` wraps a reader's handle for those who ingest the log. `with_velocities`, `require_us` and
`require_own_direction` check signals, in storage.sources.signal_validation. Legend: T rows of the
log, A boxes.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from storage.camera import Camera, scaled_camera
from storage.errors import SourceError
from storage.sources.contract import (
    Agents,
    Capabilities,
    Lights,
    MapObject,
    RawImage,
    RawLog,
    Signals,
)
from storage.sources.images import ON_ITS_SIDE, UPRIGHT, exif_orientation
from storage.sources.motion import motion_of_past_poses
from storage.sources.raw_files import REPAIR

CLOCKS_APART_S = 0.5  # more between an image and its pose, as a rule: two clocks
ROTATION_ERROR = 0.01  # of a camera's axes
RATIO_ERROR = 0.01  # between the scales of the two axes of an image that was made smaller
BORDER = 0.1  # of the image's side: a principal point there belongs to another size
MIDDLE = (0.25, 0.75)  # of the image's side: where a principal point is expected
EPOCH_2000_US, EPOCH_2100_US = 946_684_800_000_000, 4_102_444_800_000_000
UNITS_US = {"seconds": 1e6, "milliseconds": 1e3, "nanoseconds": 1e-3}
STEP_US = (2_000, 6_000_000)  # spacing of frames that a clock in microseconds can have
GAP_US = 1_500_000  # the direction of motion is not compared over longer gaps
TURNED_RAD = np.radians(20.0)  # between velocity and motion, as a rule; slip makes a few degrees
DRIVEN_MPS, DRIVEN_M = 2.0, 0.2  # slower and shorter steps have no sure direction
MIN_DRIVEN = 5  # steps that are compared
PLACE_M, HEIGHT_M = 20.0, (-1.0, 6.0)  # of a camera: ahead or beside of the rear axle, above ground
AHEAD = 0.5  # cosine between the front camera's axis and x
SPEED_RATIO = (0.75, 1.33)  # of speed and poses; half, km/h and miles an hour lie far outside
MAX_SIDE_GAP_US = 500_000  # between two readings of a side channel that a frame lies between
MAX_SIDE_EDGE_US = 200_000  # of a frame outside the readings of a side channel


def checked(log: RawLog) -> RawLog:
    """The same log; its methods raise SourceError for numbers that cannot be, and mend, with a
    note, what can be told from the other numbers.
    """
    if isinstance(log, CheckedLog):
        return log
    return CheckedLog(log.log_id, log.split, log.location, log.capabilities, log)


@dataclass(slots=True)
class CheckedLog:
    """A handle on a log whose numbers are checked when they are read."""

    log_id: str
    split: str
    location: str
    capabilities: Capabilities
    log: RawLog
    _signals: Signals | None = None

    def cameras(self) -> tuple[Camera, ...]:
        """Finite calibrations of the size that the images have, as EXIF turns them."""
        return tuple(
            _turned_camera(_checked_camera(camera, self.log_id, looks_ahead=not number), self.log)
            for number, camera in enumerate(self.log.cameras())
        )

    def images(self, camera: str) -> Iterator[RawImage]:
        """The images, whose clock is that of the poses."""
        images = list(self.log.images(camera))
        signals = self.signals()
        require_one_clock(
            np.array([image.frame_index for image in images], np.int64),
            np.array([image.timestamp_us for image in images], np.int64),
            signals.frame_index,
            signals.timestamp_us,
            f"log {self.log_id}, camera {camera}",
        )
        return iter(images)

    def signals(self) -> Signals:
        """The signals, read once; the readers check them with validate_signals."""
        if self._signals is None:
            self._signals = self.log.signals()
        return self._signals

    def agents(self) -> Agents:
        """The boxes whose numbers are all there."""
        return finite_agents(self.log.agents(), self.signals())

    def lights(self) -> Lights:
        """The traffic lights as they are: they hold no measured number."""
        return self.log.lights()

    def map_objects(self) -> list[MapObject]:
        """The map objects, all of finite geometry."""
        return _finite_map(self.log.map_objects(), self.log_id)


def require_us(timestamp_us: np.ndarray, where: str) -> None:
    """Raises SourceError, with the likely unit, for time stamps (T,) that are no microseconds.

    Their size tells it if it is a date from 2000 to 2100 in another unit, else their spacing; a
    clock that starts at zero is right.
    """
    first = int(timestamp_us[0])
    step = float(np.median(np.abs(np.diff(timestamp_us)))) if len(timestamp_us) > 1 else 0.0
    if EPOCH_2000_US <= first <= EPOCH_2100_US or STEP_US[0] <= step <= STEP_US[1]:
        return
    by_date = [
        name for name, us in UNITS_US.items() if EPOCH_2000_US <= first * us <= EPOCH_2100_US
    ]
    by_step = [name for name, us in UNITS_US.items() if 10_000 <= step * us <= 2_000_000]
    likely = by_date or by_step
    if not likely:
        return
    raise SourceError(
        "the time stamps are not in microseconds",
        where=where,
        expected="microseconds, since 1970 or since the log's start",
        found=f"{first}, then steps of {step:g}: probably {likely[0]}",
        do=f"multiply the time stamps by {UNITS_US[likely[0]]:g}",
    )


def require_one_clock(
    index: np.ndarray,
    time_us: np.ndarray,
    pose_index: np.ndarray,
    pose_us: np.ndarray,
    where: str,
) -> None:
    """Raises SourceError if images (n,) and poses (T,) of the same frames lie more than
    CLOCKS_APART_S apart, in the median.
    """
    _, images, poses = np.intersect1d(index, pose_index, return_indices=True)
    if not len(images):
        return
    apart_s = float(np.median(time_us[images] - pose_us[poses])) * 1e-6
    if abs(apart_s) > CLOCKS_APART_S:
        hours = apart_s / 3600
        zone = abs(hours) > 0.4 and abs(hours * 2 - round(hours * 2)) < 0.02
        raise SourceError(
            "the clock of the camera is not that of the poses",
            where=where,
            expected=f"images and poses of a frame at most {CLOCKS_APART_S} s apart",
            found=f"the images lie {abs(apart_s):.3f} s {'behind' if apart_s > 0 else 'before'}"
            + (f" ({hours:+.1f} hours: two time zones?)" if zone else ""),
            do="write both in one clock, or leave out this log",
        )


def with_velocities(signals: Signals) -> Signals:
    """`signals` with the motion of the poses, and a note, where the log has no velocity at all:
    each is NaN, or each is zero while the poses move.
    """
    velocity, pose = signals.velocity_ego, signals.pose_world
    if len(pose) < 3 or not np.isfinite(pose).all() or (np.diff(signals.timestamp_us) <= 0).any():
        return signals
    path_m = float(np.hypot(*np.diff(pose[:, :2], axis=0).T).sum())
    none = np.isnan(velocity).all() or (not velocity.any() and path_m > len(pose) * DRIVEN_M)
    if not none:
        return signals
    motion = motion_of_past_poses((signals.timestamp_us - signals.timestamp_us[0]) * 1e-6, pose)
    return replace(
        signals,
        velocity_ego=motion[:, :2],
        acceleration_ego=motion[:, 2:],
        notes=(
            *signals.notes,
            "the log has no velocities: velocity and acceleration come from the past poses",
        ),
    )


def require_own_direction(signals: Signals, where: str) -> None:
    """Raises SourceError if the velocities point elsewhere than the poses move: another sign, other
    axes, or another frame than the ego's.
    """
    pose, velocity = signals.pose_world, signals.velocity_ego
    step_us = np.diff(signals.timestamp_us)
    moved = np.diff(pose[:, :2], axis=0)
    # heading and velocity in the middle of each step
    yaw = pose[:-1, 2] + ((np.diff(pose[:, 2]) + np.pi) % (2 * np.pi) - np.pi) / 2
    mean = (velocity[:-1] + velocity[1:]) / 2
    driven = (
        (step_us <= GAP_US)
        & (np.hypot(*moved.T) >= np.maximum(DRIVEN_M, DRIVEN_MPS * step_us * 1e-6))
        & (np.hypot(*mean.T) >= DRIVEN_MPS)
    )
    if driven.sum() < MIN_DRIVEN:
        return
    turned = np.arctan2(mean[:, 1], mean[:, 0]) - (np.arctan2(moved[:, 1], moved[:, 0]) - yaw)
    turned = ((turned[driven] + np.pi) % (2 * np.pi)) - np.pi
    off_rad = float(np.median(np.abs(turned)))
    if off_rad <= TURNED_RAD:
        return
    row = int(np.flatnonzero(driven)[0])
    kind = (
        "the opposite direction: sign of the velocity, or a heading that looks backwards"
        if off_rad > np.pi - TURNED_RAD
        else "swapped axes, another sign, or velocities in the world frame"
    )
    raise SourceError(
        "the velocities contradict the motion of the poses",
        where=f"{where}, frame {signals.frame_index[row]}",
        expected="velocities in the ego frame, x forward and y left, along the driven path",
        found=f"{np.degrees(off_rad):.0f} degrees between them in the median of {driven.sum()} "
        f"steps: {kind}",
        do=REPAIR,
    )


def require_own_speed(signals: Signals, where: str) -> None:
    """Raises SourceError if the velocities are faster or slower than the poses move, in the median
    of the steps in which either does: another unit, poses without a fix, a dead wheel sensor.
    """
    step_us = np.diff(signals.timestamp_us)
    moved_mps = np.hypot(*np.diff(signals.pose_world[:, :2], axis=0).T) / (step_us * 1e-6)
    velocity = signals.velocity_ego
    speed_mps = np.hypot(*((velocity[:-1] + velocity[1:]) / 2).T)
    driven = (step_us <= GAP_US) & (np.maximum(moved_mps, speed_mps) >= DRIVEN_MPS)
    if driven.sum() < MIN_DRIVEN:
        return
    ratio = float(np.median(speed_mps[driven] / np.maximum(moved_mps[driven], 1e-3)))
    if SPEED_RATIO[0] <= ratio <= SPEED_RATIO[1]:
        return
    row = int(np.flatnonzero(driven)[0])
    raise SourceError(
        "the velocities contradict the poses",
        where=f"{where}, frame {signals.frame_index[row]}",
        expected=f"{SPEED_RATIO[0]} to {SPEED_RATIO[1]} times the speed at which the poses move",
        found=f"{np.median(speed_mps[driven]):.3g} m/s, and {np.median(moved_mps[driven]):.3g} m/s "
        f"by the poses, in the median of {driven.sum()} steps (km/h would be 3.6 times, miles an "
        "hour 2.24 times as fast; poses that stand still have no fix, or are in degrees)",
        do=REPAIR,
    )


def interpolated(
    at_us: np.ndarray, values: np.ndarray, time_us: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Readings (n, c) of a side channel at the times (T,) of the frames, linear between them, and
    whether (T,) there are readings near the frame; those that hold NaN do not count.
    """
    sound = np.isfinite(values).all(axis=1) & np.isfinite(at_us)
    at_us, values = at_us[sound], values[sound]
    if not len(at_us):
        return np.zeros((len(time_us), values.shape[1])), np.zeros(len(time_us), bool)
    columns = np.column_stack([np.interp(time_us, at_us, column) for column in values.T])
    after = np.clip(np.searchsorted(at_us, time_us), 1, max(len(at_us) - 1, 1))
    gap_us = at_us[np.minimum(after, len(at_us) - 1)] - at_us[after - 1]
    inside = (time_us >= at_us[0] - MAX_SIDE_EDGE_US) & (time_us <= at_us[-1] + MAX_SIDE_EDGE_US)
    return columns, inside & (gap_us <= MAX_SIDE_GAP_US)


def finite_agents(agents: Agents, signals: Signals) -> Agents:
    """`agents` without boxes that have no finite place, heading and positive size, with a note.

    A velocity that is no number comes from the other places of its track; a box that is alone in
    its track is left out.
    """
    size, velocity = agents.size_lwh, agents.velocity_world
    sound = (
        np.isfinite(agents.center_world).all(axis=1)
        & np.isfinite(agents.yaw_rad)
        & np.isfinite(size).all(axis=1)
        & (size > 0).all(axis=1)
    )
    if sound.all() and np.isfinite(velocity).all():
        return agents
    kept, left_out = _rows_of(agents, sound), ~sound
    unknown = ~np.isfinite(kept.velocity_world).all(axis=1)
    notes = [*agents.notes]
    if unknown.any():
        filled = _velocities_of_tracks(kept, signals, unknown)
        known = np.isfinite(filled).all(axis=1)
        kept = _rows_of(replace(kept, velocity_world=filled), known)
        left_out[np.flatnonzero(sound)[~known]] = True
        notes.append(
            f"{int((unknown & known).sum())} boxes without a velocity have that of their track's "
            f"places"
        )
    if left_out.any():
        notes.append(
            f"{int(left_out.sum())} of {len(size)} boxes are left out: their place, heading, size "
            f"or velocity is no number or their size not positive, the first in frame "
            f"{agents.frame_index[left_out][0]}"
        )
    return replace(kept, notes=tuple(notes))


def _rows_of(agents: Agents, rows: np.ndarray) -> Agents:
    return replace(
        agents,
        frame_index=agents.frame_index[rows],
        track_token=agents.track_token[rows],
        category=agents.category[rows],
        center_world=agents.center_world[rows],
        yaw_rad=agents.yaw_rad[rows],
        velocity_world=agents.velocity_world[rows],
        size_lwh=agents.size_lwh[rows],
    )


def _velocities_of_tracks(agents: Agents, signals: Signals, unknown: np.ndarray) -> np.ndarray:
    """Velocities (A, 2), those of the rows `unknown` (A,) from the places of their tracks; NaN for
    a box that is alone in its track.
    """
    out = agents.velocity_world.copy()
    out[unknown] = np.nan
    _, track = np.unique(agents.track_token.astype(str), return_inverse=True)
    order = np.lexsort((agents.frame_index, track))
    starts = np.flatnonzero(np.diff(track[order], prepend=-1))
    row_of = np.searchsorted(signals.frame_index, agents.frame_index)
    time_s = signals.timestamp_us[np.minimum(row_of, len(signals.timestamp_us) - 1)] * 1e-6
    for rows in np.split(order, starts[1:]):
        if not unknown[rows].any() or len(rows) < 2 or (np.diff(time_s[rows]) <= 0).any():
            continue
        velocity = np.gradient(agents.center_world[rows, :2], time_s[rows], axis=0)
        out[rows] = np.where(unknown[rows, None], velocity, out[rows])
    return out


def _finite_map(objects: list[MapObject], log_id: str) -> list[MapObject]:
    parts = [part for item in objects for part in (item.polygon_xy, item.baseline_xyyaw)]
    if parts and not np.isfinite(np.concatenate([np.ravel(part) for part in parts])).all():
        bad = next(
            item
            for item in objects
            if not np.isfinite(item.polygon_xy).all() or not np.isfinite(item.baseline_xyyaw).all()
        )
        raise SourceError(
            "the map holds a corner that is no number",
            where=f"log {log_id}, {bad.layer.name.lower()} {bad.token}",
            expected="finite coordinates",
            found="NaN or infinite",
            do="download the map again, or remove it to read the log without a map",
        )
    limits = [item.speed_limit_mps for item in objects]
    if all(limit is None or 0 <= limit < np.inf for limit in limits):
        return objects
    return [
        item
        if item.speed_limit_mps is None or 0 <= item.speed_limit_mps < np.inf
        else replace(item, speed_limit_mps=None)
        for item in objects
    ]


def _checked_camera(camera: Camera, log_id: str, looks_ahead: bool) -> Camera:
    """The calibration at the size of the images, with a note if it is of another.

    Raises SourceError for one that cannot be.
    """

    def refused(what: str, expected: str, found: object) -> SourceError:
        return SourceError(
            what,
            where=f"log {log_id}, camera {camera.name}",
            expected=expected,
            found=found,
            do="correct the camera's calibration; the log is read again when its bytes change",
        )

    k, pose = np.asarray(camera.intrinsics), np.asarray(camera.camera_to_ego)
    if k.shape != (3, 3) or pose.shape != (4, 4):
        raise refused("a calibration has another shape", "(3, 3), (4, 4)", (k.shape, pose.shape))
    for name, values in (
        ("intrinsics", k),
        ("camera_to_ego", pose),
        ("distortion", np.asarray(camera.distortion, np.float64)),
    ):
        if not np.isfinite(values).all():
            raise refused(f"the {name} of a camera are no numbers", "finite", values.tolist())
    if min(k[0, 0], k[1, 1]) <= 0 or not np.allclose(k[2], (0, 0, 1)):
        raise refused("the intrinsics are those of no camera", "fx, fy > 0", k.tolist())
    turn = pose[:3, :3]
    if np.abs(turn @ turn.T - np.eye(3)).max() > ROTATION_ERROR or np.linalg.det(turn) < 0:
        raise refused(
            "the axes of a camera are no rotation",
            f"at right angles, of length one within {ROTATION_ERROR}, right-handed",
            turn.tolist(),
        )
    x, y, z = pose[:3, 3]
    if max(abs(x), abs(y)) > PLACE_M or not HEIGHT_M[0] <= z <= HEIGHT_M[1]:
        raise refused(
            "a camera is not on its vehicle",
            f"within {PLACE_M:g} m of the rear axle and {HEIGHT_M[0]:g} to {HEIGHT_M[1]:g} m high, "
            "in metres",
            [round(float(value), 3) for value in (x, y, z)],
        )
    if looks_ahead and turn[0, 2] < AHEAD:
        raise refused(
            "the front camera does not look ahead",
            "an optical axis within 60 degrees of the x axis of the vehicle",
            [round(float(value), 3) for value in turn[:, 2]],
        )
    camera = _at_image_size(camera, refused)
    share = (camera.intrinsics[:2, 2] + 0.5) / (camera.width, camera.height)
    found = f"{camera.intrinsics[:2, 2].round(1).tolist()} in {camera.width}x{camera.height}"
    if ((share < BORDER) | (share > 1 - BORDER)).any():
        raise refused(
            "the calibration is not that of these images: the principal point lies at the border "
            "or outside of them",
            "a principal point inside the image; intrinsics of the images' own size",
            found,
        )
    if ((share < MIDDLE[0]) | (share > MIDDLE[1])).any():
        note = f"{camera.name}: the principal point is far from the middle of the image, {found}"
        camera = replace(camera, notes=(*camera.notes, note))
    return camera


def _at_image_size(camera: Camera, refused: Callable[[str, str, object], SourceError]) -> Camera:
    size, images = camera.calibrated_wh, (camera.width, camera.height)
    if size is None or tuple(size) == images:
        return replace(camera, calibrated_wh=None) if size is not None else camera
    sizes = f"calibration of {size[0]}x{size[1]}, images of {images[0]}x{images[1]}"
    if min(size) <= 0 or not np.isfinite(size).all():
        raise refused("a calibration names no size of images", "positive pixels", sizes)
    scale = images[0] / size[0], images[1] / size[1]
    if abs(scale[0] / scale[1] - 1) > RATIO_ERROR + 1 / min(images):
        raise refused(
            "the calibration is of images of another shape", "the same ratio of the sides", sizes
        )
    note = f"{camera.name}: {sizes}: intrinsics scaled by {scale[0]:.4g}"
    return replace(scaled_camera(camera, scale), calibrated_wh=None, notes=(*camera.notes, note))


def _turned_camera(camera: Camera, log: RawLog) -> Camera:
    """The camera with a note if its images are turned as EXIF says.

    Raises SourceError if the principal point is that of the images as they are stored, on their
    side.
    """
    image = next(iter(log.images(camera.name)), None)
    orientation = UPRIGHT if image is None else exif_orientation(image.file)
    if orientation == UPRIGHT:
        return camera
    center = camera.intrinsics[:2, 2] + 0.5
    size = np.array([camera.width, camera.height])
    off = [float(np.abs(center - middle).sum()) for middle in (size / 2, size[::-1] / 2)]
    if orientation >= ON_ITS_SIDE and off[1] < off[0]:
        raise SourceError(
            "the calibration is not that of the images as their EXIF orientation turns them",
            where=f"log {log.log_id}, camera {camera.name}, EXIF orientation {orientation}",
            expected=f"intrinsics of {camera.width}x{camera.height} images",
            found=f"a principal point {camera.intrinsics[:2, 2].round(1).tolist()}, as in "
            f"{camera.height}x{camera.width}",
            do="calibrate the turned images, or write the images without an EXIF orientation",
        )
    note = (
        f"{camera.name}: the images are turned as their EXIF orientation {orientation} says; "
        f"the calibration is taken as that of the turned images"
    )
    return replace(camera, notes=(*camera.notes, note))
