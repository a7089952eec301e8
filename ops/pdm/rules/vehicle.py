"""The ego vehicle of NAVSIM (nuPlan's Pacifica), the steps of the simulation, the columns of a
state.
"""

from enum import IntEnum

import numpy as np

WIDTH_M = 2.297
LENGTH_M = 4.049 + 1.127  # front length + rear length, both from the rear axle
WHEEL_BASE_M = 3.089
REAR_AXLE_TO_CENTER_M = 1.461
HALF_WIDTH_M = WIDTH_M / 2
HALF_LENGTH_M = LENGTH_M / 2

STEPS = 40  # simulated steps of a plan
POSES = STEPS + 1  # with the current one
STEP_S = 0.1  # spacing of the simulation
KEY_STEP_S = 0.5  # spacing of the logged key frames


class State(IntEnum):
    """Columns of a simulated state: rear axle in the world, velocities and accelerations in the ego
    frame.
    """

    X = 0
    Y = 1
    YAW = 2
    VX = 3
    VY = 4
    AX = 5
    AY = 6
    STEER = 7
    STEER_RATE = 8
    YAW_RATE = 9
    YAW_ACC = 10


STATE_SIZE = len(State)


def to_ego(poses_world: np.ndarray, ego: np.ndarray) -> np.ndarray:
    """World poses (n, 3) in the frame of a pose whose first columns are x, y, heading."""
    c, s = np.cos(ego[2]), np.sin(ego[2])
    dx, dy, turn = (poses_world[:, k] - ego[k] for k in range(3))
    return np.stack(
        [c * dx + s * dy, -s * dx + c * dy, np.arctan2(np.sin(turn), np.cos(turn))], axis=1
    )
