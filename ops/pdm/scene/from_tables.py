"""Builds the scenes of a log from its tables.

The data that all frames of a log share (map, lane network, tracks by frame) is prepared once. Key
frames are 0.5 s apart: each is the frame nearest to 0.5 s after the previous one, within 0.05 s, so
logs of 2 Hz with jitter and logs of 10 Hz give the same kind of scene.
"""

from collections.abc import Iterable

import numpy as np
import pyarrow as pa

from ops.pdm.rules.vehicle import KEY_STEP_S, to_ego
from ops.pdm.scene.log_map import LogMap
from ops.pdm.scene.route import centerline, known_route, repaired_route, starting_lane
from ops.pdm.scene.scene import HISTORY_POSES, HUMAN_POSES, KEY_FRAMES, Scene, check_scene
from storage.errors import SourceError

KEY_TOLERANCE_S = 0.05  # a key frame is this near to 0.5 s after the previous one
_STATE = ("x_m", "y_m", "yaw_rad", "vx_mps", "vy_mps", "ax_mps2", "ay_mps2")
_AGENT = ("x_m", "y_m", "yaw_rad", "vx_mps", "vy_mps")


class LogScenes:
    """The scenes of one log, from its four tables."""

    def __init__(
        self, trajectories: pa.Table, agents: pa.Table, lights: pa.Table, map_table: pa.Table
    ) -> None:
        order = np.argsort(trajectories["timestamp_us"].to_numpy(), kind="stable")
        self._table = trajectories.take(pa.array(order))
        self.log_id = str(self._table["log_id"][0]) if len(self._table) else ""
        self.frame_index = self._table["frame_index"].to_numpy()
        self._row = {int(frame): row for row, frame in enumerate(self.frame_index)}
        self._time_us = self._table["timestamp_us"].to_numpy()
        self._states = np.stack([self._table[name].to_numpy() for name in _STATE], axis=1).reshape(
            -1, len(_STATE)
        )
        self._keys = key_rows(self._time_us, HISTORY_POSES - 1, KEY_FRAMES - 1)
        self._map = LogMap(map_table)
        self._agents, self._lights = _Tracks(agents, self.log_id), _Lights(lights)

    def frames(self) -> np.ndarray:
        """Frame indices with all key frames from -1.5 s to 5 s, in time order."""
        return self.frame_index[(self._keys >= 0).all(axis=1)]

    def scene(self, frame_index: int) -> Scene:
        """The scene at a frame. Raises SourceError with log and frame if there is none."""
        where = f"log '{self.log_id}', frame {frame_index}"
        if frame_index not in self._row:
            raise SourceError(
                "there is no such frame in the log",
                where=where,
                do="take one of scene_frames(...)",
            )
        row = self._row[frame_index]
        keys = self._keys[row]
        if (keys < 0).any():
            steps = np.arange(1 - HISTORY_POSES, KEY_FRAMES) * KEY_STEP_S
            raise SourceError(
                "a scene needs key frames from -1.5 s to 5 s",
                where=where,
                expected=f"a frame within {KEY_TOLERANCE_S} s of every 0.5 s",
                found=f"none at {steps[keys < 0].tolist()} s",
            )
        ego, now = self._states[row], keys[HISTORY_POSES - 1 :]
        past = keys[:HISTORY_POSES]
        frames = self.frame_index[now]
        route_lanes, line, limit = self._route(row, ego, where)
        boxes = self._agents.at(frames, where)
        light_token, light_red = self._lights.at(frames)
        human = to_ego(self._states[now[1 : HUMAN_POSES + 1]], ego)
        return check_scene(
            Scene(
                (self.log_id, int(frame_index)),
                int(self._time_us[row]),
                ego,
                self._states[past],
                self._time_us[past],
                human,
                *boxes,
                light_token,
                light_red,
                route_lane_token=route_lanes,
                centerline=line,
                speed_limit_mps=limit,
                split=str(self._table["split"][row]),
                location=str(self._table["location"][row]),
                **self._map.around(ego),
            )
        )

    def _route(
        self, row: int, ego: np.ndarray, where: str
    ) -> tuple[np.ndarray, np.ndarray, float | None]:
        """Tokens of the route's lanes, the centreline, the speed limit of the starting lane."""
        listed = self._table["route_roadblock_ids"][row].as_py()
        if not self._map.network.lanes:
            raise SourceError(
                "the log has no map with lanes",
                where=where,
                do="scores need an HD map: docs/metrics.md",
            )
        if not listed:
            raise SourceError(
                "the frame has no route", where=where, do="scores need the roadblocks of the route"
            )
        on_map = known_route(self._map.network, listed)
        route = repaired_route(self._map.network, on_map, ego) if on_map else []
        lanes = self._map.network.lanes_of(route)
        if not lanes:
            raise SourceError(
                "no roadblock of the route is on the map",
                where=where,
                found=", ".join(listed[:5]),
                do="check that map and route are of the same version",
            )
        start = starting_lane(lanes, ego)
        line = centerline(self._map.network, lanes, route, start)
        return np.array([lane.token for lane in lanes]), line, start.speed_limit_mps


def scene_from_tables(
    trajectories: pa.Table,
    agents: pa.Table,
    lights: pa.Table,
    map_table: pa.Table,
    frame_index: int,
) -> Scene:
    """The scene at one frame of a log from its four tables. Raises SourceError with log and frame
    if there is none.
    """
    return LogScenes(trajectories, agents, lights, map_table).scene(frame_index)


def scenes_from_tables(
    trajectories: pa.Table,
    agents: pa.Table,
    lights: pa.Table,
    map_table: pa.Table,
    frame_indices: Iterable[int] | None = None,
) -> list[Scene | SourceError]:
    """The scenes at many frames of a log (None: all that have their key frames), or the error of a
    frame that has none.
    """
    log = LogScenes(trajectories, agents, lights, map_table)
    scenes: list[Scene | SourceError] = []
    for frame in log.frames() if frame_indices is None else frame_indices:
        try:
            scenes.append(log.scene(int(frame)))
        except SourceError as error:
            scenes.append(error)
    return scenes


def scene_frames(
    trajectories: pa.Table, num_history: int = HISTORY_POSES, num_future: int = KEY_FRAMES - 1
) -> np.ndarray:
    """Frame indices that have `num_history` key frames up to now and `num_future` after, at 0.5 s
    +- 0.05 s steps.
    """
    order = np.argsort(trajectories["timestamp_us"].to_numpy(), kind="stable")
    keys = key_rows(trajectories["timestamp_us"].to_numpy()[order], num_history - 1, num_future)
    return trajectories["frame_index"].to_numpy()[order][(keys >= 0).all(axis=1)]


def key_rows(time_us: np.ndarray, before: int, after: int) -> np.ndarray:
    """(T, before + 1 + after) rows of the key frames around each of T rows in time order, -1 where
    one is missing.
    """
    count = len(time_us)
    out = np.full((count, before + 1 + after), -1)
    out[:, before] = np.arange(count)
    for sign, steps in ((-1, before), (1, after)):
        neighbor = _nearest_row(time_us, time_us + sign * round(KEY_STEP_S * 1e6))
        for step in range(1, steps + 1):
            last = out[:, before + sign * (step - 1)]
            out[:, before + sign * step] = np.where(
                last >= 0, neighbor[np.maximum(last, 0)] if count else -1, -1
            )
    return out


def _nearest_row(time_us: np.ndarray, wanted_us: np.ndarray) -> np.ndarray:
    """Row nearest to each wanted time, -1 if it is farther away than the tolerance."""
    if len(time_us) < 2:
        return np.full(len(wanted_us), -1)
    later = np.clip(np.searchsorted(time_us, wanted_us), 1, len(time_us) - 1)
    row = np.where(wanted_us - time_us[later - 1] <= time_us[later] - wanted_us, later - 1, later)
    return np.where(np.abs(time_us[row] - wanted_us) <= KEY_TOLERANCE_S * 1e6, row, -1)


class _Tracks:
    """The agents table of a log, by frame."""

    def __init__(self, table: pa.Table, log_id: str) -> None:
        order = np.argsort(table["frame_index"].to_numpy(), kind="stable")
        table = table.take(pa.array(order))
        self._frame = table["frame_index"].to_numpy()
        tokens = np.asarray(table["track_token"].to_pylist(), dtype=str)
        self._token, self._track = np.unique(tokens, return_inverse=True)
        self._box = np.stack([table[name].to_numpy() for name in _AGENT], axis=1).reshape(
            -1, len(_AGENT)
        )
        self._lwh = np.stack(
            [table[f"{name}_m"].to_numpy() for name in ("length", "width", "height")], axis=1
        )
        self._category = table["category"].to_numpy()
        self._log_id = log_id

    def at(
        self, frames: np.ndarray, where: str
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Boxes (K, A, 6) at K frames, sizes (A, 3), categories (A,) and tokens (A,) of the first
        sightings.
        """
        first, last = (
            np.searchsorted(self._frame, frames),
            np.searchsorted(self._frame, frames, side="right"),
        )
        rows = np.concatenate([np.arange(a, b) for a, b in zip(first, last, strict=True)])
        key = np.repeat(np.arange(len(frames)), last - first)
        tracks, first_row, column = np.unique(
            self._track[rows], return_index=True, return_inverse=True
        )
        boxes = np.zeros((len(frames), len(tracks), 6))
        if len(np.unique(key * len(tracks) + column)) < len(rows):
            raise SourceError(
                "a track appears twice in one frame",
                where=where,
                do="correct the agents table of the log",
            )
        boxes[key, column, 0] = 1.0
        boxes[key, column, 1:] = self._box[rows]
        sighted = rows[first_row]
        return boxes, self._lwh[sighted], self._category[sighted], self._token[tracks]


class _Lights:
    """The lights table of a log, by frame."""

    def __init__(self, table: pa.Table) -> None:
        self._frame = table["frame_index"].to_numpy()
        self._token, self._column = np.unique(
            np.asarray(table["lane_connector_id"].to_pylist(), dtype=str), return_inverse=True
        )
        self._red = np.asarray(table["is_red"].to_pylist(), dtype=bool)

    def at(self, frames: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Connectors (L,) with a light, and whether it is red (K, L) at K frames.

        A light that a frame does not list is not red.
        """
        red = np.zeros((len(frames), len(self._token)), dtype=bool)
        for key, frame in enumerate(frames):
            red[key, self._column[(self._frame == frame) & self._red]] = True
        listed = np.isin(np.arange(len(self._token)), self._column[np.isin(self._frame, frames)])
        return self._token[listed], red[:, listed]
