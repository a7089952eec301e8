"""Branches of the rules that few scenes reach, computed by hand on the straight road."""

from dataclasses import replace

import numpy as np
import pytest

from ops.pdm.config import Version
from ops.pdm.prepared import prepare
from ops.pdm.rules.tracking import references, track
from ops.pdm.rules.vehicle import State
from ops.pdm.score import PdmScores, score
from storage.trajectory_table import Category, MapLayer
from tests.worlds.tiny_pdm import HALF_WIDTH_M, Road, Track, moved, road_scene, straight

# centre of a track 2 m wide that touches the ego's side by 0.1 m
BESIDE_M = HALF_WIDTH_M + 0.9


def _v1(road: Road, plan: np.ndarray) -> PdmScores:
    return score(prepare(road_scene(road)), plan, version="v1")


def test_a_touch_from_the_side_within_one_lane_is_nobodys_fault() -> None:
    road = Road(edge_y=-6.0, agents=(Track(1.4, -BESIDE_M, speed_mps=8.0),))
    scores = _v1(road, straight(8.0))
    assert scores.nc[0] == 1.0 and scores.collision_time_s[0] == np.inf


@pytest.mark.parametrize(("speed_mps", "ttc"), [(2.0, 1.0), (8.0, 0.0)])
def test_a_touch_that_was_not_the_egos_fault_takes_the_track_out_for_good(
    speed_mps: float, ttc: float
) -> None:
    """It comes from behind, through the ego, and is ahead of it at the end.

    Time to collision moves the ego box on, but sees the track from where the ego is: within 0.9 s
    at 8 m/s the ego gets so far that what then touches it from behind is ahead of where it was.
    """
    scores = _v1(
        Road(speed_mps=speed_mps, agents=(Track(-12.0, 0.0, speed_mps=speed_mps + 6.0),)),
        straight(speed_mps),
    )
    assert scores.nc[0] == 1.0 and scores.ttc[0] == ttc


def test_a_standing_object_at_the_side_is_the_egos_fault_even_within_one_lane() -> None:
    road = Road(edge_y=-6.0, agents=(Track(12.0, -BESIDE_M, category=Category.TRAFFIC_CONE),))
    assert _v1(road, straight(8.0)).nc[0] == 0.5


@pytest.mark.parametrize(("intersection_x", "expected"), [(None, 1.0), ((-20.0, 60.0), 0.0)])
def test_beside_the_ego_time_to_collision_is_infringed_in_an_intersection_alone(
    intersection_x: tuple[float, float] | None, expected: float
) -> None:
    road = Road(
        edge_y=-6.0, intersection_x=intersection_x, agents=(Track(1.4, -BESIDE_M, speed_mps=8.0),)
    )
    assert _v1(road, straight(8.0)).ttc[0] == expected


def test_an_agent_that_disappears_before_the_ego_is_there_is_not_met() -> None:
    there = Track(24.0, 0.0, speed_mps=0.0)
    assert _v1(Road(agents=(there,)), straight(8.0)).nc[0] == 0.0
    assert _v1(Road(agents=(replace(there, keys=(0, 1)),)), straight(8.0)).nc[0] == 1.0


def test_an_agent_that_appears_after_the_ego_has_passed_is_not_met() -> None:
    assert _v1(Road(agents=(Track(8.0, 0.0, keys=(8, 9, 10)),)), straight(8.0)).nc[0] == 1.0


def test_v2_does_not_know_what_is_first_seen_after_its_four_seconds() -> None:
    scene = road_scene(Road(agents=(Track(20.0, 0.0, keys=(9,)),)))
    # one sighting stands in every frame
    assert score(prepare(scene), straight(8.0), version="v1").nc[0] == 0.0
    assert (
        score(prepare(scene), straight(8.0), version="v2", human_penalty_filter=False).nc[0] == 1.0
    )


def test_a_car_park_is_road_and_a_lane_without_roadblock_is_not() -> None:
    scene, plan = road_scene(Road()), straight(8.0)
    for layer, expected in ((MapLayer.CARPARK_AREA, 1.0), (MapLayer.LANE, 0.0)):
        layers = np.where(scene.map_token == "block", layer, scene.map_layer).astype(np.int8)
        assert (
            score(prepare(replace(scene, map_layer=layers)), plan, version="v1").dac[0] == expected
        )


def test_driving_backwards_makes_no_progress_and_hits_who_stands_behind() -> None:
    road = Road(speed_mps=-3.0, agents=(Track(-10.0, 0.0),))
    scores = _v1(road, straight(-3.0))
    # standing tracks come before those behind
    assert scores.progress_m[0] == 0.0 and scores.nc[0] == 0.0


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_a_heading_that_swings_over_half_a_turn_changes_nothing(version: Version) -> None:
    scene, plan = road_scene(Road(agents=(Track(40.0, 0.3, speed_mps=2.0),))), straight(8.0)
    plan[0, :, 2] = 0.05 * (-1.0) ** np.arange(8)
    here = score(prepare(scene), plan, version=version)
    there = score(prepare(moved(scene, 3e5, 4e6, np.pi)), plan, version=version)
    assert np.allclose(here.sub_scores, there.sub_scores, atol=1e-6) and np.allclose(
        here.score, there.score, atol=1e-6
    )


def test_a_plan_that_no_car_could_drive_saturates_the_steering_and_stays_finite() -> None:
    wild = np.random.default_rng(0).normal(0.0, 200.0, (32, 8, 3))
    scene = road_scene(Road())
    start = prepare(scene).start
    states = track(references(wild, scene.ego[:3], scene.time_us, 0.5), start)
    assert np.abs(states[..., State.STEER]).max() == pytest.approx(np.pi / 3, abs=1e-15)
    for version in ("v1", "v2"):
        scores = score(prepare(scene), wild, version=version)
        assert np.isfinite(scores.score).all() and ((scores.score >= 0) & (scores.score <= 1)).all()
