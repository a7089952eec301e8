"""Velocity and acceleration from poses alone, for formats without inertial data, and the signals of
a log without route and command. Legend: T poses.
"""

import numpy as np

from storage.errors import SourceError
from storage.sources.contract import Signals
from storage.sources.raw_files import REPAIR
from storage.trajectory_table import Command

# half windows of the fits: the speed follows braking, the acceleration averages out a centimetre
VELOCITY_HALF_S, ACCELERATION_HALF_S = 0.25, 0.5
SPEED_RATIO = (0.8, 1.25)  # of a recorded speed to that of the poses
MIN_SPEED_MPS = 2.0  # below, a ratio of speeds and the direction of motion say nothing
MAX_SLIP_DEG = 20.0  # between heading and motion; a point before the rear axle swings out in turns
MAX_TIME_S = 1e11  # three thousand years
MAX_STEP_S = 2.0  # between rows of poses: a trajectory of wider steps is none
SMALLER_UNITS = {"milliseconds": 1e-3, "microseconds": 1e-6, "nanoseconds": 1e-9}  # in s


def motion_of_poses(time_s: np.ndarray, pose_world: np.ndarray) -> np.ndarray:
    """Forward and left velocity, forward and left acceleration (T, 4) of poses (T, 3) at increasing
    times (T,), in m/s and m/s2.

    Each is the derivative of the parabola that fits the positions within VELOCITY_HALF_S
    (ACCELERATION_HALF_S) best, of at least the three nearest poses: a Savitzky-Golay filter for
    uneven times. Two poses give their mean velocity, one gives zero.
    """
    velocity = _parabola(time_s, pose_world[:, :2], VELOCITY_HALF_S)[0]
    acceleration = _parabola(time_s, pose_world[:, :2], ACCELERATION_HALF_S)[1]
    cos, sin = np.cos(pose_world[:, 2]), np.sin(pose_world[:, 2])
    return np.column_stack(
        [
            turned
            for x, y in (velocity.T, acceleration.T)
            for turned in (cos * x + sin * y, cos * y - sin * x)
        ]
    )


def motion_of_past_poses(time_s: np.ndarray, pose_world: np.ndarray) -> np.ndarray:
    """Forward and left velocity and acceleration (T, 4) in the ego frame, m/s and m/s2.

    From the parabola through each pose and the two before it, so no future is used; the first two
    frames take the parabola of the first three.
    """
    last = np.maximum(np.arange(len(time_s)), 2)
    t0, t1, t2 = (time_s[last - back] for back in (0, 1, 2))
    p0, p1, p2 = (pose_world[last - back, :2] for back in (0, 1, 2))
    first, second = (p0 - p1) / (t0 - t1)[:, None], (p1 - p2) / (t1 - t2)[:, None]
    curvature = (first - second) / (t0 - t2)[:, None]
    velocity = first + curvature * (2 * time_s - t0 - t1)[:, None]
    cos, sin = np.cos(pose_world[:, 2]), np.sin(pose_world[:, 2])
    return np.column_stack(
        [
            part
            for x, y in (velocity.T, 2 * curvature.T)
            for part in (cos * x + sin * y, cos * y - sin * x)
        ]
    )


def _parabola(
    time_s: np.ndarray, values: np.ndarray, half_s: float
) -> tuple[np.ndarray, np.ndarray]:
    """First and second derivative (T, c) of the parabolas that fit `values` (T, c) locally."""
    rows = len(time_s)
    if rows < 3:
        slope = np.diff(values, axis=0) / np.diff(time_s)[:, None] if rows == 2 else 0.0
        return np.zeros_like(values) + slope, np.zeros_like(values)
    low = np.searchsorted(time_s, time_s - half_s * (1 + 1e-9))
    high = np.searchsorted(time_s, time_s + half_s * (1 + 1e-9), side="right")
    few = high - low < 3
    low[few] = np.clip(np.flatnonzero(few) - 1, 0, rows - 3)
    high[few] = low[few] + 3
    moments = np.zeros((5, rows))  # sums of the powers of time
    sums = np.zeros((3, rows, values.shape[1]))
    for step in range(int((high - low).max())):
        row = np.minimum(low + step, rows - 1)
        inside = low + step < high
        scaled = np.where(inside, (time_s[row] - time_s) / half_s, 0.0)
        power = inside.astype(np.float64)
        for degree in range(5):
            moments[degree] += power
            if degree < 3:
                sums[degree] += power[:, None] * (values[row] - values)
            power = power * scaled
    normal = moments[[[0, 1, 2], [1, 2, 3], [2, 3, 4]]].transpose(2, 0, 1)
    fit = np.linalg.solve(normal, sums.transpose(1, 0, 2))
    return fit[:, 1] / half_s, 2 * fit[:, 2] / half_s**2


def require_heading(motion: np.ndarray, where: object) -> None:
    """Raise SourceError if a car of this motion (T, 4) does not drive where it points, in the
    median over the poses at which it moves: its headings are measured from another axis.
    """
    forward, left = motion[:, 0], motion[:, 1]
    moving = np.hypot(forward, left) > MIN_SPEED_MPS
    if not moving.any():
        return
    off_deg = np.degrees(np.arctan2(left[moving], forward[moving]))
    if np.median(np.abs(off_deg)) > MAX_SLIP_DEG:
        raise SourceError(
            "the headings of the poses are not where the car drives",
            where=where,
            expected=f"a motion within {MAX_SLIP_DEG:g} degrees of the heading, in the median",
            found=f"{np.median(np.abs(off_deg)):.0f} degrees off it",
            do="correct the headings: yaw_rad in radians, counter-clockwise from x (from east), or "
            "heading_deg in degrees, clockwise from north",
        )


def whole_microseconds(time_s: np.ndarray, where: object) -> np.ndarray:
    """Seconds as int64 microseconds. Raises SourceError for more than MAX_TIME_S, and for rows so
    far apart, in the median, that they are in another unit.
    """
    step_s = float(np.median(np.abs(np.diff(time_s)))) if len(time_s) > 1 else 0.0
    if step_s > MAX_STEP_S:
        likely = [unit for unit, each in SMALLER_UNITS.items() if step_s * each <= MAX_STEP_S]
        raise SourceError(
            "the times are not in seconds",
            where=where,
            expected=f"rows at most {MAX_STEP_S:g} s apart, in the median",
            found=f"{step_s:g} s apart" + (f": probably {likely[0]}" if likely else ""),
            do="give the times in seconds, or leave out the log",
        )
    wrong = ~(np.abs(time_s) < MAX_TIME_S)
    if wrong.any():
        raise SourceError(
            "a time is no time in seconds",
            where=f"{where}, row {int(np.flatnonzero(wrong)[0])}",
            expected=f"less than {MAX_TIME_S:g} s",
            found=f"{time_s[wrong][0]}",
            do=REPAIR,
        )
    return np.rint(time_s * 1e6).astype(np.int64)


def signed_speed(speed_mps: np.ndarray, forward_mps: np.ndarray, where: str) -> np.ndarray:
    """A recorded speed (T,) with the direction that the poses' forward velocity (T,) shows.

    Raises SourceError if the two disagree by more than SPEED_RATIO where the car moves, as they do
    for another unit.
    """
    moving = np.abs(forward_mps) > MIN_SPEED_MPS
    if moving.any():
        ratio = float(np.median(np.abs(speed_mps[moving] / forward_mps[moving])))
        if not SPEED_RATIO[0] <= ratio <= SPEED_RATIO[1]:
            raise SourceError(
                "the recorded speed is not that of the poses",
                where=where,
                expected=f"a ratio of {SPEED_RATIO[0]} to {SPEED_RATIO[1]}, both in m/s",
                found=f"{ratio:.3g} in the median (km/h would give 3.6, miles an hour 2.24)",
                do=REPAIR,
            )
    backward = (forward_mps < 0) & (np.abs(forward_mps) > 0.5)
    return np.where(backward, -np.abs(speed_mps), speed_mps)


def bare_signals(
    frame_index: np.ndarray,
    timestamp_us: np.ndarray,
    pose_world: np.ndarray,
    motion: np.ndarray,
    has_image: np.ndarray,
    notes: tuple[str, ...],
) -> Signals:
    """Signals without route, command and tags; `motion` (T, 4) as motion_of_poses gives it."""
    rows = len(frame_index)
    return Signals(
        frame_index=np.asarray(frame_index, np.int32),
        timestamp_us=np.asarray(timestamp_us, np.int64),
        pose_world=pose_world,
        velocity_ego=motion[:, :2],
        acceleration_ego=motion[:, 2:],
        command=np.full(rows, Command.UNKNOWN, np.int8),
        has_image=has_image,
        route_roadblock_ids=[[] for _ in range(rows)],
        tags=[[] for _ in range(rows)],
        notes=notes,
    )
