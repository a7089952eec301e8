"""Comfort: bounds on acceleration, jerk and yaw motion, and the difference of two plans in a row.

Source: docs/metrics.md, "C and HC" and "EC"; devkit pdm_planner/scoring/pdm_comfort_metrics.py
`ego_is_comfortable`, `ego_is_two_frame_extended_comfort`. The filters are Savitzky-Golay
(scipy.signal.savgol_filter). A filter over a known number of samples is a fixed banded matrix, so
it is built once from scipy and applied in one pass. n samples.
"""

import math
from enum import IntEnum
from functools import cache
from typing import NamedTuple

import numpy as np
from scipy.signal import savgol_filter

from ops.pdm.rules.engine import inner, inner_sum, kernel
from ops.pdm.rules.vehicle import REAR_AXLE_TO_CENTER_M, STEP_S, State

MIN_LON_ACC, MAX_LON_ACC = -4.05, 2.40  # m/s2
MAX_LAT_ACC = 4.89  # m/s2
MAX_JERK, MAX_LON_JERK = 8.37, 4.13  # m/s3
MAX_YAW_ACC, MAX_YAW_RATE = 1.93, 0.95  # rad/s2, rad/s
EXTENDED_LIMITS = (0.7, 0.5, 0.1, 0.1)  # RMS of differences: m/s2, m/s3, rad/s, rad/s2
EXTENDED_MAX_GAP_S = 0.55  # two frames are compared if they are less than this apart
_DECIMALS = 1e8  # the devkit rounds to 8 decimals before it compares


class Comfort(IntEnum):
    """Columns of the six comfort bounds."""

    LON_ACC = 0
    LAT_ACC = 1
    JERK = 2
    LON_JERK = 3
    YAW_ACC = 4
    YAW_RATE = 5


class Filter(NamedTuple):
    """A Savitzky-Golay filter over n samples: row i weighs samples start[i] .. start[i] + w - 1."""

    weights: np.ndarray  # (n, w)
    start: np.ndarray  # (n,) int64


class Filters(NamedTuple):
    """The filters of one version for n samples."""

    acceleration: Filter  # of the two acceleration bounds
    smooth: Filter  # of the acceleration before its derivative is taken
    jerk: Filter
    yaw_rate: Filter
    yaw_acc: Filter


@cache
def _filter(samples: int, window: int, order: int, derivative: int = 0) -> Filter:
    window = min(window, samples)
    spacing = float(np.diff(np.arange(samples) * STEP_S).mean())
    dense = savgol_filter(np.eye(samples), window, order, deriv=derivative, delta=spacing, axis=0)
    start = np.clip(np.arange(samples) - (window - 1) // 2, 0, samples - window)
    weights = dense[np.arange(samples)[:, None], start[:, None] + np.arange(window)]
    assert math.isclose(np.abs(weights).sum(), np.abs(dense).sum(), rel_tol=1e-12), (
        "samples outside the window count"
    )
    return Filter(np.ascontiguousarray(weights), start)


@cache
def filters(samples: int, whole_plan: bool) -> Filters:
    """Filters of v1 (`whole_plan`: one parabola over all samples for accelerations and jerks) or
    v2.
    """
    acceleration_window, jerk_window = (samples, samples) if whole_plan else (8, 15)
    return Filters(
        _filter(samples, acceleration_window, 2),
        _filter(samples, 8, 2),
        _filter(samples, jerk_window, 2, 1),
        _filter(samples, 5, 2, 1),
        _filter(samples, 5, 3, 2),
    )


@cache
def extended_filters(samples: int) -> Filters:
    """Filters of the two-frame comfort: the yaw acceleration is that of a parabola, not of a
    cubic.
    """
    return filters(samples, False)._replace(yaw_acc=_filter(samples, 5, 2, 2))


@inner_sum
def _filtered(weights, start, values, out):
    """Fill `out` (n,) with the filtered values (n,), rounded to 8 decimals."""
    for i in range(len(values)):
        total = 0.0
        for k in range(weights.shape[1]):
            total += weights[i, k] * values[start[i] + k]
        out[i] = np.rint(total * _DECIMALS) / _DECIMALS


@inner
def _between(values, low, high):
    """True if every value lies strictly between the bounds."""
    for value in values:  # noqa: SIM110, all() over a generator is not compiled
        if not low < value < high:
            return False
    return True


@inner
def _magnitude(states, out):
    """Fill `out` (n,) with the magnitude of the acceleration of states (n, 11)."""
    for i in range(len(out)):
        out[i] = math.hypot(states[i, State.AX], states[i, State.AY])


@inner
def _headings(states, out):
    """Fill `out` (n,) with the headings of states (n, 11) without jumps of whole turns."""
    turns = 0.0
    out[0] = states[0, State.YAW]
    for i in range(1, len(out)):
        turns += np.rint((states[i, State.YAW] - states[i - 1, State.YAW]) / (2 * math.pi))
        out[i] = states[i, State.YAW] - 2 * math.pi * turns


@inner
def comfort_bounds(states, filters_, to_center, work, out):
    """Fill `out` (6,) bool from states (n, 11): Comfort columns. `work` (3, n) is scratch.

    `to_center` (v2) moves the longitudinal acceleration from the rear axle to the centre of the
    car.
    """
    lon, values, filtered = work[0], work[1], work[2]
    for i in range(len(states)):
        shift = states[i, State.YAW_RATE] * states[i, State.YAW_RATE] + states[i, State.YAW_ACC]
        lon[i] = states[i, State.AX] + (REAR_AXLE_TO_CENTER_M * shift if to_center else 0.0)
        values[i] = states[i, State.AY]
    acceleration, smooth, jerk = filters_.acceleration, filters_.smooth, filters_.jerk
    _filtered(acceleration.weights, acceleration.start, values, filtered)
    out[Comfort.LAT_ACC] = _between(filtered, -MAX_LAT_ACC, MAX_LAT_ACC)
    _filtered(acceleration.weights, acceleration.start, lon, filtered)
    out[Comfort.LON_ACC] = _between(filtered, MIN_LON_ACC, MAX_LON_ACC)
    _filtered(smooth.weights, smooth.start, lon, filtered)
    _filtered(jerk.weights, jerk.start, filtered, values)
    out[Comfort.LON_JERK] = _between(values, -MAX_LON_JERK, MAX_LON_JERK)
    _magnitude(states, values)
    _filtered(smooth.weights, smooth.start, values, filtered)
    _filtered(jerk.weights, jerk.start, filtered, values)
    out[Comfort.JERK] = _between(values, -MAX_JERK, MAX_JERK)
    _headings(states, values)
    _filtered(filters_.yaw_acc.weights, filters_.yaw_acc.start, values, filtered)
    out[Comfort.YAW_ACC] = _between(filtered, -MAX_YAW_ACC, MAX_YAW_ACC)
    _filtered(filters_.yaw_rate.weights, filters_.yaw_rate.start, values, filtered)
    out[Comfort.YAW_RATE] = _between(filtered, -MAX_YAW_RATE, MAX_YAW_RATE)


@inner
def _extended_features(states, filters_, out):
    """Fill rows 0 .. 3 of `out` (5, n): acceleration magnitude, its jerk, yaw rate, yaw
    acceleration; row 4 is scratch.
    """
    smooth, jerk = filters_.smooth, filters_.jerk
    _magnitude(states, out[4])
    _filtered(smooth.weights, smooth.start, out[4], out[0])
    _filtered(jerk.weights, jerk.start, out[0], out[1])
    _headings(states, out[4])
    _filtered(filters_.yaw_rate.weights, filters_.yaw_rate.start, out[4], out[2])
    _filtered(filters_.yaw_acc.weights, filters_.yaw_acc.start, out[4], out[3])


@kernel
def _rms_differences(now, before, filters_):
    """(4,) root mean square of the differences of the features of two sequences of states
    (n, 11).
    """
    features_now, features_before = np.empty((5, len(now))), np.empty((5, len(now)))
    _extended_features(now, filters_, features_now)
    _extended_features(before, filters_, features_before)
    out = np.empty(4)
    for k in range(4):
        total = 0.0
        for i in range(len(now)):
            total += (features_now[k, i] - features_before[k, i]) ** 2
        out[k] = math.sqrt(total / len(now))
    return out


def extended_comfort(now: np.ndarray, before: np.ndarray, gap_s: float) -> tuple[float, np.ndarray]:
    """EC of v2: 1 or 0, and the (4,) RMS differences of acceleration, jerk, yaw rate and yaw
    acceleration.

    `now` and `before` are the simulated states (41, 11) of two plans, the second `gap_s` earlier.
    Raises ValueError unless 0 < gap_s < 0.55.
    """
    if not 0 < gap_s < EXTENDED_MAX_GAP_S:
        raise ValueError(
            f"two frames compared for comfort must be less than {EXTENDED_MAX_GAP_S} s apart, "
            f"found {gap_s} s"
        )
    shift = round(gap_s / STEP_S)
    rms = _rms_differences(
        np.ascontiguousarray(now[:-shift]),
        np.ascontiguousarray(before[shift:]),
        extended_filters(len(now) - shift),
    )
    return float((rms <= EXTENDED_LIMITS).all()), rms
