"""From a plan to simulated states: 10 Hz reference, LQR tracker, kinematic bicycle.

Source: docs/metrics.md, "From a plan to a score" and "Tracker and vehicle"; devkit
pdm_planner/simulation/batch_lqr.py, batch_lqr_utils.py, batch_kinematic_bicycle.py. Two facts make
it cheap. The matrix of the least-squares problem of the speed profile does not depend on the
headings (cos^2 + sin^2 = 1), so its solution is one constant matrix. The problem of the curvature
profile is tridiagonal with the curvatures as unknowns, so two sweeps solve it. K plans, T = 41
poses at 0.1 s.
"""

import math

import numpy as np

from ops.pdm.rules.engine import inner, inner_sum, kernel
from ops.pdm.rules.geometry import wrapped
from ops.pdm.rules.quirks import DEVKIT, Quirks
from ops.pdm.rules.vehicle import POSES, STATE_SIZE, STEP_S, STEPS, WHEEL_BASE_M

_HORIZON = 10  # steps that the tracker looks ahead
_JERK_PENALTY = 1e-4
_CURVATURE_RATE_PENALTY = 1e-2
_INITIAL_CURVATURE_PENALTY = 1e-10
_STOP_GAIN = 0.5  # 1/s
_STOP_SPEED_MPS = 0.2
# q N dt / (q (N dt)^2 + r) with q = 10, r = 1, N dt = 1 s
_SPEED_GAIN = 10.0 * 1.0 / (10.0 * 1.0 * 1.0 + 1.0)
# of the lateral cost; the lateral error and the steering rate have weight 1
_HEADING_WEIGHT = 10.0
_ACCELERATION_LAG_S = 0.2
_STEERING_LAG_S = 0.05
_MAX_STEER_RAD = math.pi / 3
_TURN = 2 * math.pi


def _speed_matrix(steps: int, accelerations_penalised: bool) -> np.ndarray:
    """(steps, steps) matrix from displacements along the heading to the smoothed speed profile.

    The devkit should penalise differences of the accelerations, as nuPlan does, but it assigns to
    its difference matrix instead of adding to it, which leaves minus the identity (and +1 in the
    last column of the last row).
    """
    profile = np.tril(np.full((steps, steps), STEP_S))  # speeds from the unknowns (v0, a0, a1, ...)
    profile[:, 0] = 1.0
    rows = np.arange(steps - 2)
    smooth = np.zeros((len(rows), steps))
    smooth[rows, rows + 2] = 1.0
    if accelerations_penalised:
        smooth[:, 1:-1] = 0.0
    smooth[rows, rows + 1] = -1.0
    stacked = np.concatenate([profile * STEP_S, math.sqrt(_JERK_PENALTY) * smooth])
    right = np.concatenate([np.eye(steps), np.zeros((len(rows), steps))])
    return np.ascontiguousarray(profile @ np.linalg.lstsq(stacked, right, rcond=None)[0])


_SPEED_MATRIX, _NUPLAN_SPEED_MATRIX = _speed_matrix(STEPS, True), _speed_matrix(STEPS, False)


def references(plans: np.ndarray, origin: np.ndarray, time_us: int, dt_s: float) -> np.ndarray:
    """(K, 41, 3) world references at 0.1 s of plans (K, n, 3) in the frame of the pose `origin`
    (3,), `dt_s` between poses.
    """
    c, s = np.cos(origin[2]), np.sin(origin[2])
    cp, sp = np.cos(plans[..., 2]), np.sin(plans[..., 2])
    world = np.empty((plans.shape[0], plans.shape[1] + 1, 3))
    world[:, 0] = origin
    world[:, 1:, 0] = c * plans[..., 0] - s * plans[..., 1] + origin[0]
    world[:, 1:, 1] = s * plans[..., 0] + c * plans[..., 1] + origin[1]
    world[:, 1:, 2] = np.arctan2(s * cp + c * sp, c * cp - s * sp)
    return _resample(world, *_weights(_plan_times_us(time_us, plans.shape[1], dt_s), time_us))


def resampled(poses: np.ndarray, time_us: int) -> np.ndarray:
    """(K, 41, 3) world references from world poses (K, n, 3) exactly 0.1 s apart, the first one
    now.
    """
    times = time_us + np.arange(poses.shape[1], dtype=np.int64) * round(STEP_S * 1e6)
    return _resample(np.ascontiguousarray(poses), *_weights(times, time_us))


def track(reference: np.ndarray, start: np.ndarray, quirks: Quirks = DEVKIT) -> np.ndarray:
    """States (K, 41, 11) of the car tracking references (K, 41, 3) from the state `start` (11,)."""
    matrix = _SPEED_MATRIX if quirks.accelerations_penalised else _NUPLAN_SPEED_MATRIX
    return _track(np.ascontiguousarray(reference), start, matrix)


def _plan_times_us(time_us: int, count: int, dt_s: float) -> np.ndarray:
    """(count + 1,) int64 times of the current pose and of a plan; as in the devkit, seconds are
    truncated to microseconds.
    """
    seconds = (np.arange(count) * dt_s + dt_s) + time_us * 1e-6
    return np.concatenate([[time_us], (seconds * 1e6).astype(np.int64)])


def _weights(pose_times_us: np.ndarray, time_us: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For each of 41 samples: index of the pose before it, time since that pose, and time from that
    pose to the next, in us.

    Sample times are truncated to microseconds too, so a sample can be 1 us early; they are clipped
    to the time span of the poses.
    """
    sample_us = ((np.arange(POSES) * STEP_S + time_us * 1e-6) * 1e6).astype(np.int64)
    query = np.clip(sample_us, pose_times_us[0], pose_times_us[-1])
    later = np.clip(np.searchsorted(pose_times_us, query), 1, len(pose_times_us) - 1)
    since, span = query - pose_times_us[later - 1], pose_times_us[later] - pose_times_us[later - 1]
    return later - 1, since.astype(np.float64), span.astype(np.float64)


@inner
def _principal(angle):
    """Angle in [-pi, pi)."""
    return (angle + math.pi) % _TURN - math.pi


@kernel
def _resample(poses, earlier, since, span):
    """(K, T, 3) world poses interpolated linearly from (K, n, 3), headings along the shorter
    turn.
    """
    out = np.empty((poses.shape[0], len(earlier), 3))
    yaw = np.empty(poses.shape[1])
    for k in range(poses.shape[0]):
        yaw[0] = poses[k, 0, 2]
        for i in range(1, len(yaw)):
            turn = poses[k, i, 2] - poses[k, i - 1, 2]
            short = _principal(turn)
            yaw[i] = yaw[i - 1] + (math.pi if short == -math.pi and turn > 0 else short)
        for t in range(len(earlier)):
            i = earlier[t]
            for d in range(2):
                out[k, t, d] = (poses[k, i + 1, d] - poses[k, i, d]) / span[t] * since[t] + poses[
                    k, i, d
                ]
            out[k, t, 2] = _principal((yaw[i + 1] - yaw[i]) / span[t] * since[t] + yaw[i])
    return out


@inner_sum
def _speed_profile(reference, speed_matrix, out):
    """Fill `out` (40,) with the speed profile of a reference (41, 3)."""
    along = np.empty(len(out))
    for i in range(len(out)):
        dx, dy = reference[i + 1, 0] - reference[i, 0], reference[i + 1, 1] - reference[i, 1]
        along[i] = math.cos(reference[i, 2]) * dx + math.sin(reference[i, 2]) * dy
    for i in range(len(out)):
        total = 0.0
        for j in range(len(out)):
            total += speed_matrix[i, j] * along[j]
        out[i] = total


@inner
def _curvature_profile(reference, speed, weight, moment, out):
    """Fill `out` (40,) with curvatures: least squares of heading changes on distances, with a
    penalty on the curvature rate.

    Minimises sum (v_i dt k_i - dyaw_i)^2 + q sum ((k_{i+1} - k_i) / dt)^2 + q0 k_0^2 by eliminating
    the last unknown again and again. Every term of the weights is positive, so nothing cancels at
    standstill.
    """
    last = len(out) - 1
    stiff = _CURVATURE_RATE_PENALTY / (STEP_S * STEP_S)
    for i in range(last, -1, -1):
        distance = speed[i] * STEP_S
        weight[i] = distance * distance
        moment[i] = distance * wrapped(reference[i + 1, 2] - reference[i, 2])
        if i < last:
            weight[i] += stiff * weight[i + 1] / (stiff + weight[i + 1])
            moment[i] += stiff * moment[i + 1] / (stiff + weight[i + 1])
    out[0] = moment[0] / (weight[0] + _INITIAL_CURVATURE_PENALTY)
    for i in range(1, last + 1):
        out[i] = (stiff * out[i - 1] + moment[i]) / (stiff + weight[i])


@inner
def _steering_rate(lateral, heading, steer, v, acceleration, curvature, i):
    """LQR steering rate: the constant rate whose effect after 10 steps best cancels the errors that
    remain without steering.
    """
    last = min(i + _HORIZON, len(curvature) - 1)
    add_lateral, add_heading, add_steer = 0.0, 0.0, 0.0
    for k in range(i, i + _HORIZON):
        step = v * STEP_S
        lateral += step * heading
        heading += step / WHEEL_BASE_M * steer - step * curvature[min(k, last)]
        add_lateral += step * add_heading
        add_heading += step / WHEEL_BASE_M * add_steer
        add_steer += STEP_S
        v += acceleration * STEP_S
    error = add_lateral * lateral + _HEADING_WEIGHT * add_heading * wrapped(heading)
    return -error / (add_lateral * add_lateral + _HEADING_WEIGHT * add_heading * add_heading + 1.0)


@inner
def _drive(states, i, command, steering_rate):
    """One Euler step of the bicycle with lagged commands: from row i of `states` (T, 11) to
    i + 1.
    """
    yaw, speed, acceleration, steer = states[i, 2], states[i, 3], states[i, 5], states[i, 7]
    acceleration += STEP_S / (STEP_S + _ACCELERATION_LAG_S) * (command - acceleration)
    rate = STEP_S / (STEP_S + _STEERING_LAG_S) * steering_rate
    new_speed = speed + acceleration * STEP_S
    new_steer = min(max(steer + rate * STEP_S, -_MAX_STEER_RAD), _MAX_STEER_RAD)
    yaw_rate = new_speed * math.tan(new_steer) / WHEEL_BASE_M
    states[i + 1, 0] = states[i, 0] + speed * math.cos(yaw) * STEP_S
    states[i + 1, 1] = states[i, 1] + speed * math.sin(yaw) * STEP_S
    states[i + 1, 2] = _principal(yaw + speed * math.tan(steer) / WHEEL_BASE_M * STEP_S)
    states[i + 1, 3], states[i + 1, 4] = new_speed, 0.0
    states[i + 1, 5], states[i + 1, 6] = acceleration, 0.0
    states[i + 1, 7], states[i + 1, 8] = new_steer, rate
    states[i + 1, 9], states[i + 1, 10] = yaw_rate, (yaw_rate - states[i, 9]) / STEP_S


@inner
def _follow(reference, speed, curvature, states):
    """Fill rows 1 to 40 of `states` (41, 11): track a reference (41, 3) with its profiles (40,)."""
    for i in range(STEPS):
        goal, v = speed[min(i + _HORIZON, STEPS - 1)], states[i, 3]
        if goal <= _STOP_SPEED_MPS and v <= _STOP_SPEED_MPS:
            _drive(states, i, -_STOP_GAIN * (v - goal), 0.0)
            continue
        yaw = reference[i, 2]
        dx, dy = states[i, 0] - reference[i, 0], states[i, 1] - reference[i, 1]
        lateral = -dx * math.sin(yaw) + dy * math.cos(yaw)
        command = -_SPEED_GAIN * (v - goal)
        rate = _steering_rate(
            lateral, wrapped(states[i, 2] - yaw), states[i, 7], v, command, curvature, i
        )
        _drive(states, i, command, rate)


@kernel
def _track(reference, start, speed_matrix):
    """References (K, 41, 3) -> simulated states (K, 41, 11)."""
    states = np.empty((reference.shape[0], POSES, STATE_SIZE))
    speed, curvature = np.empty(STEPS), np.empty(STEPS)
    weight, moment = np.empty(STEPS), np.empty(STEPS)
    for k in range(reference.shape[0]):
        _speed_profile(reference[k], speed_matrix, speed)
        _curvature_profile(reference[k], speed, weight, moment, curvature)
        for column in range(STATE_SIZE):
            states[k, 0, column] = start[column]
        _follow(reference[k], speed, curvature, states[k])
    return states
