"""Each sub-score of the PDM score in cases that can be computed by hand, on a straight road."""

import numpy as np
import pytest

from ops.pdm.config import Version
from ops.pdm.prepared import prepare
from ops.pdm.rules.areas import Area
from ops.pdm.rules.comfort import extended_comfort
from ops.pdm.rules.vehicle import State
from ops.pdm.score import PdmScores, score
from storage.trajectory_table import Category
from tests.worlds.tiny_pdm import FRONT_M, HALF_WIDTH_M, Road, Track, road_scene, straight


def scored(road: Road, plan: np.ndarray, version: Version = "v1", **options: object) -> PdmScores:
    """Scores of one plan on a road."""
    return score(prepare(road_scene(road)), plan, version=version, **options)  # type: ignore[arg-type]


def test_driving_straight_on_an_empty_road_satisfies_every_rule() -> None:
    for version in ("v1", "v2"):
        scores = scored(Road(), straight(8.0), version)
        assert scores.sub_scores[0, [0, 1, 2, 3, 5, 6, 7]].tolist() == [1.0] * 7
        assert scores.progress_m[0] == pytest.approx(32.0, abs=0.05)  # 8 m/s for 4 s


def test_a_collision_is_noted_at_the_first_step_at_which_the_boxes_touch() -> None:
    rear_of_leader = 20.0
    scores = scored(Road(agents=(Track(rear_of_leader + 2.0, 0.0),)), straight(8.0))
    assert scores.nc[0] == 0.0
    # 1.99 s, so the step at 2.0 s
    seconds = (rear_of_leader - FRONT_M) / 8.0
    assert scores.collision_time_s[0] == pytest.approx(np.ceil(seconds * 10) / 10)
    assert scores.score[0] == 0.0


def test_running_into_a_static_object_costs_half() -> None:
    cone = Track(20.0, 0.0, category=Category.TRAFFIC_CONE, length=0.5, width=0.5)
    assert scored(Road(agents=(cone,)), straight(8.0)).nc[0] == 0.5


def test_being_run_into_from_behind_is_not_the_fault_of_the_ego() -> None:
    scores = scored(Road(speed_mps=3.0, agents=(Track(-15.0, 0.0, speed_mps=9.0),)), straight(3.0))
    assert scores.nc[0] == 1.0


def test_a_track_that_stood_when_first_seen_counts_as_standing_for_good() -> None:
    chaser = Track(-15.0, 0.0, speed_mps=9.0)
    scene = road_scene(Road(speed_mps=3.0, agents=(chaser,)))
    # its logged speed at the first sighting only
    scene.agents[0, 0, 4:] = 0.0
    assert score(prepare(scene), straight(3.0)).nc[0] == 0.0


def test_a_standing_ego_is_never_at_fault() -> None:
    scores = scored(
        Road(speed_mps=0.0, agents=(Track(20.0, 0.0, speed_mps=6.0, yaw=np.pi),)), straight(0.0)
    )
    assert scores.nc[0] == 1.0


def test_a_touch_from_the_side_is_the_fault_of_an_ego_that_is_across_two_lanes() -> None:
    # its right side is at y = 1.6
    beside = Track(0.0, 2.6, speed_mps=8.0, length=3.0)
    in_lane = scored(Road(agents=(Track(0.0, 2.1, speed_mps=8.0, length=3.0),)), straight(8.0))
    across = np.concatenate([straight(8.0, y=0.8)[:, :, :2], np.zeros((1, 8, 1))], axis=2)
    # touched at once, but within its lane
    assert in_lane.nc[0] == 1.0
    assert scored(Road(agents=(beside,)), across).nc[0] == 0.0


def test_the_road_ends_where_its_edge_is_and_a_corner_on_the_edge_is_off_it() -> None:
    stands = straight(0.0)
    assert scored(Road(speed_mps=0.0, edge_y=-HALF_WIDTH_M - 1e-6), stands).dac[0] == 1.0
    assert scored(Road(speed_mps=0.0, edge_y=-HALF_WIDTH_M), stands).dac[0] == 0.0
    assert scored(Road(speed_mps=0.0, edge_y=-HALF_WIDTH_M + 1e-6), stands).dac[0] == 0.0


@pytest.mark.parametrize(("speed_mps", "expected"), [(1.8, 1.0), (4.0, 0.5), (9.0, 0.0)])
def test_driving_against_traffic_is_measured_over_one_second(
    speed_mps: float, expected: float
) -> None:
    scene = road_scene(Road(speed_mps=speed_mps))
    # now the ego's own lane is not on the route
    scene.route_lane_token[:] = "against"
    # 1.8, 4 and 9 m in 1 s against 2 and 6 m
    assert score(prepare(scene), straight(speed_mps)).ddc[0] == expected


def test_v2_does_not_count_oncoming_driving_inside_an_intersection() -> None:
    scene = road_scene(Road(speed_mps=9.0, intersection_x=(-20.0, 80.0)))
    scene.route_lane_token[:] = "against"
    prepared = prepare(scene)
    assert score(prepared, straight(9.0), version="v1").ddc[0] == 0.0
    assert score(prepared, straight(9.0), version="v2").ddc[0] == 1.0


def test_entering_a_connector_while_its_light_is_red_fails_traffic_light_compliance() -> None:
    def tlc(**road: object) -> float:
        lit = Road(light_x=(20.0, 40.0), **road)  # type: ignore[arg-type]
        return float(scored(lit, straight(8.0), "v2", human_penalty_filter=False).tlc[0])

    # the front reaches x = 20 at 1.99 s
    assert tlc() == 0.0
    # key frame 3 holds until 1.9 s
    assert tlc(red=(True,) * 4 + (False,) * 7) == 1.0
    # and key frame 4 until 2.4 s
    assert tlc(red=(True,) * 5 + (False,) * 6) == 0.0
    # v1 has no such rule
    assert scored(Road(light_x=(20.0, 40.0)), straight(8.0), "v1").tlc[0] == 1.0


def test_progress_is_measured_against_pdm_closed() -> None:
    prepared = prepare(road_scene(Road()))
    slow = score(prepared, straight(4.0))
    best_m = prepared.reference("v1").masked_m
    assert best_m > 25.0
    assert slow.ep[0] == pytest.approx(slow.progress_m[0] / best_m)
    fast = score(prepared, straight(14.0))
    # the better of both is the measure
    assert fast.progress_m[0] > best_m and fast.ep[0] == 1.0


def test_progress_does_not_count_where_nobody_can_advance_five_metres() -> None:
    wall = Road(speed_mps=0.0, agents=(Track(FRONT_M + 3.0 + 2.0, 0.0, width=20.0),))
    for version in ("v1", "v2"):
        assert scored(wall, straight(0.0), version).ep[0] == 1.0


def test_a_plan_that_collides_has_no_progress_in_v1_and_keeps_it_in_v2() -> None:
    road = Road(agents=(Track(24.0, 0.0, speed_mps=2.0),))
    assert scored(road, straight(8.0), "v1").ep[0] == 0.0
    assert scored(road, straight(8.0), "v2").ep[0] == 1.0


def test_time_to_collision_looks_nine_tenths_of_a_second_ahead() -> None:
    def ttc(gap_m: float) -> float:
        # keeps its distance
        road = Road(agents=(Track(FRONT_M + gap_m + 2.0, 0.0, speed_mps=8.0),))
        return float(scored(road, straight(8.0)).ttc[0])

    # same speed: moving on in a straight line never closes the gap
    assert ttc(0.5) == 1.0
    standing = Road(agents=(Track(FRONT_M + 39.0 + 2.0, 0.0),))
    scores = scored(standing, straight(8.0))
    # 7 m left at the end, 7.2 m lie within 0.9 s
    assert scores.nc[0] == 1.0 and scores.ttc[0] == 0.0
    assert scores.ttc_time_s[0] == pytest.approx(4.0)
    # v2 looks at states up to 3.1 s only
    assert scored(standing, straight(8.0), "v2").ttc[0] == 1.0


def test_comfort_of_v1_bounds_the_braking_of_the_whole_plan() -> None:
    assert scored(Road(speed_mps=12.0), straight(12.0)).comfort[0] == 1.0
    braking = scored(Road(speed_mps=14.0), straight(0.0))
    # below -4.05 m/s2
    assert braking.comfort[0] == 0.0 and not braking.comfort_parts[0, 0]
    assert braking.comfort_parts[0, [1, 4, 5]].all()  # nothing lateral happened


def test_comfort_of_v2_sees_the_history_of_the_human() -> None:
    assert scored(Road(), straight(8.0), "v2").hc[0] == 1.0
    assert scored(Road(past_acceleration=7.5), straight(8.0), "v2").hc[0] == 0.0
    assert scored(Road(past_acceleration=7.5), straight(8.0), "v1").comfort_parts[0, 1]


def test_lane_keeping_fails_after_two_seconds_beside_the_centreline() -> None:
    def lk(plan: np.ndarray, **road: object) -> float:
        return float(scored(Road(**road), plan, "v2", human_penalty_filter=False).lk[0])  # type: ignore[arg-type]

    beside = straight(8.0, y=0.8)
    back = beside.copy()
    back[0, 3:, 1] = 0.0  # back on the line after 1.5 s
    assert lk(straight(8.0)) == 1.0
    assert lk(beside) == 0.0
    assert lk(back) == 1.0
    # samples in an intersection do not count
    assert lk(beside, intersection_x=(-20.0, 100.0)) == 1.0


def test_lane_keeping_is_only_paused_by_an_intersection() -> None:
    road = Road(intersection_x=(22.0, 26.0))
    scores = scored(road, straight(8.0, y=2.5), "v2", human_penalty_filter=False)
    beside = np.abs(scores.states[0, :, State.Y]) > 0.5
    inside = scores.areas[0, :, Area.INTERSECTION]
    before, after = np.split(beside & ~inside, [int(inside.argmax())])
    assert before.sum() < 20 and after.sum() < 20 <= before.sum() + after.sum()
    assert scores.lk[0] == 0.0


def test_two_plans_in_a_row_that_agree_are_comfortable_and_two_that_do_not_are_not() -> None:
    prepared = prepare(road_scene(Road()))
    states = score(
        prepared, np.concatenate([straight(8.0), straight(8.0), straight(2.0)]), version="v2"
    ).states
    assert extended_comfort(states[0], states[1], 0.5)[0] == 1.0
    assert extended_comfort(states[0], states[2], 0.5)[0] == 0.0
    with pytest.raises(ValueError, match=r"0\.55"):
        extended_comfort(states[0], states[1], 0.6)


def test_the_human_filter_ignores_what_the_human_failed_too() -> None:
    off_road = straight(8.0, y=-3.0)
    road = Road(human=off_road[0])
    assert scored(road, off_road, "v2").dac[0] == 1.0
    assert scored(road, off_road, "v2", human_penalty_filter=False).dac[0] == 0.0
    assert scored(road, off_road, "v1").dac[0] == 0.0  # v1 has no filter
