"""Simulated traffic of EPDMS: at constant velocity, and reacting to the plan."""

from dataclasses import replace

import numpy as np
import pytest

from ops.pdm.prepared import prepare
from ops.pdm.score import score
from ops.pdm.traffic.policies import simulated_traffic
from storage.errors import ConfigError
from storage.trajectory_table import Category
from tests.worlds.tiny_pdm import Road, Track, road_scene, straight


def states_of(road: Road, plan: np.ndarray) -> np.ndarray:
    """(41, 11) simulated states of a plan."""
    return score(prepare(road_scene(road)), plan).states[0]


def test_constant_velocity_goes_on_as_now_whatever_was_logged() -> None:
    scene = road_scene(Road(agents=(Track(30.0, 3.5, speed_mps=5.0),)))
    scene.agents[1:, 0, 1] = 30.0  # the log says that it stopped
    traffic = simulated_traffic(scene, "constant_velocity", np.zeros((41, 11)))
    np.testing.assert_allclose(traffic.pose[:, 0, 0], 30.0 + 5.0 * 0.1 * np.arange(41))
    assert traffic.present.all() and len(traffic.present) == 41


def test_only_vehicles_are_simulated_and_those_that_come_later_are_left_out() -> None:
    road = Road(
        agents=(
            Track(30.0, 5.0, speed_mps=1.0, category=Category.PEDESTRIAN, keys=tuple(range(1, 9))),
            Track(40.0, 3.5, speed_mps=5.0, keys=(3, 4, 5)),
            Track(50.0, 3.5, speed_mps=5.0, keys=(0, 1)),
        )
    )
    for policy in ("constant_velocity", "idm"):
        traffic = simulated_traffic(road_scene(road), policy, states_of(road, straight(8.0)))  # type: ignore[arg-type]
        assert traffic.moves.tolist() == [True, True]
        # the pedestrian, as logged
        assert traffic.present[:, 0].tolist() == [False] * 5 + [True] * 36
        # seen now, so it is there for good
        assert traffic.present[:, 1].all()


def test_a_reacting_car_brakes_behind_an_ego_that_stops_and_one_that_does_not_runs_into_it() -> (
    None
):
    road = Road(speed_mps=1.0, agents=(Track(-25.0, 0.0, speed_mps=8.0),))
    states = states_of(road, straight(0.0))
    traffic = simulated_traffic(road_scene(road), "idm", states)
    step = np.diff(traffic.pose[:, 0, 0])
    assert step[0] == pytest.approx(0.8, abs=0.02) and step[-1] < 0.4
    assert traffic.pose[-1, 0, 0] + 2.0 < states[-1, 0] - 1.127
    logged = simulated_traffic(road_scene(road), "constant_velocity", states)
    assert logged.pose[-1, 0, 0] + 2.0 > states[-1, 0] - 1.127


def test_a_reacting_car_on_a_free_road_nears_the_speed_limit_of_its_lane() -> None:
    road = Road(
        limit_mps=6.0, agents=(Track(20.0, 3.5, speed_mps=5.0), Track(-40.0, 3.5, speed_mps=8.0))
    )
    traffic = simulated_traffic(road_scene(road), "idm", states_of(road, straight(8.0)))
    speed = np.diff(traffic.pose[..., 0], axis=0) / 0.1
    assert 5.0 < speed[-1, 0] < 6.0 and 6.0 < speed[-1, 1] < 8.0


def test_a_reacting_car_stops_at_the_end_of_its_lane() -> None:
    road = Road(agents=(Track(150.0, 3.5, speed_mps=3.0),))
    scene = road_scene(Road(speed_mps=8.0, agents=road.agents))
    # near enough to keep it simulated
    states = states_of(road, straight(8.0)) + np.array([100.0] + [0.0] * 10)
    traffic = simulated_traffic(scene, "idm", states)
    assert traffic.pose[-1, 0, 0] < 160.0
    assert np.diff(traffic.pose[:, 0, 0])[-1] < 0.15


def test_a_parked_car_beside_the_road_stays_and_a_moving_one_there_is_taken_out() -> None:
    road = Road(agents=(Track(20.0, -8.0), Track(40.0, -8.0, speed_mps=5.0)))
    traffic = simulated_traffic(road_scene(road), "idm", states_of(road, straight(8.0)))
    assert traffic.present[:, 0].all()
    assert traffic.present[:, 1].tolist() == [True] + [False] * 40


def test_the_ego_is_not_run_into_from_behind_by_traffic_that_reacts() -> None:
    road = Road(speed_mps=3.0, agents=(Track(-15.0, 0.0, speed_mps=9.0),))
    scene = road_scene(road)
    # logged as standing when first seen, so a touch would be the fault of the ego
    scene.agents[0, 0, 4:] = 0.0
    prepared = prepare(scene)
    logged = score(prepared, straight(3.0), version="v2", human_penalty_filter=False)
    reacting = score(
        prepared, straight(3.0), version="v2", human_penalty_filter=False, traffic="idm"
    )
    assert logged.nc[0] == 0.0 and reacting.nc[0] == 1.0


def test_a_plan_meets_the_traffic_that_reacts_to_it_and_not_to_the_other_plans() -> None:
    prepared = prepare(
        road_scene(Road(agents=(Track(-20.0, 0.0, speed_mps=9.0), Track(30.0, 0.0, speed_mps=5.0))))
    )
    plans = np.concatenate([straight(8.0), straight(0.0), straight(4.0)])
    both = score(prepared, plans, version="v2", traffic="idm")
    for k in range(3):
        alone = score(prepared, plans[k : k + 1], version="v2", traffic="idm")
        assert alone.sub_scores[0].tolist() == both.sub_scores[k].tolist()
    assert len(score(prepared, plans[:0], version="v2", traffic="idm")) == 0


def test_traffic_that_cannot_be_had_is_named() -> None:
    scene = road_scene(Road(agents=(Track(30.0, 0.0),)))
    bare = replace(
        scene,
        path_start=np.zeros(1, np.int64),
        path_xyyaw=np.zeros((0, 3)),
        path_limit_mps=np.zeros(0),
    )
    with pytest.raises(ConfigError, match="no centre lines"):
        score(prepare(bare), straight(8.0), version="v2", traffic="idm")
    with pytest.raises(ConfigError, match="v1 replays the log"):
        score(prepare(scene), straight(8.0), version="v1", traffic="idm")
    with pytest.raises(ConfigError, match="no such traffic"):
        score(prepare(scene), straight(8.0), version="v2", traffic="polite")  # type: ignore[arg-type]
