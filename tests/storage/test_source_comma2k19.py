"""The comma2k19 reader: camera poses in ECEF become poses of the rear axle in a level frame."""

import numpy as np
import pytest

from storage.errors import SourceError
from storage.sources import open_source
from tests.worlds import tiny_comma2k19 as tiny
from tests.worlds.tiny_kitti import rear_axle_pose


def opened(raw, **changes):
    tiny.write_segment(raw, **changes)
    return open_source("comma2k19", raw).open(tiny.LOG)


def test_poses_are_those_of_the_rear_axle_east_and_north_of_the_first(tmp_path):
    log = opened(tmp_path)
    signals = log.signals()
    truth = rear_axle_pose(signals.timestamp_us * 1e-6 - tiny.BOOT_S)
    assert np.abs(signals.pose_world[:, 2] - truth[:, 2]).max() < 1e-4
    assert np.abs(signals.pose_world[:, :2] - truth[:, :2] + truth[0, :2]).max() < 2e-3
    assert np.allclose(signals.velocity_ego, [6, 0], atol=2e-3)
    assert np.allclose(signals.acceleration_ego, [0, 0.9], atol=0.05)
    assert signals.frame_index.tolist() == list(range(0, 150, 2))


def test_the_cameras_direction_is_found_from_the_motion(tmp_path):
    log = opened(tmp_path)
    camera = log.cameras()[0]
    forward = camera.camera_to_ego[:3, 2]
    assert np.arctan2(forward[1], forward[0]) == pytest.approx(tiny.YAW_RAD, abs=1e-4)
    assert -np.arcsin(forward[2]) == pytest.approx(tiny.PITCH_RAD, abs=1e-4)
    assert camera.intrinsics[0, 0] == pytest.approx(910 * 64 / 1164)
    notes = " ".join(log.signals().notes)
    assert "1.5 degrees to the left" in notes and "3.0 degrees down" in notes
    assert "place in the car is assumed" in notes


def test_the_speed_is_the_cars_own_where_there_is_one(tmp_path):
    folder = tiny.write_segment(tmp_path)
    file = folder / "processed_log/CAN/speed/value"
    tiny.save(file, np.load(file) + 0.3)
    log = open_source("comma2k19", tmp_path).open(tiny.LOG)
    assert np.allclose(log.signals().velocity_ego[:, 0], 6.3)
    tiny.save(file, 3.6 * np.load(file))
    with pytest.raises(SourceError, match="not that of the poses"):
        log.signals()
    file.unlink()
    signals = open_source("comma2k19", tmp_path).open(tiny.LOG).signals()
    assert np.allclose(signals.velocity_ego[:, 0], 6, atol=2e-3)
    assert "no speed of the CAN bus" in " ".join(signals.notes)


def test_a_route_may_be_spelled_with_an_underscore_but_not_be_there_twice(tmp_path):
    tiny.write_segment(tmp_path, route=tiny.ROUTE.replace("|", "_"), frames=4)
    source = open_source("comma2k19", tmp_path)
    assert [ref.log_id for ref in source.logs()] == [tiny.LOG]
    tiny.write_segment(tmp_path, frames=4)
    assert not source.logs() and "exists twice" in str(source.refused[tiny.LOG])


def test_a_video_that_lost_its_last_frame_is_read_and_one_that_lost_more_is_refused(tmp_path):
    log = opened(tmp_path, videos=149)
    assert log.signals().frame_index[-1] == 148
    assert "1 more times than frames" in " ".join(log.signals().notes)
    with pytest.raises(SourceError, match="do not belong together"):
        opened(tmp_path / "b", videos=140).signals()


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("frame_times", lambda values: values[::-1], "frame 1"),
        ("frame_positions", lambda values: values[:-1], r"positions \(149, 3\)"),
        ("frame_positions", lambda values: np.where(values > 0, np.nan, values), "frame 0"),
        ("frame_orientations", lambda values: 0 * values, "unit length"),
        ("frame_orientations", lambda values: values[:, [1, 0, 3, 2]], "where the car drives"),
    ],
)
def test_wrong_poses_are_refused(tmp_path, name, change, message):
    file = tiny.write_segment(tmp_path) / "global_pose" / name
    tiny.save(file, change(np.load(file)))
    log = open_source("comma2k19", tmp_path).open(tiny.LOG)
    with pytest.raises(SourceError, match=message) as raised:
        log.signals()
    assert tiny.LOG in str(raised.value)


def test_an_array_that_says_more_than_its_file_holds_is_refused(tmp_path):
    file = tiny.write_segment(tmp_path, frames=4) / "global_pose" / "frame_times"
    file.write_bytes(file.read_bytes().replace(b"(4,), ", b"(9999999999,), ", 1))
    log = open_source("comma2k19", tmp_path).open(tiny.LOG)
    for content in (file.read_bytes(), b"", b"\x93NUMPY\x09\x09"):
        file.write_bytes(content)
        with pytest.raises(SourceError, match="as NumPy saves it"):
            log.signals()


def test_a_segment_without_its_video_is_refused_alone(tmp_path):
    (tiny.write_segment(tmp_path, frames=4) / "video.hevc").unlink()
    source = open_source("comma2k19", tmp_path)
    assert not source.logs() and "video.hevc" in str(source.refused[tiny.LOG])
