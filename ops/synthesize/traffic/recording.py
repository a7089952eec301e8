"""The recording of one drive, frame by frame, and the checks that disqualify a drive."""

from dataclasses import dataclass

import numpy as np

from ops.synthesize.town.routes import Route
from ops.synthesize.traffic.events import CYCLIST, Event
from ops.synthesize.traffic.traffic import REAR_SHARE, Traffic

PERSON_SIZE_M, CONE_SIZE_M = (0.6, 0.65, 1.75), (0.42, 0.42, 0.75)
HARDEST_MPS2 = -3.5  # braking beyond this disqualifies a drive
# so does contact now, or at these times at constant velocity, as in the time-to-collision score
PREDICTED_S = (0.0, 0.35, 0.7, 1.0)
PREDICTED_MARGIN_M = 0.2  # for the corners of a box, which its circles do not cover
NEAR_M = 26.0  # road users farther away cannot be reached within that time


@dataclass(frozen=True, slots=True)
class Recording:
    """One drive at its frames; T frames, V vehicles (0 is the ego), P pedestrians, J junctions, S
    parked cars, C cones.
    """

    time_s: np.ndarray  # (T,) from the first frame
    pose: np.ndarray  # (T, V, 3) rear axles
    speed_mps: np.ndarray  # (T, V)
    accel_mps2: np.ndarray  # (T, V) along the path
    lateral_mps2: np.ndarray  # (T, V) across it, to the left
    size_m: np.ndarray  # (V, 3) length, width, height
    kind: np.ndarray  # (V,) index into spawn.KIND_SIZES
    blinker: np.ndarray  # (T, V) 1 left, -1 right, 2 both, 0 none
    walker_xy: np.ndarray  # (T, P, 2)
    walker_velocity: np.ndarray  # (T, P, 2)
    walker_yaw_rad: np.ndarray  # (P,)
    signals: np.ndarray  # (T, J, 2) GREEN, AMBER or RED of each axis, junctions in the town's order
    parked_pose: np.ndarray  # (S, 3) centres of parked cars near the drive
    parked_size_m: np.ndarray  # (S, 3)
    cone_pose: np.ndarray  # (C, 3)
    route: Route  # the ego's
    travelled_m: np.ndarray  # (T,) position of the ego along it
    tags: tuple[tuple[str, ...], ...]  # rare events of each frame


@dataclass(frozen=True, slots=True)
class RoadUsers:
    """All A road users and objects at one frame but the ego; centres of boxes on the ground."""

    name: np.ndarray  # (A,) str, the same in every frame
    category: np.ndarray  # (A,) str, NAVSIM's category names
    xy: np.ndarray  # (A, 2)
    yaw_rad: np.ndarray  # (A,)
    velocity: np.ndarray  # (A, 2)
    size_m: np.ndarray  # (A, 3)


def road_users(recording: Recording, frame: int) -> RoadUsers:
    """All boxes of a frame: vehicles, pedestrians, parked cars, cones."""
    pose, size = recording.pose[frame, 1:], recording.size_m[1:]
    forward = np.stack([np.cos(pose[:, 2]), np.sin(pose[:, 2])], axis=1)
    static = np.concatenate([recording.parked_pose, recording.cone_pose])
    people, cones = recording.walker_xy[frame], len(recording.cone_pose)
    groups = (
        ("car", len(pose)),
        ("walker", len(people)),
        ("parked", len(recording.parked_pose)),
        ("cone", cones),
    )
    kinds = np.where(recording.kind[1:] == CYCLIST, "bicycle", "vehicle")
    return RoadUsers(
        np.array([f"{group}/{number}" for group, count in groups for number in range(count)]),
        np.array(
            [
                *kinds,
                *["pedestrian"] * len(people),
                *["vehicle"] * len(recording.parked_pose),
                *["traffic_cone"] * cones,
            ]
        ),
        np.concatenate(
            [pose[:, :2] + size[:, :1] * (0.5 - REAR_SHARE) * forward, people, static[:, :2]]
        ),
        np.concatenate([pose[:, 2], recording.walker_yaw_rad, static[:, 2]]),
        np.concatenate(
            [
                forward * recording.speed_mps[frame, 1:, None],
                recording.walker_velocity[frame],
                np.zeros((len(static), 2)),
            ]
        ),
        np.concatenate(
            [
                size,
                np.tile(PERSON_SIZE_M, (len(people), 1)),
                recording.parked_size_m,
                np.tile(CONE_SIZE_M, (cones, 1)),
            ]
        ),
    )


class Recorder:
    """Collects the frames of a drive."""

    def __init__(self) -> None:
        self._rows: list[tuple] = []

    def add(self, traffic: Traffic) -> None:
        """Add the present state of the traffic as a frame."""
        speed, lateral = traffic.speeds()
        blinker = np.where(traffic.blinker != 0, traffic.blinker, traffic.turning())
        self._rows.append(
            (
                traffic.time_s,
                traffic.poses(),
                speed,
                traffic.a_mps2.copy(),
                lateral,
                blinker,
                *traffic.walkers(),
                traffic.signals.states(traffic.time_s),
                traffic.s_m[0],
            )
        )

    def finish(
        self,
        traffic: Traffic,
        kind: np.ndarray,
        parked: tuple[np.ndarray, np.ndarray],
        event: Event | None,
    ) -> Recording:
        """The recording; `parked`: poses (S, 3) and sizes (S, 3) of all parked cars of the town."""
        time, pose, speed, accel, lateral, blinker, walk, stride, lights, travelled = (
            np.stack(column) for column in zip(*self._rows, strict=True)
        )
        near = (
            np.hypot(*np.moveaxis(parked[0][:, None, :2] - pose[None, ::4, 0, :2], -1, 0)).min(
                axis=1
            )
            < 130.0
        )
        people = traffic.people
        tags = tuple(
            (str(event.kind),) if event is not None and event.active(float(now)) else ()
            for now in time
        )
        cones = event.setup.cones if event is not None else np.zeros((0, 3))
        return Recording(
            time - time[0],
            pose,
            speed,
            accel,
            lateral,
            traffic.fleet.size_m,
            kind,
            blinker,
            walk,
            stride,
            np.arctan2(*(people.goal - people.start).T[::-1]),
            lights,
            parked[0][near],
            parked[1][near],
            cones,
            traffic.fleet.routes[0],
            travelled,
            tags,
        )


def disqualification(traffic: Traffic) -> str:
    """Why the present state disqualifies the drive, or "": contact now or soon, a pedestrian too
    near, or braking beyond comfort.
    """
    if traffic.a_mps2[0] < HARDEST_MPS2:
        return "hard braking"
    if traffic.s_m[0] > traffic.ways.path.shape[1] - 150:
        return "route too short"
    xy, width_m, forward = traffic.poses()[:, :2], traffic.fleet.size_m[:, 1], traffic.forward()
    away = xy[1:] - xy[0]
    near = np.flatnonzero(np.hypot(away[:, 0], away[:, 1]) < NEAR_M) + 1
    walk, stride = traffic.walkers()
    away = walk - xy[0]
    is_near = (
        (np.abs(away) < NEAR_M).all(axis=1) if traffic.v_mps[0] > 0.1 else np.zeros(len(walk), bool)
    )
    walk, stride = walk[is_near], stride[is_near]
    if len(near) + len(walk) == 0:
        return ""
    circles = traffic.circles(np.concatenate([[0], near]))
    velocity = forward * traffic.v_mps[:, None]
    reach_m = (0.5 * (width_m[0] + width_m[near]) - 0.05)[:, None, None]
    for ahead_s in PREDICTED_S if traffic.v_mps[0] > 2.0 else PREDICTED_S[:1]:
        ego = circles[0] + ahead_s * velocity[0]
        cars = circles[1:] + ahead_s * velocity[near, None]
        gap = np.hypot(
            cars[:, :, None, 0] - ego[:, 0], cars[:, :, None, 1] - ego[:, 1]
        )  # (n, 5, 5)
        in_front = (
            ahead_s == 0.0 or ((xy[near] - xy[0]) @ forward[0] > traffic.front_m[0])[:, None, None]
        )
        if ((gap < reach_m + PREDICTED_MARGIN_M * (ahead_s > 0)) & in_front).any():
            return "collision" if ahead_s == 0.0 else "nearly a collision"
        people = walk + ahead_s * stride
        if (
            np.hypot(people[:, :1] - ego[:, 0], people[:, 1:] - ego[:, 1]) < 0.5 * width_m[0] + 0.35
        ).any():
            return "too near a pedestrian"
    return ""
