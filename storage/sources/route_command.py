"""The driving command that follows from a planned route. Not from what was driven afterwards."""

import numpy as np

from storage.trajectory_table import Command

# OpenScene's rule (DriveEngine, driving_command.py): 2 m to a side, 20 m ahead
AHEAD_M, OFFSET_M = 20.0, 2.0
MAX_DISTANCE_M = 5.0  # farther from its route the ego does not follow it: unknown


def commands_of_route(pose_world: np.ndarray, route_xy: np.ndarray) -> np.ndarray:
    """Command (T,) of each pose (T, 3) on a route (n, 2): the side on which the point 20 m farther
    along it lies.

    Unknown where the ego is more than 5 m off the route, or where less than 20 m of it are left.
    """
    step_m = np.hypot(*np.diff(route_xy, axis=0).T)
    along_m = np.append(0.0, np.cumsum(step_m))
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
    lost = (distance_m.min(axis=1) > MAX_DISTANCE_M) | (target_m > along_m[-1])
    return np.where(lost, Command.UNKNOWN, command).astype(np.int8)
