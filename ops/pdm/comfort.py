"""Bounds on accelerations, jerks and yaw motion, and how two plans in a row differ. Not how plans become states.

Source: PDM_SPEC 1.7 (navsim scoring/pdm_comfort_metrics.py; filters are Savitzky-Golay, scipy.signal.savgol_filter). A filter
over a known number of samples is a fixed banded matrix, so it is built once from scipy and applied in one pass. n samples.
"""

import math
from enum import IntEnum
from functools import cache
from typing import NamedTuple

import numpy as np
from scipy.signal import savgol_filter

from ops.pdm.engine import kernel
from ops.pdm.vehicle import REAR_AXLE_TO_CENTER_M, STEP_S, State

MIN_LON_ACC, MAX_LON_ACC = -4.05, 2.40          # m/s2
MAX_LAT_ACC = 4.89                              # m/s2
MAX_JERK, MAX_LON_JERK = 8.37, 4.13             # m/s3
MAX_YAW_ACC, MAX_YAW_RATE = 1.93, 0.95          # rad/s2, rad/s
EXTENDED_LIMITS = (0.7, 0.5, 0.1, 0.1)          # RMS of differences: m/s2, m/s3, rad/s, rad/s2
EXTENDED_MAX_GAP_S = 0.55                       # two frames farther apart than this are not compared
_DECIMALS = 1e8                                 # the devkit rounds to 8 decimals before it compares


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

    weights: np.ndarray         # (n, w)
    start: np.ndarray           # (n,) int64


class Filters(NamedTuple):
    """The filters of one version for n samples."""

    acceleration: Filter        # of the two acceleration bounds
    smooth: Filter              # of the acceleration before its derivative is taken
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
    assert math.isclose(np.abs(weights).sum(), np.abs(dense).sum(), rel_tol=1e-12), "a filter weighs samples outside its window"
    return Filter(np.ascontiguousarray(weights), start)


@cache
def filters(samples: int, whole_plan: bool) -> Filters:
    """Filters of v1 (`whole_plan`: accelerations and jerks are one parabola over all samples) or of v2."""
    wide = samples if whole_plan else 8
    return Filters(_filter(samples, wide, 2), _filter(samples, 8, 2), _filter(samples, samples if whole_plan else 15, 2, 1),
                   _filter(samples, 5, 2, 1), _filter(samples, 5, 3, 2))


@cache
def extended_filters(samples: int) -> Filters:
    """Filters of the two-frame comfort; its yaw acceleration is a parabola's, not a cubic's."""
    return filters(samples, False)._replace(yaw_acc=_filter(samples, 5, 2, 2))


@kernel
def _apply(filter_, values, out):
    """Fill `out` (n,) with the filtered values (n,), rounded to 8 decimals."""
    for i in range(len(values)):
        total, first = 0.0, filter_.start[i]
        for k in range(filter_.weights.shape[1]):
            total += filter_.weights[i, k] * values[first + k]
        out[i] = np.rint(total * _DECIMALS) / _DECIMALS


@kernel
def _within(values, low, high):
    for value in values:
        if not low < value < high:
            return False
    return True


@kernel
def _unwrap(values):
    """Headings without jumps of whole turns, in place."""
    turns = 0.0
    before = values[0]
    for i in range(1, len(values)):
        turns += np.rint((values[i] - before) / (2 * math.pi))
        before = values[i]
        values[i] -= 2 * math.pi * turns


@kernel
def comfort_bounds(states, filters_, to_center, out):
    """Fill `out` (6,) bool from states (n, 11): Comfort columns. `to_center` moves the longitudinal acceleration (v2)."""
    n = len(states)
    lon, values, filtered = np.empty(n), np.empty(n), np.empty(n)
    for i in range(n):
        shift = REAR_AXLE_TO_CENTER_M * (states[i, State.YAW_RATE] ** 2 + states[i, State.YAW_ACC]) if to_center else 0.0
        lon[i] = states[i, State.AX] + shift
    _apply(filters_.acceleration, lon, filtered)
    out[Comfort.LON_ACC] = _within(filtered, MIN_LON_ACC, MAX_LON_ACC)
    _apply(filters_.acceleration, states[:, State.AY], filtered)
    out[Comfort.LAT_ACC] = _within(filtered, -MAX_LAT_ACC, MAX_LAT_ACC)
    for i in range(n):
        values[i] = math.hypot(states[i, State.AX], states[i, State.AY])
    _apply(filters_.smooth, values, filtered)
    _apply(filters_.jerk, filtered, values)
    out[Comfort.JERK] = _within(values, -MAX_JERK, MAX_JERK)
    _apply(filters_.smooth, lon, filtered)
    _apply(filters_.jerk, filtered, values)
    out[Comfort.LON_JERK] = _within(values, -MAX_LON_JERK, MAX_LON_JERK)
    values[:] = states[:, State.YAW]
    _unwrap(values)
    _apply(filters_.yaw_acc, values, filtered)
    out[Comfort.YAW_ACC] = _within(filtered, -MAX_YAW_ACC, MAX_YAW_ACC)
    _apply(filters_.yaw_rate, values, filtered)
    out[Comfort.YAW_RATE] = _within(filtered, -MAX_YAW_RATE, MAX_YAW_RATE)


@kernel
def _extended_features(states, filters_, out):
    """Fill `out` (4, n): acceleration magnitude, its jerk, yaw rate, yaw acceleration."""
    n = len(states)
    values = np.empty(n)
    for i in range(n):
        values[i] = math.hypot(states[i, State.AX], states[i, State.AY])
    _apply(filters_.smooth, values, out[0])
    _apply(filters_.jerk, out[0], out[1])
    values[:] = states[:, State.YAW]
    _unwrap(values)
    _apply(filters_.yaw_rate, values, out[2])
    _apply(filters_.yaw_acc, values, out[3])


@kernel
def _rms_differences(now, before, filters_):
    """(4,) root mean square of the differences of the features of two stretches of states (n, 11)."""
    here, there = np.empty((4, len(now))), np.empty((4, len(now)))
    _extended_features(now, filters_, here)
    _extended_features(before, filters_, there)
    out = np.empty(4)
    for k in range(4):
        total = 0.0
        for i in range(len(now)):
            total += (here[k, i] - there[k, i]) ** 2
        out[k] = math.sqrt(total / len(now))
    return out


def extended_comfort(now: np.ndarray, before: np.ndarray, gap_s: float) -> tuple[float, np.ndarray]:
    """EC of v2: 1 or 0, and the (4,) RMS differences, from the simulated states (41, 11) of a plan and of the one `gap_s` earlier.

    Raises ValueError unless 0 < gap_s < 0.55.
    """
    if not 0 < gap_s < EXTENDED_MAX_GAP_S:
        raise ValueError(f"two frames compared for comfort must be less than {EXTENDED_MAX_GAP_S} s apart, got {gap_s} s")
    shift = round(gap_s / STEP_S)
    rms = _rms_differences(np.ascontiguousarray(now[:-shift]), np.ascontiguousarray(before[shift:]),
                           extended_filters(len(now) - shift))
    return float((rms <= EXTENDED_LIMITS).all()), rms
