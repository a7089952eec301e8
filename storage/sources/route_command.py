"""The driving command from a planned route, never from the recorded future."""

import numpy as np

from storage.sources.raw_files import too_large
from storage.trajectory_table import Command

# OpenScene's rule (DriveEngine, driving_command.py): lateral offset of 2 m, 20 m ahead
AHEAD_M, OFFSET_M = 20.0, 2.0
MAX_DISTANCE_M = 5.0  # an ego farther from the route does not follow it: command unknown

MAX_ROUTE_M = 50_000.0  # of one log; a longer one is a fault, and each metre takes memory


def commands_of_route(pose_world: np.ndarray, route_xy: np.ndarray) -> np.ndarray:
    """Command (T,) int8 of each pose (T, 3) on a route (n, 2), all in the world frame, metres.

    LEFT or RIGHT if the route's point 20 m ahead lies at least 2 m to that side of the ego, else
    STRAIGHT; UNKNOWN if the ego is more than 5 m off the route or less than 20 m of it are left.
    Raises SourceError for a route of more than MAX_ROUTE_M, or with NaN or infinity in it.
    """
    step_m = np.hypot(*np.diff(route_xy, axis=0).T)
    along_m = np.append(0.0, np.cumsum(step_m))
    if not along_m[-1] <= MAX_ROUTE_M:
        raise too_large("the planned route", f"at most {MAX_ROUTE_M} m", f"{along_m[-1]} m")
    fine_m = np.arange(0.0, along_m[-1], 0.5)
    fine_xy = np.column_stack([np.interp(fine_m, along_m, route_xy[:, axis]) for axis in (0, 1)])
    distance_m = np.hypot(*(pose_world[:, None, :2] - fine_xy[None]).transpose(2, 0, 1))
    nearest = distance_m.argmin(axis=1)
    target_m = fine_m[nearest] + AHEAD_M
    dx, dy = (
        np.interp(target_m, along_m, route_xy[:, axis]) - pose_world[:, axis] for axis in (0, 1)
    )
    left_m = np.cos(pose_world[:, 2]) * dy - np.sin(pose_world[:, 2]) * dx
    command = np.select(
        [left_m >= OFFSET_M, left_m <= -OFFSET_M], [Command.LEFT, Command.RIGHT], Command.STRAIGHT
    )
    off_route = (distance_m.min(axis=1) > MAX_DISTANCE_M) | (target_m > along_m[-1])
    return np.where(off_route, Command.UNKNOWN, command).astype(np.int8)
