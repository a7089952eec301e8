"""Speed of other engines for the three main loops of the PDM score.

    python -m benchmarks.pdm_engines [CASES.npz]

The loops are boxes against boxes, points in polygons, and the tracker. Each engine does the same
work (asserted), on one core. The results are in docs/log.md. Legend: K plans, T = 41 states, A
tracks, M polygons, P points, xp is numpy or torch.
"""

import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import shapely
import torch

from benchmarks.pdm_profile import PLANS, profile_scenes, random_plans, seconds
from benchmarks.reference_cases import cases_of
from ops.pdm.pipeline import examine
from ops.pdm.prepared import PreparedScene
from ops.pdm.rules.engine import kernel
from ops.pdm.rules.geometry import box_gap
from ops.pdm.rules.map_index import index_polygons
from ops.pdm.rules.tracking import _SPEED_MATRIX, references
from ops.pdm.rules.vehicle import (
    HALF_LENGTH_M,
    HALF_WIDTH_M,
    POSES,
    REAR_AXLE_TO_CENTER_M,
    STEP_S,
    STEPS,
    WHEEL_BASE_M,
)


@kernel
def _touching(states, pose, facing, half):
    """(K, T, A) bool: the score's test of boxes against boxes, without the index."""
    out = np.empty((states.shape[0], states.shape[1], pose.shape[1]), dtype=np.bool_)
    for k in range(states.shape[0]):
        for t in range(states.shape[1]):
            c, s = np.cos(states[k, t, 2]), np.sin(states[k, t, 2])
            x, y = (
                states[k, t, 0] + REAR_AXLE_TO_CENTER_M * c,
                states[k, t, 1] + REAR_AXLE_TO_CENTER_M * s,
            )
            for a in range(pose.shape[1]):
                out[k, t, a] = (
                    box_gap(
                        pose[t, a, 0] - x,
                        pose[t, a, 1] - y,
                        c,
                        s,
                        HALF_LENGTH_M,
                        HALF_WIDTH_M,
                        facing[t, a, 0],
                        facing[t, a, 1],
                        half[a, 0],
                        half[a, 1],
                    )
                    <= 0
                )
    return out


def touching(xp: Any, states: Any, pose: Any, facing: Any, half: Any) -> Any:
    """The same by broadcasting over (K, T, A)."""
    c, s = xp.cos(states[:, :, 2:3]), xp.sin(states[:, :, 2:3])
    dx = pose[..., 0] - (states[:, :, 0:1] + REAR_AXLE_TO_CENTER_M * c)
    dy = pose[..., 1] - (states[:, :, 1:2] + REAR_AXLE_TO_CENTER_M * s)
    c2, s2, long, wide = facing[..., 0], facing[..., 1], half[:, 0], half[:, 1]
    turn_c, turn_s = abs(c * c2 + s * s2), abs(c * s2 - s * c2)
    apart = abs(dx * c + dy * s) > HALF_LENGTH_M + long * turn_c + wide * turn_s
    apart = apart | (abs(dy * c - dx * s) > HALF_WIDTH_M + long * turn_s + wide * turn_c)
    apart = apart | (abs(dx * c2 + dy * s2) > long + HALF_LENGTH_M * turn_c + HALF_WIDTH_M * turn_s)
    return ~(
        apart | (abs(dy * c2 - dx * s2) > wide + HALF_LENGTH_M * turn_s + HALF_WIDTH_M * turn_c)
    )


def touching_shapely(corners: np.ndarray, track_corners: np.ndarray) -> int:
    """Touching pairs by shapely: ego boxes (K, T, 4, 2) against a tree of each state's tracks."""
    ego = shapely.polygons(corners)
    return sum(
        len(
            shapely.STRtree(shapely.polygons(track_corners[t])).query(
                ego[:, t], predicate="intersects"
            )[0]
        )
        for t in range(len(track_corners))
    )


def in_polygons(xp: Any, points: Any, rings: list[Any]) -> Any:
    """(M, P) bool: points (P, 2) in rings by the even-odd rule, broadcast over points and edges."""
    inside = []
    for ring in rings:
        a, b = ring, xp.roll(ring, -1, 0)
        x, y = points[:, None, 0], points[:, None, 1]
        rise = b[:, 1] - a[:, 1] + (b[:, 1] == a[:, 1])
        left = x < (b[:, 0] - a[:, 0]) * (y - a[:, 1]) / rise + a[:, 0]
        inside.append((((a[:, 1] > y) != (b[:, 1] > y)) & left).sum(1) % 2 == 1)
    return xp.stack(inside)


def in_polygons_shapely(points: np.ndarray, polygons: np.ndarray) -> list[np.ndarray]:
    """The same by shapely with prepared polygons."""
    return [shapely.contains_xy(polygon, points[:, 0], points[:, 1]) for polygon in polygons]


def tracked(xp: Any, reference: Any, start: Any, matrix: Any) -> Any:
    """The tracker on arrays of K plans with a Python loop over time: (K, T, 4) x, y, yaw, m/s."""
    step = reference[:, 1:, :2] - reference[:, :-1, :2]
    speed = (
        xp.cos(reference[:, :-1, 2]) * step[..., 0] + xp.sin(reference[:, :-1, 2]) * step[..., 1]
    ) @ matrix.T
    turn = reference[:, 1:, 2] - reference[:, :-1, 2]
    weight, moment = (speed * STEP_S) ** 2, speed * STEP_S * xp.arctan2(xp.sin(turn), xp.cos(turn))
    for i in range(STEPS - 2, -1, -1):
        weight[:, i] += weight[:, i + 1] / (1.0 + weight[:, i + 1])
        moment[:, i] += moment[:, i + 1] / (1.0 + weight[:, i + 1])
    curvature = [moment[:, 0] / (weight[:, 0] + 1e-10)]
    for i in range(1, STEPS):
        curvature.append((curvature[-1] + moment[:, i]) / (1.0 + weight[:, i]))
    x, y, yaw, v, steer, acceleration = ((start[c] + 0 * speed[:, 0]) for c in (0, 1, 2, 3, 7, 5))
    states = [xp.stack([x, y, yaw, v], -1)]
    for i in range(STEPS):
        dx, dy, heading = x - reference[:, i, 0], y - reference[:, i, 1], reference[:, i, 2]
        lateral, ahead = -dx * xp.sin(heading) + dy * xp.cos(heading), yaw - heading
        goal = speed[:, min(i + 10, STEPS - 1)]
        stops = (goal <= 0.2) & (v <= 0.2)
        command, pace, add_lateral, add_heading = -(10 / 11) * (v - goal), v, 0.0 * v, 0.0 * v
        for k in range(i, i + 10):
            lateral = lateral + pace * STEP_S * ahead
            ahead = ahead + pace * STEP_S * (steer / WHEEL_BASE_M - curvature[min(k, STEPS - 1)])
            add_lateral = add_lateral + pace * STEP_S * add_heading
            add_heading = add_heading + pace * STEP_S / WHEEL_BASE_M * STEP_S * (k - i)
            pace = pace + command * STEP_S
        rate = -(add_lateral * lateral + 10 * add_heading * ahead) / (
            add_lateral**2 + 10 * add_heading**2 + 1
        )
        command, rate = (
            xp.where(stops, -0.5 * (v - goal), command),
            xp.where(stops, 0.0 * rate, rate),
        )
        x, y, yaw = (
            x + v * xp.cos(yaw) * STEP_S,
            y + v * xp.sin(yaw) * STEP_S,
            yaw + v * xp.tan(steer) / WHEEL_BASE_M * STEP_S,
        )
        acceleration = acceleration + (command - acceleration) / 3
        v, steer = (
            v + acceleration * STEP_S,
            xp.clip(steer + rate * STEP_S * 2 / 3, -np.pi / 3, np.pi / 3),
        )
        states.append(xp.stack([x, y, yaw, v], -1))
    return xp.stack(states, 1)


def _ego_corners(states: np.ndarray) -> np.ndarray:
    """Corners (K, T, 4, 2) of the ego boxes."""
    shift = np.array([[1, 1], [-1, 1], [-1, -1], [1, -1]]) * [HALF_LENGTH_M, HALF_WIDTH_M] + [
        REAR_AXLE_TO_CENTER_M,
        0.0,
    ]
    c, s = np.cos(states[..., 2]), np.sin(states[..., 2])
    turn = np.stack([np.stack([c, s], -1), np.stack([-s, c], -1)], -2)
    return states[:, :, None, :2] + np.einsum("nd,ktde->ktne", shift, turn)


def print_engines(prepared: PreparedScene, plans: int = PLANS) -> None:
    """Microseconds a plan of the three loops in each engine."""
    scene, traffic = prepared.scene, prepared.reference("v1").traffic
    states = prepared.states_of(random_plans(plans), 0.5)
    reference = references(random_plans(plans), scene.ego[:3], scene.time_us, 0.5)
    no_polygons = index_polygons(np.zeros((0, 2)), np.zeros(1, np.int64), np.zeros(0, np.uint8))
    boxes = (states, traffic.pose[:POSES], traffic.facing[:POSES], traffic.half)
    corners = _ego_corners(states)
    points = np.ascontiguousarray(corners.reshape(-1, 2))
    rings = [
        scene.map_xy[a:b] for a, b in zip(scene.map_start[:-1], scene.map_start[1:], strict=True)
    ]
    polygons = np.array([shapely.Polygon(ring) for ring in rings])
    shapely.prepare(polygons)
    tensors = [torch.from_numpy(np.ascontiguousarray(item)) for item in boxes]
    start, matrix = prepared.start, _SPEED_MATRIX
    assert np.array_equal(_touching(*boxes), touching(np, *boxes)), (
        "the engines must do the same work"
    )
    apart_m = np.abs(tracked(np, reference, start, matrix)[..., :2] - states[..., :2]).max()
    assert apart_m < 1e-6, "the engines must do the same work"

    def areas(index: Any) -> Callable[[], object]:
        return lambda: examine(states, prepared.history, index, prepared.line, traffic, "v1")

    times = seconds(
        {
            "boxes: numba": lambda: _touching(*boxes),
            "boxes: numpy": lambda: touching(np, *boxes),
            "boxes: torch": lambda: touching(torch, *tensors),
            "boxes: shapely, a tree": lambda: touching_shapely(corners, traffic.corners[:POSES]),
            "points: numba with slabs": areas(prepared.polygons),
            "no polygons": areas(no_polygons),
            "points: shapely, prepared": lambda: in_polygons_shapely(points, polygons),
            "tracker: numba": lambda: prepared.track(reference),
            "tracker: numpy": lambda: tracked(np, reference, start, matrix),
            "tracker: torch": lambda: tracked(
                torch,
                torch.from_numpy(reference),
                torch.from_numpy(start),
                torch.from_numpy(matrix),
            ),
        }
    )
    times["points: numba with slabs"] -= times.pop("no polygons")
    times |= seconds(
        {
            "points: numpy": lambda: in_polygons(np, points, rings),
            "points: torch": lambda: in_polygons(
                torch, torch.from_numpy(points), [torch.from_numpy(ring) for ring in rings]
            ),
        },
        rounds=1,
    )
    print(
        f"  {plans} plans, {traffic.pose.shape[1]} tracks, {len(rings)} polygons; "
        f"trackers agree within {apart_m:.0e} m"
    )
    for name, part in sorted(times.items()):
        print(f"  {name:32}{part / plans * 1e6:8.1f} us a plan")


def main(arguments: list[str]) -> int:
    """Print the tables; a file of reference cases adds its busiest scene. Returns 0."""
    torch.set_num_threads(1)
    for name, prepared in profile_scenes(cases_of(arguments, __doc__)).items():
        print(name)
        print_engines(prepared)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
