"""Each quirk of the devkit: its effect when on, and the change when off."""

from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest

from ops.pdm.config import Version
from ops.pdm.prepared import PreparedScene, prepare
from ops.pdm.rules.areas import Area
from ops.pdm.rules.quirks import DEVKIT, Quirks
from ops.pdm.scene.scene import Scene
from ops.pdm.score import PdmScores, score
from ops.pdm.traffic.policies import simulated_traffic
from tests.worlds.tiny_pdm import Road, Track, road_scene, straight


def with_and_without(quirk: str, scene: Scene) -> tuple[PreparedScene, PreparedScene]:
    """A scene prepared as the devkit does it, and with one quirk off."""
    return prepare(scene), prepare(scene, Quirks(**{quirk: False}))


def both(
    quirk: str, road: Road | Scene, plan: np.ndarray, version: Version = "v1"
) -> list[PdmScores]:
    """Scores of one plan with the quirk and without it."""
    scene = road_scene(road) if isinstance(road, Road) else road
    return [
        score(prepared, plan, version=version, human_penalty_filter=False)
        for prepared in with_and_without(quirk, scene)
    ]


def test_every_quirk_is_on_and_every_quirk_is_tested() -> None:
    assert all(getattr(DEVKIT, field.name) for field in fields(Quirks))
    source = Path(__file__).read_text()
    assert [field.name for field in fields(Quirks) if f'"{field.name}"' not in source] == []


def test_penalised_accelerations_flatten_a_steady_braking() -> None:
    brake = straight(8.0)
    time_s = 0.5 * np.arange(1, 9)
    brake[0, :, 0] = 10.0 * time_s - time_s**2  # 2 m/s2
    devkit, intended = both("accelerations_penalised", Road(speed_mps=10.0), brake)
    # m/s at 2 s, which the tracker reaches a little late
    wanted = 10.0 - 2.0 * 2.0
    assert abs(devkit.states[0, 20, 3] - wanted) > abs(intended.states[0, 20, 3] - wanted)


def test_a_car_that_stood_when_first_seen_is_run_into_for_good_unless_its_speed_is_looked_up() -> (
    None
):
    scene = road_scene(Road(speed_mps=3.0, agents=(Track(-15.0, 0.0, speed_mps=9.0),)))
    scene.agents[0, 0, 4:] = 0.0
    devkit, intended = both("speed_of_first_sighting", scene, straight(3.0))
    assert devkit.nc[0] == 0.0 and intended.nc[0] == 1.0  # really it drives into the ego's back


def test_a_single_sighting_stands_in_every_frame_or_only_in_its_own() -> None:
    road = Road(agents=(Track(20.0, 0.0, speed_mps=4.0, keys=(4,)),))
    devkit, intended = both("single_sighting_everywhere", road, straight(8.0))
    assert devkit.nc[0] == 0.0 and intended.nc[0] == 1.0


def test_one_parabola_over_the_plan_hides_a_short_jerk() -> None:
    jab = straight(8.0)
    jab[0, 3:, 0] += 2.5
    devkit, intended = both("comfort_over_whole_plan", Road(), jab)
    assert devkit.comfort[0] == 1.0 and intended.comfort[0] == 0.0


def test_history_ends_a_fifth_of_a_second_before_now_or_a_tenth() -> None:
    devkit, intended = with_and_without("history_ends_early", road_scene(Road()))
    assert (len(devkit.history), len(intended.history)) == (14, 15)
    assert intended.history[-1, 0] == pytest.approx(-0.1 * 8.0)


def test_v2_looks_at_the_last_nine_tenths_of_a_second_only_where_traffic_is_known() -> None:
    road = Road(agents=(Track(4.049 + 39.0 + 2.0, 0.0),))
    devkit, intended = both("ttc_until_traffic_ends", road, straight(8.0), "v2")
    assert (
        devkit.ttc[0] == 1.0
        and intended.ttc[0] == 0.0
        and intended.ttc_time_s[0] == pytest.approx(4.0)
    )


def test_an_intersection_pauses_lane_keeping_or_ends_the_count() -> None:
    road = Road(intersection_x=(22.0, 26.0))
    devkit, intended = both("intersections_pause_lane_keeping", road, straight(8.0, y=2.5), "v2")
    assert devkit.areas[0, :, Area.INTERSECTION].any()
    assert devkit.lk[0] == 0.0 and intended.lk[0] == 1.0


def test_pdm_closed_brakes_at_its_first_step_for_nobody() -> None:
    devkit, intended = with_and_without("closed_brakes_at_first_step", road_scene(Road()))
    speeds = [np.diff(prepared.proposals.poses[4, :4, 0]) / 0.1 for prepared in (devkit, intended)]
    assert speeds[0][1] == pytest.approx(8.0 - 0.3)  # 3 m/s2 for 0.1 s
    assert speeds[1][1] > 8.0


def test_the_speed_of_a_leader_leaks_from_a_slow_proposal_to_a_fast_one_that_has_passed_it() -> (
    None
):
    # after the fast one
    bicycle = Track(10.0, -6.0, speed_mps=3.0, yaw=0.7, length=1.8, width=0.6)
    devkit, intended = with_and_without(
        "closed_shares_leader_record", road_scene(Road(agents=(bicycle,)))
    )
    apart = np.abs(devkit.proposals.poses - intended.proposals.poses).max(axis=(1, 2)) > 0.0
    assert apart[4] and not apart[0]


def test_pdm_closed_may_roll_back_before_a_car_that_comes_at_it() -> None:
    road = Road(speed_mps=0.5, agents=(Track(20.0, 0.0, speed_mps=12.0, yaw=np.pi),))
    devkit, intended = with_and_without("closed_speed_may_be_negative", road_scene(road))
    steps = [
        np.diff(prepared.proposals.poses[:, :41, 0], axis=1).min()
        for prepared in (devkit, intended)
    ]
    assert steps[0] < 0.0 <= steps[1]


def test_cars_that_react_see_the_ego_at_its_rear_axle_or_at_its_centre() -> None:
    scene = road_scene(Road(speed_mps=1.0, agents=(Track(-15.0, 0.0, speed_mps=6.0),)))
    states = score(prepare(scene), straight(1.0)).states[0]
    devkit = simulated_traffic(scene, "idm", states)
    intended = simulated_traffic(
        scene, "idm", states, Quirks(**{"idm_takes_rear_axle_for_center": False})
    )
    assert intended.pose[-1, 0, 0] > devkit.pose[-1, 0, 0] + 0.1  # the centre is farther ahead
