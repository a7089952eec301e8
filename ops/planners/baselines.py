"""Plans that follow from the present motion alone, and the recorded one. Nothing here is learnt.

Legend: N rows; a plan is (8, 3): x, y, heading in the ego frame at 0.5 s steps.
"""

import numpy as np

from storage.dataset import FrameSet
from storage.errors import ConfigError
from storage.trajectory_table import FUTURE_STEPS, STEP_S

_TIMES_S = np.arange(1, FUTURE_STEPS + 1) * STEP_S
_STRAIGHT_RADPS = 1e-4  # below this yaw rate the arc is drawn as a line


def stopped(rows: FrameSet) -> np.ndarray:
    """(N, 8, 3): stays where it is."""
    return np.zeros((len(rows), FUTURE_STEPS, 3))


def constant_velocity(rows: FrameSet) -> np.ndarray:
    """(N, 8, 3): keeps speed and heading."""
    return _arc(np.hypot(*rows.velocity.T.astype(np.float64)), np.zeros(len(rows)))


def constant_turn_rate(rows: FrameSet) -> np.ndarray:
    """(N, 8, 3): keeps speed and the yaw rate of the last 0.5 s, taken from the past alone;
    straight without a past.
    """
    yaw_radps = np.where(
        rows.history_valid[:, -1], -rows.history[:, -1, 2].astype(np.float64) / STEP_S, 0.0
    )
    return _arc(np.hypot(*rows.velocity.T.astype(np.float64)), yaw_radps)


def human(rows: FrameSet) -> np.ndarray:
    """(N, 8, 3): what was driven. Raises ConfigError for rows whose recorded future is not whole."""
    if not rows.future_valid.all():
        row = int(np.flatnonzero(~rows.future_valid.all(axis=1))[0])
        raise ConfigError(
            "the recorded future of a row is not whole",
            expected="4 s of future",
            where=f"{rows.log_id[row]} {rows.frame_index[row]}",
            do="ask for the human's plan only on scenes",
        )
    return rows.future.astype(np.float64)


def _arc(speed_mps: np.ndarray, yaw_radps: np.ndarray) -> np.ndarray:
    """Circular arcs of constant speed and yaw rate; (N,) each."""
    heading = yaw_radps[:, None] * _TIMES_S
    safe = np.where(np.abs(yaw_radps) < _STRAIGHT_RADPS, 1.0, yaw_radps)[:, None]
    turning = (np.abs(yaw_radps) >= _STRAIGHT_RADPS)[:, None]
    x = np.where(turning, np.sin(heading) / safe, _TIMES_S) * speed_mps[:, None]
    y = np.where(turning, (1 - np.cos(heading)) / safe, 0.0) * speed_mps[:, None]
    return np.stack([x, y, heading], axis=-1)
