"""Velocity and acceleration from poses."""

import numpy as np
import pytest

from storage.errors import SourceError
from storage.sources.earth import east_north_up, ecef_from_degrees
from storage.sources.motion import motion_of_poses, signed_speed, whole_microseconds


def braking(time_s: np.ndarray) -> np.ndarray:
    """A car that heads north-west and brakes by 1.5 m/s2 from 20 m/s."""
    way = 20 * time_s - 0.75 * time_s**2
    heading = np.radians(135)
    turned = np.full_like(time_s, heading)
    return np.column_stack([way * np.cos(heading), way * np.sin(heading), turned])


@pytest.mark.parametrize("hz", [1, 2, 10, 100])
def test_the_motion_of_a_braking_car_is_found_at_uneven_times(hz):
    time_s = np.sort(np.random.default_rng(0).uniform(-0.2, 0.2, 8 * hz) + np.arange(8 * hz)) / hz
    motion = motion_of_poses(time_s, braking(time_s))
    assert np.allclose(motion[:, 0], 20 - 1.5 * time_s, atol=1e-6)
    assert np.allclose(motion[:, 1:], [0, -1.5, 0], atol=1e-6)


def test_centimetres_of_noise_do_not_become_hard_braking():
    time_s = 0.1 * np.arange(300)
    pose = braking(time_s / 3)
    pose[:, :2] += np.random.default_rng(0).normal(0, 0.01, (300, 2))
    assert motion_of_poses(time_s, pose)[:, 2].std() < 0.25


def test_one_and_two_poses_have_a_motion():
    assert not motion_of_poses(np.zeros(1), np.zeros((1, 3))).any()
    two = motion_of_poses(np.array([0.0, 0.5]), np.array([[0, 0, 0], [1.0, 0, 0]]))
    assert np.allclose(two, [2, 0, 0, 0])


def test_a_recorded_speed_gets_the_direction_of_the_poses():
    forward = np.array([5.0, 0.1, -0.1, -3.0])
    assert signed_speed(np.array([5.1, 0.0, 0.0, 3.1]), forward, "a").tolist() == [5.1, 0, 0, -3.1]


def test_a_speed_in_kilometres_an_hour_is_refused():
    with pytest.raises(SourceError, match=r"3\.6 in the median"):
        signed_speed(np.full(9, 36.0), np.full(9, 10.0), "poses.csv")


def test_a_level_frame_measures_metres_to_the_east_and_north():
    place = np.array([[48.0, 11.0, 500.0], [48.001, 11.0, 500.0], [48.0, 11.001, 510.0]])
    ecef = ecef_from_degrees(place)
    local = (ecef - ecef[0]) @ east_north_up(ecef[0]).T
    # a degree of latitude at 48 degrees is 111.200 km long, one of longitude 74.629 km
    assert np.allclose(local[1:], [[0, 111.2, 0], [74.63, 0, 10]], atol=0.03)


@pytest.mark.parametrize(
    ("factor", "unit"), [(1e3, "milliseconds"), (1e6, "microseconds"), (1e9, "nanoseconds")]
)
@pytest.mark.parametrize("start_s", [0.0, 1.7e9])
def test_times_that_are_no_seconds_are_refused_by_their_unit(factor, unit, start_s):
    time_s = start_s + 0.1 * np.arange(50)
    assert len(whole_microseconds(time_s, "times.txt")) == 50
    with pytest.raises(SourceError, match=rf"not in seconds[\s\S]*probably {unit}"):
        whole_microseconds(factor * time_s, "times.txt")
