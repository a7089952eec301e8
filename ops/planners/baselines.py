"""Baseline plans: rules on the present motion, and the recorded future.

Legend: N rows; a plan is (8, 3): x, y, heading in m, m, rad in the ego frame at 0.5 s steps.
"""

import numpy as np

from storage.dataset import FrameSet
from storage.errors import ConfigError
from storage.trajectory_table import FUTURE_STEPS, STEP_S

_TIMES_S = np.arange(1, FUTURE_STEPS + 1) * STEP_S
_STRAIGHT_RADPS = 1e-4  # below this yaw rate the arc is computed as a line


def stopped(rows: FrameSet) -> np.ndarray:
    """Plans (N, 8, 3) that stay in place."""
    return np.zeros((len(rows), FUTURE_STEPS, 3))


def constant_velocity(rows: FrameSet) -> np.ndarray:
    """Plans (N, 8, 3) at constant speed and heading."""
    return _arc(np.hypot(*rows.velocity.T.astype(np.float64)), np.zeros(len(rows)))


def constant_turn_rate(rows: FrameSet) -> np.ndarray:
    """Plans (N, 8, 3) at constant speed and the yaw rate of the last 0.5 s, from the recorded
    history; straight without a history.
    """
    yaw_radps = np.where(
        rows.history_valid[:, -1], -rows.history[:, -1, 2].astype(np.float64) / STEP_S, 0.0
    )
    return _arc(np.hypot(*rows.velocity.T.astype(np.float64)), yaw_radps)


def human(rows: FrameSet) -> np.ndarray:
    """The recorded futures (N, 8, 3). Raises ConfigError for a row whose future is incomplete."""
    if not rows.future_valid.all():
        row = int(np.flatnonzero(~rows.future_valid.all(axis=1))[0])
        raise ConfigError(
            "the recorded future of a row is incomplete",
            expected="4 s of future",
            where=f"{rows.log_id[row]} {rows.frame_index[row]}",
            do="plan only for rows where future_valid is true for all steps",
        )
    return rows.future.astype(np.float64)


def _arc(speed_mps: np.ndarray, yaw_radps: np.ndarray) -> np.ndarray:
    """Circular arcs (N, 8, 3) of constant speed (N,) and yaw rate (N,)."""
    heading = yaw_radps[:, None] * _TIMES_S
    divisor = np.where(np.abs(yaw_radps) < _STRAIGHT_RADPS, 1.0, yaw_radps)[:, None]
    turning = (np.abs(yaw_radps) >= _STRAIGHT_RADPS)[:, None]
    x = np.where(turning, np.sin(heading) / divisor, _TIMES_S) * speed_mps[:, None]
    y = np.where(turning, (1 - np.cos(heading)) / divisor, 0.0) * speed_mps[:, None]
    return np.stack([x, y, heading], axis=-1)
