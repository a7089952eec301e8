"""From a plan to what the car would do: 10 Hz reference, LQR tracker, kinematic bicycle. Not PDM-Closed's own speeds.

Source: PDM_SPEC 1.2 and 1.3 (navsim simulation/batch_lqr.py, batch_lqr_utils.py, batch_kinematic_bicycle.py). Two facts make
it cheap. The least-squares problem of the speed profile has a matrix that no heading changes (cos^2 + sin^2 = 1), so its
solution is one constant matrix. The one of the curvature profile is tridiagonal once the curvatures themselves are the
unknowns, so it is two sweeps.
"""

import math

import numpy as np

from ops.pdm.engine import kernel
from ops.pdm.geometry import wrapped
from ops.pdm.vehicle import POSES, STEP_S, STEPS, WHEEL_BASE_M

_HORIZON = 10                       # steps that the tracker looks ahead
_JERK_PENALTY = 1e-4
_CURVATURE_RATE_PENALTY = 1e-2
_INITIAL_CURVATURE_PENALTY = 1e-10
_STOP_GAIN = 0.5                    # 1/s
_STOP_SPEED_MPS = 0.2
_LONGITUDINAL_GAIN = 10.0 * 1.0 / (10.0 * 1.0 * 1.0 + 1.0)      # q N dt / (q (N dt)^2 + r)
_ACCELERATION_LAG_S = 0.2
_STEERING_LAG_S = 0.05
_MAX_STEER_RAD = math.pi / 3
_DT = STEP_S


def _speed_matrix(steps: int, devkit_regulariser: bool = True) -> np.ndarray:
    """(steps, steps) matrix from displacements along the heading to the smoothed speed profile.

    The devkit means to penalise differences of the accelerations, but its difference matrix is assigned instead of added,
    which leaves minus the identity (and +1 in the last row's last column): it penalises accelerations. Published numbers
    have that; `devkit_regulariser=False` gives what nuPlan has.
    """
    profile = np.tril(np.full((steps, steps), _DT))             # speeds from (v0, a0, a1, ...)
    profile[:, 0] = 1.0
    rows = steps - 2
    smooth = np.zeros((rows, steps))
    smooth[np.arange(rows), np.arange(rows) + 2] = 1.0
    smooth[:, 1:-1] = -np.eye(rows) + (0.0 if devkit_regulariser else smooth[:, 1:-1])
    stacked = np.concatenate([profile * _DT, math.sqrt(_JERK_PENALTY) * smooth])
    right = np.concatenate([np.eye(steps), np.zeros((rows, steps))])
    return np.ascontiguousarray(profile @ np.linalg.lstsq(stacked, right, rcond=None)[0])


SPEED_MATRIX = _speed_matrix(STEPS)


def sample_weights(pose_times_us: np.ndarray, query_times_us: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Earlier pose (T,) int, time since it (T,) us and span (T,) us for linear interpolation; queries are clipped to the poses."""
    query = np.clip(query_times_us, pose_times_us[0], pose_times_us[-1])
    later = np.clip(np.searchsorted(pose_times_us, query), 1, len(pose_times_us) - 1)
    earlier = later - 1
    since = (query - pose_times_us[earlier]).astype(np.float64)
    return earlier, since, (pose_times_us[later] - pose_times_us[earlier]).astype(np.float64)


def plan_times_us(time_us: int, count: int, dt_s: float) -> np.ndarray:
    """(count + 1,) int64 time stamps of the current pose and of a plan; seconds are truncated to microseconds as in the devkit."""
    seconds = (np.arange(count) * dt_s + dt_s) + time_us * 1e-6
    return np.concatenate([[time_us], (seconds * 1e6).astype(np.int64)])


def query_times_us(time_us: int) -> np.ndarray:
    """(41,) int64 time stamps of the 10 Hz reference; truncated, so a sample can be 1 us early."""
    seconds = np.arange(POSES) * STEP_S + time_us * 1e-6
    return (seconds * 1e6).astype(np.int64)


@kernel
def to_world(pose, origin, out):
    """Fill `out` (3,) with a pose (3,) of the frame of `origin` in the world; heading in [-pi, pi]."""
    c, s = math.cos(origin[2]), math.sin(origin[2])
    cp, sp = math.cos(pose[2]), math.sin(pose[2])
    out[0] = c * pose[0] - s * pose[1] + origin[0]
    out[1] = s * pose[0] + c * pose[1] + origin[1]
    out[2] = math.atan2(s * cp + c * sp, c * cp - s * sp)


@kernel
def _principal(angle):
    """Angle in [-pi, pi)."""
    return (angle + math.pi) % (2 * math.pi) - math.pi


@kernel
def resample(poses, earlier, since, span, out):
    """Fill `out` (T, 3) with world poses (N, 3) interpolated linearly; headings take the short way round."""
    yaw = np.empty(len(poses))
    yaw[0] = poses[0, 2]
    for i in range(1, len(poses)):
        yaw[i] = yaw[i - 1] + _short_way(poses[i, 2] - poses[i - 1, 2])
    for t in range(len(earlier)):
        i = earlier[t]
        for k in range(2):
            out[t, k] = (poses[i + 1, k] - poses[i, k]) / span[t] * since[t] + poses[i, k]
        out[t, 2] = _principal((yaw[i + 1] - yaw[i]) / span[t] * since[t] + yaw[i])


@kernel
def _short_way(difference):
    """Difference of two headings by the short way, (-pi, pi] for positive differences as numpy.unwrap has it."""
    short = _principal(difference)
    return math.pi if short == -math.pi and difference > 0 else short


@kernel
def speed_profile(reference, speed_matrix, out):
    """Fill `out` (40,) with the speeds that a reference (41, 3) asks for."""
    along = np.empty(len(out))
    for i in range(len(out)):
        dx, dy = reference[i + 1, 0] - reference[i, 0], reference[i + 1, 1] - reference[i, 1]
        along[i] = math.cos(reference[i, 2]) * dx + math.sin(reference[i, 2]) * dy
    for i in range(len(out)):
        total = 0.0
        for j in range(len(out)):
            total += speed_matrix[i, j] * along[j]
        out[i] = total


@kernel
def curvature_profile(reference, speed, out):
    """Fill `out` (40,) with curvatures: least squares of heading changes on distances, curvature rate penalised.

    Minimises sum (v_i dt k_i - dyaw_i)^2 + q sum ((k_{i+1} - k_i) / dt)^2 + q0 k_0^2 by folding the last unknown into the one
    before it; every term of the folded weights is positive, so nothing cancels at standstill.
    """
    n = len(out)
    stiff = _CURVATURE_RATE_PENALTY / (_DT * _DT)
    weight, moment = np.empty(n), np.empty(n)
    for i in range(n - 1, -1, -1):
        distance = speed[i] * _DT
        weight[i] = distance * distance
        moment[i] = distance * wrapped(reference[i + 1, 2] - reference[i, 2])
        if i + 1 < n:
            weight[i] += stiff * weight[i + 1] / (stiff + weight[i + 1])
            moment[i] += stiff * moment[i + 1] / (stiff + weight[i + 1])
    out[0] = moment[0] / (weight[0] + _INITIAL_CURVATURE_PENALTY)
    for i in range(1, n):
        out[i] = (stiff * out[i - 1] + moment[i]) / (stiff + weight[i])


@kernel
def _steering_rate(lateral, heading, steer, speed, acceleration, curvature, i):
    """LQR steering rate: errors after 10 steps without steering, against what a constant steering rate adds."""
    last = len(curvature) - 1
    known = min(i + _HORIZON, last)
    add_lateral, add_heading, add_steer = 0.0, 0.0, 0.0
    v = speed
    for k in range(_HORIZON):
        bend = curvature[i + k] if i + k < known else curvature[known]
        lateral += v * _DT * heading
        heading += v * _DT / WHEEL_BASE_M * steer - v * bend * _DT
        add_lateral += v * _DT * add_heading
        add_heading += v * _DT / WHEEL_BASE_M * add_steer
        add_steer += _DT
        v += acceleration * _DT
    error = add_lateral * lateral + 10.0 * add_heading * wrapped(heading)
    return -error / (add_lateral * add_lateral + 10.0 * add_heading * add_heading + 1.0)


@kernel
def _drive(state, acceleration, steering_rate, out):
    """One Euler step of the bicycle with lagged commands: `state` (11,) -> `out` (11,)."""
    acceleration = _DT / (_DT + _ACCELERATION_LAG_S) * (acceleration - state[5]) + state[5]
    steer_goal = _DT * steering_rate + state[7]
    steer = _DT / (_DT + _STEERING_LAG_S) * (steer_goal - state[7]) + state[7]
    rate = (steer - state[7]) / _DT
    out[0] = state[0] + state[3] * math.cos(state[2]) * _DT
    out[1] = state[1] + state[3] * math.sin(state[2]) * _DT
    out[2] = _principal(state[2] + state[3] * math.tan(state[7]) / WHEEL_BASE_M * _DT)
    out[3] = state[3] + acceleration * _DT
    out[4] = 0.0
    out[5] = acceleration
    out[6] = 0.0
    out[7] = min(max(state[7] + rate * _DT, -_MAX_STEER_RAD), _MAX_STEER_RAD)
    out[8] = rate
    out[9] = out[3] * math.tan(out[7]) / WHEEL_BASE_M
    out[10] = (out[9] - state[9]) / _DT


@kernel
def simulate(reference, start, speed_matrix, out):
    """Fill `out` (41, 11) with the states of the car that tracks a reference (41, 3) from the state `start` (11,)."""
    speed, curvature = np.empty(STEPS), np.empty(STEPS)
    speed_profile(reference, speed_matrix, speed)
    curvature_profile(reference, speed, curvature)
    out[0] = start
    for i in range(STEPS):
        state = out[i]
        goal = speed[min(i + _HORIZON, STEPS - 1)]
        if goal <= _STOP_SPEED_MPS and state[3] <= _STOP_SPEED_MPS:
            _drive(state, -_STOP_GAIN * (state[3] - goal), 0.0, out[i + 1])
            continue
        dx, dy, yaw = state[0] - reference[i, 0], state[1] - reference[i, 1], reference[i, 2]
        lateral = -dx * math.sin(yaw) + dy * math.cos(yaw)
        heading = wrapped(state[2] - yaw)
        acceleration = -_LONGITUDINAL_GAIN * (state[3] - goal)
        rate = _steering_rate(lateral, heading, state[7], state[3], acceleration, curvature, i)
        _drive(state, acceleration, rate, out[i + 1])
