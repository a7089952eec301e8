"""Invalid or unusual input of the PDM score: an error that names it, or a defined result."""

from dataclasses import replace

import numpy as np
import pytest

from ops.pdm.prepared import prepare
from ops.pdm.scene.scene import Scene
from ops.pdm.score import score
from storage.errors import ConfigError, SourceError
from storage.trajectory_table import MapLayer
from tests.worlds.tiny_pdm import Road, Track, road_scene, straight


def test_a_plan_with_nan_is_named_and_not_scored_as_zero() -> None:
    plans = np.repeat(straight(8.0), 3, axis=0)
    plans[1, 4, 2] = np.nan
    with pytest.raises(ConfigError, match=r"plans \[1\] of 3"):
        score(prepare(road_scene(Road())), plans)


@pytest.mark.parametrize("shape", [(8, 3), (1, 0, 3), (1, 8, 2), (1, 1, 8, 3)])
def test_plans_of_a_wrong_shape_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ConfigError, match="wrong shape"):
        score(prepare(road_scene(Road())), np.zeros(shape))


@pytest.mark.parametrize("dt_s", [0.0, -0.5, np.nan, np.inf])
def test_a_spacing_that_is_not_positive_is_refused(dt_s: float) -> None:
    with pytest.raises(ConfigError, match="spacing"):
        score(prepare(road_scene(Road())), straight(8.0), dt_s=dt_s)


def test_an_unknown_version_is_refused() -> None:
    with pytest.raises(ConfigError, match="v1 or v2"):
        score(prepare(road_scene(Road())), straight(8.0), version="v3")  # type: ignore[arg-type]


def test_no_plans_give_no_scores() -> None:
    assert len(score(prepare(road_scene(Road())), np.zeros((0, 8, 3)), version="v2")) == 0


def test_a_plan_that_ends_early_stands_still_at_its_end() -> None:
    prepared = prepare(road_scene(Road()))
    short = score(prepared, straight(8.0)[:, :4])  # 2 s
    held = straight(8.0)
    held[0, 4:] = held[0, 3]
    np.testing.assert_allclose(short.states, score(prepared, held).states, atol=1e-5)


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda s: {"centerline": s.centerline[:1]}, "no centreline"),
        (lambda s: {"map_layer": np.full_like(s.map_layer, MapLayer.ROADBLOCK)}, "no lane"),
        (lambda s: {"ego": np.full(7, np.nan)}, "'ego'"),
        (lambda s: {"human": s.human[:3]}, "'human'"),
        (lambda s: {"past_time_us": s.past_time_us[::-1].copy()}, "time order"),
        (lambda s: {"map_start": np.array([0, 2, *s.map_start[2:]])}, "fewer than three corners"),
        (lambda s: {"agent_lwh": s.agent_lwh * 0.0}, "no size"),
    ],
)
def test_a_scene_that_cannot_be_scored_names_log_frame_and_field(
    change: object, message: str
) -> None:
    scene = road_scene(Road(agents=(Track(20.0, 0.0),)))
    with pytest.raises(SourceError, match=message) as caught:
        prepare(replace(scene, **change(scene)))  # type: ignore[operator]
    assert "log 'road', frame 0" in str(caught.value)


def test_a_polygon_that_crosses_itself_holds_what_an_odd_number_of_its_edges_surrounds() -> None:
    scene = road_scene(Road(speed_mps=0.0))
    # a bow tie whose knot lies at x = 2: the ego's box, from -1.1 to 4.0, sticks out above and
    # below the knot
    bow = np.array([[-60.0, -20.0], [64.0, 20.0], [64.0, -20.0], [-60.0, 20.0]])
    block = int(np.flatnonzero(scene.map_token == "block")[0])
    rings = [
        bow if m == block else scene.map_xy[scene.map_start[m] : scene.map_start[m + 1]]
        for m in range(len(scene.map_token))
    ]
    crossed = replace(
        scene, map_xy=np.concatenate(rings), map_start=np.cumsum([0, *map(len, rings)])
    )
    assert score(prepare(crossed), straight(0.0)).dac[0] == 0.0
    far = replace(crossed, ego=crossed.ego - [40.0, 0, 0, 0, 0, 0, 0])
    assert score(prepare(far), straight(0.0)).dac[0] == 1.0


def test_an_agent_seen_once_stands_in_every_frame() -> None:
    once = Road(agents=(Track(20.0, 0.0, speed_mps=4.0, keys=(4,)),))  # seen at 2 s, at x = 28
    assert (
        score(prepare(road_scene(once)), straight(8.0)).nc[0] == 0.0
    )  # the ego gets there at 2.7 s
    twice = Road(agents=(Track(20.0, 0.0, speed_mps=4.0, keys=(3, 4)),))
    assert score(prepare(road_scene(twice)), straight(8.0)).nc[0] == 1.0  # gone after 2 s


def test_an_agent_never_seen_is_nowhere() -> None:
    never = Road(agents=(Track(10.0, 0.0, keys=()), Track(60.0, 3.5)))
    for version in ("v1", "v2"):
        assert score(prepare(road_scene(never)), straight(8.0), version=version).nc[0] == 1.0  # type: ignore[arg-type]


def test_boxes_that_overlap_at_the_start_collide_in_v1_and_are_left_out_in_v2() -> None:
    prepared = prepare(road_scene(Road(agents=(Track(4.0, 0.0),))))
    assert score(prepared, straight(8.0), version="v1").nc[0] == 0.0
    scores = score(prepared, straight(8.0), version="v2")
    assert scores.nc[0] == 1.0 and scores.collision_time_s[0] == np.inf


def test_a_route_without_speed_limit_uses_fifteen_metres_a_second() -> None:
    known, unknown = (prepare(road_scene(Road(limit_mps=limit))) for limit in (15.0, None))
    np.testing.assert_array_equal(known.reference("v1").poses, unknown.reference("v1").poses)


def test_a_scene_stays_frozen() -> None:
    scene: Scene = road_scene(Road())
    with pytest.raises(AttributeError):
        scene.time_us = 0  # type: ignore[misc]
