"""The trajectories table: history and future at exact times, valid masks, the ego frame."""

from dataclasses import dataclass, field

import numpy as np
import pytest

from ops.ingest.config import ExtractConfig
from ops.ingest.extract import extract, near_path, poses_at, to_ego, yaw_rate_of
from storage.errors import SourceError
from storage.sources import open_source
from storage.sources.contract import Agents, Capabilities, Lights, MapLayer, MapObject, Signals
from storage.trajectory_table import FUTURE_STEPS, HISTORY_STEPS, STEP_S, Command, read_table
from tests.worlds import tiny_openscene as tiny

SPEED_MPS, RATE_RADPS = 8.0, 0.2


def circle(time_s: np.ndarray) -> np.ndarray:
    """Poses on a left-hand circle, headings wrapped."""
    angle = 3.0 + RATE_RADPS * time_s
    radius = SPEED_MPS / RATE_RADPS
    return np.stack(
        [radius * np.sin(angle), -radius * np.cos(angle), (angle + np.pi) % (2 * np.pi) - np.pi],
        axis=-1,
    )


@dataclass(frozen=True)
class CircleLog:
    """A log that drives a circle, with frames at any times."""

    time_s: np.ndarray
    log_id: str = "circle"
    split: str = "train"
    location: str = ""
    capabilities: Capabilities = field(
        default_factory=lambda: Capabilities(("CAM_F0",), False, False, False, False)
    )

    def signals(self) -> Signals:
        rows = len(self.time_s)
        return Signals(
            np.arange(rows, dtype=np.int32),
            np.round(self.time_s * 1e6).astype(np.int64) + 10**15,
            circle(self.time_s),
            np.tile([SPEED_MPS, 0.0], (rows, 1)),
            np.tile([0.0, SPEED_MPS * RATE_RADPS], (rows, 1)),
            np.full(rows, Command.UNKNOWN, np.int8),
            np.ones(rows, bool),
            [[] for _ in range(rows)],
            [[] for _ in range(rows)],
        )

    def agents(self) -> Agents:
        return Agents(
            np.zeros(0, np.int32),
            np.zeros(0, object),
            np.zeros(0, np.int8),
            np.zeros((0, 3)),
            np.zeros(0),
            np.zeros((0, 2)),
            np.zeros((0, 3)),
        )

    def lights(self) -> Lights:
        return Lights(np.zeros(0, np.int32), np.zeros(0, object), np.zeros(0, bool))

    def map_objects(self) -> list[MapObject]:
        return []


def rows_of(time_s, out, config=ExtractConfig()):
    summary = extract(CircleLog(np.asarray(time_s)), out, config)
    table = read_table(out, "trajectories")

    def listed(name, *shape):
        return np.array(table[name].to_pylist()).reshape(len(table), *shape)

    return (
        summary,
        table,
        listed("history_xyyaw", HISTORY_STEPS, 3),
        listed("history_valid", HISTORY_STEPS),
        listed("future_xyyaw", FUTURE_STEPS, 3),
        listed("future_valid", FUTURE_STEPS),
    )


def seen_from(time_s, step_s):
    """The true pose `step_s` later, in the ego frame."""
    return to_ego(circle(time_s), circle(time_s + step_s)[:, None])[:, 0]


@pytest.mark.parametrize("hz", [2.0, 10.0, 7.3])
def test_history_and_future_lie_at_exact_times_whatever_the_rate(tmp_path, hz):
    time_s = np.arange(0, 20, 1 / hz)
    _, _, history, history_valid, future, future_valid = rows_of(time_s, tmp_path)
    for step in range(FUTURE_STEPS):
        truth = seen_from(time_s, STEP_S * (step + 1))
        rows = future_valid[:, step]
        # a chord of 0.5 s cuts 5 cm off the arc
        assert np.abs(future[rows, step] - truth[rows]).max() < 0.06
        assert rows.tolist() == (time_s + STEP_S * (step + 1) <= time_s[-1] + 0.02).tolist()
    for step in range(HISTORY_STEPS):
        truth = seen_from(time_s, STEP_S * (step - HISTORY_STEPS))
        rows = history_valid[:, step]
        assert np.abs(history[rows, step] - truth[rows]).max() < 0.06
        assert (
            rows.tolist() == (time_s + STEP_S * (step - HISTORY_STEPS) >= time_s[0] - 0.02).tolist()
        )


def test_at_two_hertz_the_steps_are_the_recorded_frames(tmp_path):
    _, _, _, _, future, valid = rows_of(np.arange(40) * 0.5, tmp_path)
    assert np.allclose(
        future[0], to_ego(circle(np.zeros(1)), circle(0.5 * np.arange(1, 9))[None])[0], atol=1e-4
    )
    assert valid[0].all() and valid[-1].sum() == 0


def test_missing_steps_are_zero_and_marked_never_nan(tmp_path):
    _, _, history, history_valid, future, future_valid = rows_of(np.arange(40) * 0.5, tmp_path)
    assert not history[~history_valid].any() and not future[~future_valid].any()
    assert np.isfinite(history).all() and np.isfinite(future).all()


def test_no_pose_is_interpolated_inside_a_gap(tmp_path):
    # nothing between 7.5 and 10.5 s
    time_s = np.delete(np.arange(40) * 0.5, slice(16, 21))
    _, _, _, _, _, valid = rows_of(time_s, tmp_path)
    row = int(np.flatnonzero(time_s == 7.0)[0])
    assert valid[row].tolist() == [True, False, False, False, False, False, True, True]


def test_time_stamps_that_jitter_around_the_end_of_the_log_still_count(tmp_path):
    time_s = np.arange(40) * 0.5
    time_s[-1] -= 0.008
    assert rows_of(time_s, tmp_path)[5][-2, 0]


def test_headings_are_interpolated_the_short_way_round():
    time_s, pose = (
        np.array([0.0, 1.0]),
        np.array([[0.0, 0.0, np.pi - 0.1], [0.0, 0.0, -np.pi + 0.1]]),
    )
    poses, valid = poses_at(time_s, pose, np.array([0.5]), max_gap_s=2.0, tolerance_s=0.0)
    assert valid.all() and np.isclose(np.cos(poses[0, 2]), -1.0)


def test_moving_and_turning_the_world_changes_nothing_in_the_ego_frame():
    rng = np.random.default_rng(0)
    ego, others = rng.normal(0, 10, (5, 3)), rng.normal(0, 10, (5, 4, 3))
    turn, shift = 1.1, np.array([300.0, -40.0])

    def moved(poses):
        x, y = poses[..., 0], poses[..., 1]
        return np.stack(
            [
                np.cos(turn) * x - np.sin(turn) * y + shift[0],
                np.sin(turn) * x + np.cos(turn) * y + shift[1],
                poses[..., 2] + turn,
            ],
            axis=-1,
        )

    before, after = to_ego(ego, others), to_ego(moved(ego), moved(others))
    assert np.allclose(before[..., :2], after[..., :2]) and np.allclose(
        np.cos(before[..., 2] - after[..., 2]), 1.0
    )


def test_yaw_rate_comes_from_neighbouring_poses(tmp_path):
    _, table, *_ = rows_of(np.arange(100) * 0.1, tmp_path)
    assert np.allclose(table["yaw_rate_radps"].to_numpy(), RATE_RADPS, atol=1e-6)
    lonely = yaw_rate_of(np.array([0.0, 5.0, 5.5]), np.array([0.0, 1.0, 1.1]), max_gap_s=1.1)
    assert np.allclose(lonely, [0.0, 0.2, 0.2])


def test_a_log_shorter_than_one_window_is_refused(tmp_path):
    with pytest.raises(
        SourceError, match=r"shorter than one window[\s\S]*5.5 s[\s\S]*5.00 s, 11 frames"
    ):
        extract(CircleLog(np.arange(11) * 0.5), tmp_path, ExtractConfig())
    extract(CircleLog(np.arange(12) * 0.5), tmp_path, ExtractConfig())


def test_only_map_objects_near_the_path_are_kept():
    def square(token, x):
        return MapObject(
            MapLayer.LANE, token, np.array([[x, 0], [x + 10, 0], [x + 10, 10], [x, 10.0]])
        )

    line = MapObject(
        MapLayer.LANE, "line", np.zeros((0, 2)), np.array([[60.0, 0, 0], [80.0, 0, 0]])
    )
    path = np.array([[0.0, 0.0], [50.0, 0.0]])
    kept = near_path([square("in", 20), square("near", 195), square("far", 205), line], path, 150.0)
    assert [item.token for item in kept] == ["in", "near", "line"]
    assert near_path([square("in", 0)], np.zeros((1, 2)), 1.0) and near_path([], path, 1.0) == []


def test_an_openscene_log_becomes_its_four_tables(tmp_path):
    tiny.write_log(tmp_path / "raw")
    summary = extract(
        open_source("openscene", tmp_path / "raw").open("log_a"), tmp_path / "out", ExtractConfig()
    )
    assert (summary.rows, summary.agents, summary.red_lights) == (
        24,
        24,
        12,
    ) and summary.max_speed_mps == 5.0
    assert (
        np.isclose(summary.path_m, 57.5)
        and summary.full_future == 16
        and summary.full_history == 20
    )
    # the car park lies 5 km away
    assert "70" not in read_table(tmp_path / "out", "map")["token"].to_pylist()
    lane = read_table(tmp_path / "out", "map").to_pylist()[0]
    assert lane["token"] == "20" and np.reshape(lane["baseline_xyyaw"], (-1, 3))[1].tolist() == [
        50.0,
        2.0,
        0.0,
    ]
    assert read_table(tmp_path / "out", "trajectories")["location"][0].as_py() == tiny.LOCATION
