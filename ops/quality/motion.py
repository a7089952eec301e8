"""What is measured of the tables of one log: its extent in place and time, histograms for drift,
and whether the camera and the odometry tell of the same motion at the same time.

Legend: T rows of the log, P pairs of neighbouring images.
"""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

# bin edges of the histograms; what lies outside counts in the first or last bin
EDGES = {
    "speed_mps": (0.5, 2, 4, 6, 8, 10, 12, 15, 18, 22, 27),
    "acceleration_mps2": (-3, -2, -1, -0.5, -0.2, 0.2, 0.5, 1, 2, 3),
    "yaw_rate_radps": (-0.4, -0.2, -0.1, -0.04, -0.01, 0.01, 0.04, 0.1, 0.2, 0.4),
    "curvature_1pm": (-0.1, -0.05, -0.02, -0.005, 0.005, 0.02, 0.05, 0.1),
    "agents": (1, 3, 6, 10, 15, 20, 30, 50, 80),
}
MOVING_MPS = 1.0  # below this speed a path has no curvature
DRIVEN_ON_M = 2.0  # after this distance an image must differ from the one before
MAX_LAG_S = 1.0  # longest lag between camera and odometry that is looked for
TURN_RAD = 0.02  # a turn between two images that shows
MIN_TURNS = 6  # pairs of images with a turn, for a lag to be measured
MIN_CORRELATION = 0.7  # of the two motions at the best lag
MIN_GAIN = 0.25  # of the correlation over that without a lag


@dataclass(frozen=True, slots=True)
class Lag:
    """By how much the camera lags behind the odometry."""

    seconds: float  # negative: the camera is ahead; 0 where the motion does not allow to tell
    step_s: float = 0.0  # between the lags that were tried; 0: none was
    correlations: tuple[float, ...] = ()  # of the two motions, from the most negative lag on


def extent(rows: pa.Table) -> dict:
    """Split, place, time and the box around the path of one log's trajectories."""
    time_us, x, y = (rows[name].to_numpy() for name in ("timestamp_us", "x_m", "y_m"))
    return {
        "split": rows["split"][0].as_py(),
        "location": rows["location"][0].as_py(),
        "rows": len(rows),
        "time_us": [int(time_us.min()), int(time_us.max())],
        "box_m": [float(x.min()), float(y.min()), float(x.max()), float(y.max())],
    }


def histograms(rows: pa.Table, agents: pa.Table) -> dict[str, list[int]]:
    """Counts of one log's rows in the bins of EDGES."""
    speed = np.hypot(rows["vx_mps"].to_numpy(), rows["vy_mps"].to_numpy())
    yaw_rate = rows["yaw_rate_radps"].to_numpy()
    moving = speed > MOVING_MPS
    frames = np.sort(rows["frame_index"].to_numpy())
    of_frame = agents["frame_index"].to_numpy()
    first, last = np.searchsorted(np.sort(of_frame), [frames, frames + 1])
    values = {
        "speed_mps": speed,
        "acceleration_mps2": rows["ax_mps2"].to_numpy(),
        "yaw_rate_radps": yaw_rate,
        "curvature_1pm": yaw_rate[moving] / speed[moving],
        "agents": last - first,
    }
    return {
        name: np.bincount(np.digitize(of_row, EDGES[name]), minlength=len(EDGES[name]) + 1).tolist()
        for name, of_row in values.items()
    }


def repeated_images(rows: pa.Table, images: dict) -> np.ndarray:
    """(T,) bool: the row's front image repeats the one before, though the ego has driven on.

    `images` are the statistics of measure_images.
    """
    frames, at = rows["frame_index"].to_numpy(), _rows_of(rows, images)
    still = np.zeros(len(at), bool)
    still[images["still"]] = True
    xy = np.stack([rows["x_m"].to_numpy(), rows["y_m"].to_numpy()], axis=1)[at]
    moved_m = np.r_[0.0, np.hypot(*np.diff(xy, axis=0).T)]
    known = frames[at] == np.asarray(images["frame_index"])
    repeats = np.zeros(len(rows), bool)
    repeats[at[still & known & (moved_m > DRIVEN_ON_M)]] = True
    return repeats


def camera_lag(rows: pa.Table, images: dict) -> Lag:
    """The lag between the turns that the front camera shows and those of the recorded headings.

    Turns shift the image sideways; the lag is the one at which shifts and turns correlate best, if
    they do so clearly better than without a lag.
    """
    at = _rows_of(rows, images)
    time_s, yaw = rows["timestamp_us"].to_numpy()[at] * 1e-6, rows["yaw_rad"].to_numpy()[at]
    turn = (np.diff(yaw) + np.pi) % (2 * np.pi) - np.pi
    step_s, shift = np.diff(time_s), np.asarray(images["shifts"], float)
    usable = (rows["frame_index"].to_numpy()[at] == np.asarray(images["frame_index"])).all()
    if not usable or (np.abs(turn) > TURN_RAD).sum() < MIN_TURNS or (step_s <= 0).any():
        return Lag(0.0)
    usual_s = float(np.median(step_s))
    reach = min(max(1, round(MAX_LAG_S / usual_s)), len(turn) // 3)
    lags = np.arange(-reach, reach + 1)
    correlations = np.array([_correlation(shift, turn, lag) for lag in lags])
    return Lag(
        best_lag(correlations, MIN_CORRELATION, MIN_GAIN) * usual_s,
        usual_s,
        tuple(np.round(correlations, 4).tolist()),
    )


def best_lag(correlations: np.ndarray, least: float, gain: float) -> int:
    """The lag, in steps, with the highest of `correlations`, which has lag 0 in its middle; 0 if it
    is below `least` or not by `gain` above that of lag 0.
    """
    best, middle = int(correlations.argmax()), len(correlations) // 2
    clear = correlations[best] >= max(least, correlations[middle] + gain)
    return best - middle if clear else 0


def _correlation(shift: np.ndarray, turn: np.ndarray, lag: int) -> float:
    """Of the camera's shift and the turn `lag` pairs earlier; 0 if either does not vary."""
    seen = shift[max(lag, 0) : len(shift) + min(lag, 0)]
    driven = turn[max(-lag, 0) : len(turn) + min(-lag, 0)]
    seen, driven = seen - seen.mean(), driven - driven.mean()
    scale = np.sqrt((seen**2).sum() * (driven**2).sum())
    return float((seen * driven).sum() / scale) if scale > 1e-9 else 0.0


def _rows_of(rows: pa.Table, images: dict) -> np.ndarray:
    """The row of each image; where it has none, the nearest."""
    frames = rows["frame_index"].to_numpy()
    found = np.searchsorted(frames, np.asarray(images["frame_index"], int))
    return np.minimum(found, len(frames) - 1)
