"""Invariances of the PDM score: the pose of the world, the order of its parts, the other plans."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ops.pdm.config import Version
from ops.pdm.prepared import prepare
from ops.pdm.scene.scene import Scene
from ops.pdm.score import PdmScores, pdm_closed_plan, score
from storage.trajectory_table import Category
from tests.worlds.tiny_pdm import Road, Track, moved, road_scene, straight

BUSY = Road(
    agents=(
        Track(24.0, 0.0, speed_mps=4.0),
        Track(-14.0, 3.5, speed_mps=9.0),
        Track(30.0, 7.0, speed_mps=6.0, yaw=np.pi),
        Track(26.0, -5.0, 1.5, np.pi / 2, Category.PEDESTRIAN, length=0.7, width=0.7),
        Track(45.0, 1.6, category=Category.BARRIER, width=0.4),
        Track(15.0, 4.0, keys=(2,)),
    ),
    intersection_x=(40.0, 60.0),
    light_x=(42.0, 58.0),
)
NAMES = (
    "nc",
    "dac",
    "ddc",
    "tlc",
    "ep",
    "ttc",
    "lk",
    "comfort",
    "score",
    "progress_m",
    "collision_time_s",
    "ttc_time_s",
)


def plans() -> np.ndarray:
    """(14, 8, 3) plans of all kinds: fast and slow, straight, drifting, turning."""
    rng = np.random.default_rng(3)
    speed = rng.uniform(0.0, 14.0, 14)
    bend = rng.normal(0.0, 0.02, 14)
    time_s = 0.5 * np.arange(1, 9)
    along = speed[:, None] * time_s
    return np.stack([along, 0.5 * bend[:, None] * along**2, bend[:, None] * along], axis=-1)


def same(a: PdmScores, b: PdmScores, tolerance: float = 0.0) -> None:
    """Assert that two results agree."""
    for name in NAMES:
        np.testing.assert_allclose(
            getattr(a, name), getattr(b, name), rtol=0, atol=tolerance, err_msg=name
        )


@pytest.mark.parametrize("version", ["v1", "v2"])
@settings(max_examples=6, deadline=None, derandomize=True)
@given(x=st.floats(-6e5, 6e5), y=st.floats(1e5, 4.7e6), yaw=st.floats(-3.1, 3.1))
def test_moving_and_turning_the_world_changes_nothing_beyond_rounding(
    version: Version, x: float, y: float, yaw: float
) -> None:
    here, there = prepare(road_scene(BUSY)), prepare(moved(road_scene(BUSY), x, y, yaw))
    same(score(here, plans(), version=version), score(there, plans(), version=version), 1e-6)
    closed = [pdm_closed_plan(prepared, version=version) for prepared in (here, there)]
    np.testing.assert_allclose(closed[0], closed[1], atol=1e-6)


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_the_order_of_agents_and_polygons_does_not_matter(version: Version) -> None:
    scene, rng = road_scene(BUSY), np.random.default_rng(0)
    agents, rings = rng.permutation(len(scene.agent_token)), rng.permutation(len(scene.map_token))
    parts = [scene.map_xy[scene.map_start[m] : scene.map_start[m + 1]] for m in rings]
    other = replace(
        scene,
        agents=scene.agents[:, agents],
        agent_lwh=scene.agent_lwh[agents],
        agent_category=scene.agent_category[agents],
        agent_token=scene.agent_token[agents],
        map_xy=np.concatenate(parts),
        map_start=np.cumsum([0, *map(len, parts)]),
        map_layer=scene.map_layer[rings],
        map_token=scene.map_token[rings],
        path_start=np.zeros(1, np.int64),
        path_xyyaw=np.zeros((0, 3)),
        path_limit_mps=np.zeros(0),
        route_lane_token=scene.route_lane_token[::-1],
    )
    same(
        score(prepare(scene), plans(), version=version),
        score(prepare(other), plans(), version=version),
    )


def test_a_ring_may_start_anywhere_and_go_either_way_round() -> None:
    scene = road_scene(BUSY)
    rings = [
        scene.map_xy[a:b] for a, b in zip(scene.map_start[:-1], scene.map_start[1:], strict=True)
    ]
    other = replace(
        scene, map_xy=np.concatenate([np.roll(ring, 3, axis=0)[::-1] for ring in rings])
    )
    same(score(prepare(scene), plans(), version="v2"), score(prepare(other), plans(), version="v2"))


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_a_plan_gets_the_same_score_bit_for_bit_alone_and_among_others(version: Version) -> None:
    prepared = prepare(road_scene(BUSY))
    batch = score(prepared, plans(), version=version)
    order = np.random.default_rng(1).permutation(len(plans()))
    shuffled = score(prepared, plans()[order], version=version)
    for row, plan in enumerate(plans()):
        alone = score(prepared, plan[None], version=version)
        for name in NAMES:
            among = getattr(shuffled, name)[order.tolist().index(row)]
            assert getattr(alone, name)[0] == getattr(batch, name)[row] == among


def test_a_scene_is_not_changed_by_scoring() -> None:
    scene, again = road_scene(BUSY), road_scene(BUSY)
    prepared = prepare(scene)
    score(prepared, plans(), version="v1")
    score(prepared, plans(), version="v2")
    for name in Scene.__slots__:
        before, after = getattr(again, name), getattr(scene, name)
        assert np.array_equal(before, after) if isinstance(before, np.ndarray) else before == after


def test_the_version_asked_for_first_does_not_matter() -> None:
    first, second = prepare(road_scene(BUSY)), prepare(road_scene(BUSY))
    one = score(first, plans(), version="v1"), score(first, plans(), version="v2")
    other = score(second, plans(), version="v2"), score(second, plans(), version="v1")
    same(one[0], other[1])
    same(one[1], other[0])


def test_finer_poses_of_the_same_plan_get_the_same_score() -> None:
    prepared = prepare(road_scene(BUSY))
    coarse, fine = straight(7.0), straight(7.0, steps=40, dt_s=0.1)
    same(score(prepared, coarse), score(prepared, fine, dt_s=0.1), 1e-4)
