"""Routes of the PDM score: the starting lane, the centreline, the repair of a route."""

import numpy as np
import shapely

from ops.pdm.scene.lane_network import Block, Lane, Network
from ops.pdm.scene.route import centerline, known_route, repaired_route, starting_lane
from storage.trajectory_table import MapLayer

EGO = np.array([5.0, 0.0, 0.0, 5.0, 0.0, 0.0, 0.0])


def lane(
    token: str, block: str, x: tuple[float, float], y: float = 0.0, successors: tuple[str, ...] = ()
) -> Lane:
    """A straight lane, 3.5 m wide, with a vertex every metre."""
    line_x = np.arange(x[0], x[1] + 1e-9) if x[1] > x[0] else np.arange(x[0], x[1] - 1e-9, -1.0)
    yaw = 0.0 if x[1] > x[0] else np.pi
    path = np.stack([line_x, np.full(len(line_x), y), np.full(len(line_x), yaw)], axis=1)
    return Lane(
        token,
        block,
        shapely.box(min(x), y - 1.75, max(x), y + 1.75),
        path,
        abs(x[1] - x[0]),
        10.0,
        successors,
    )


def network(lanes: list[Lane], connectors: tuple[str, ...] = (), overlap: bool = False) -> Network:
    """The blocks that follow from the lanes; the names in `connectors` are roadblock connectors."""
    blocks: dict[str, Block] = {}
    by_token = {item.token: item for item in lanes}
    for name in dict.fromkeys(item.block for item in lanes):
        own = [item for item in lanes if item.block == name]
        after = tuple(dict.fromkeys(by_token[s].block for item in own for s in item.successors))
        into = [
            item.block for item in lanes if name in {by_token[s].block for s in item.successors}
        ]
        before = tuple(dict.fromkeys(into))
        layer = MapLayer.ROADBLOCK_CONNECTOR if name in connectors else MapLayer.ROADBLOCK
        area = (
            shapely.box(0, 0, 9, 9)
            if overlap
            else shapely.unary_union([item.polygon for item in own])
        )
        blocks[name] = Block(name, layer, area, tuple(item.token for item in own), before, after)
    return Network(by_token, blocks)


STRAIGHT = network(
    [
        lane("a", "A", (0, 20), successors=("b",)),
        lane("b", "B", (20, 40), successors=("c",)),
        lane("c", "C", (40, 60)),
    ]
)


def test_the_ego_starts_in_the_lane_that_holds_its_rear_axle_and_runs_its_way() -> None:
    with_it, against = lane("with", "A", (0, 20)), lane("against", "A", (20, 0))
    assert starting_lane([against, with_it], EGO).token == "with"


def test_beside_all_lanes_the_nearest_one_is_taken() -> None:
    assert (
        starting_lane(
            [lane("far", "A", (0, 20), y=12.0), lane("near", "A", (0, 20), y=-6.0)], EGO
        ).token
        == "near"
    )


def test_a_lane_that_holds_the_centre_comes_before_a_nearer_one() -> None:
    # rear axle before the lane, centre in it
    behind = np.array([-1.0, 0.0, 0.0, 0, 0, 0, 0])
    lanes = [lane("touched", "A", (0.4, 20.4), y=2.0), lane("holds", "A", (0, 20))]
    assert starting_lane(lanes, behind).token == "holds"


def test_the_centreline_joins_the_lanes_up_to_the_last_block() -> None:
    line = centerline(
        STRAIGHT, STRAIGHT.lanes_of(["A", "B", "C"]), ["A", "B", "C"], STRAIGHT.lanes["a"]
    )
    # joints are there twice
    assert line[0, 0] == 0.0 and line[-1, 0] == 60.0 and len(line) == 63


def test_the_shorter_of_two_ways_is_taken() -> None:
    graph = network(
        [
            lane("s", "A", (0, 10), successors=("long", "short")),
            lane("long", "B", (10, 60), successors=("e",)),
            lane("short", "B", (10, 30), successors=("e",)),
            lane("e", "C", (30, 40)),
        ]
    )
    line = centerline(graph, graph.lanes_of(["A", "B", "C"]), ["A", "B", "C"], graph.lanes["s"])
    assert line[:, 0].max() == 40.0


def test_where_the_last_block_cannot_be_reached_the_deepest_way_is_taken() -> None:
    graph = network(
        [
            lane("s", "A", (0, 10), successors=("dead", "b")),
            lane("dead", "B", (10, 12)),
            lane("b", "B", (10, 30), successors=("c",)),
            lane("c", "C", (30, 40)),
            lane("z", "Z", (90, 95)),
        ]
    )
    line = centerline(
        graph, graph.lanes_of(["A", "B", "C", "Z"]), ["A", "B", "C", "Z"], graph.lanes["s"]
    )
    assert line[-1, 0] == 40.0


def test_a_gap_of_a_route_is_filled() -> None:
    assert repaired_route(STRAIGHT, ["A", "C"], EGO) == ["A", "B", "C"]


def test_a_route_that_starts_ahead_is_led_back_to_the_ego() -> None:
    assert repaired_route(STRAIGHT, ["C"], EGO) == ["A", "B", "C"]


def test_a_route_that_starts_behind_is_kept() -> None:
    ahead = EGO + np.array([40.0, 0, 0, 0, 0, 0, 0])
    assert repaired_route(STRAIGHT, ["A", "B", "C"], ahead) == ["A", "B", "C"]


def test_a_route_that_crosses_an_intersection_twice_is_cut_before_the_second_time() -> None:
    loop = network(
        [
            lane("a", "A", (0, 20), successors=("b",)),
            lane("b", "B", (20, 40), successors=("c",)),
            lane("c", "C", (40, 60), successors=("d",)),
            lane("d", "D", (60, 80)),
        ],
        ("B", "D"),
        overlap=True,
    )
    assert repaired_route(loop, ["A", "B", "C", "D"], EGO) == ["A", "B", "C"]


def test_blocks_off_the_map_and_repeated_ones_drop_out_of_a_route() -> None:
    assert known_route(STRAIGHT, ["x", "A", "A", "C", "A"]) == ["A", "C"]
