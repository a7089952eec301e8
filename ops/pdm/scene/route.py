"""From a route of roadblocks to the lanes on it and the centreline ahead.

Source: docs/metrics.md, "Inputs of a scene"; devkit pdm_planner/abstract_pdm_planner.py
`_get_discrete_centerline`, utils/route_utils.py, utils/graph_search. All searches run on a graph of
a few dozen nodes once a scene, so they are plain Python.
"""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import shapely

from ops.pdm.rules.geometry import ego_box
from ops.pdm.rules.vehicle import REAR_AXLE_TO_CENTER_M
from ops.pdm.scene.lane_network import Lane, Network
from storage.trajectory_table import MapLayer

_BLOCKS_AHEAD = 30  # roadblocks of the route that the centreline may cover
# the ego is in a roadblock if it is this close to and aligned with a centre line of its lanes
_NEAR_M, _NEAR_YAW_RAD = 3.0, np.pi / 4
_BACKWARD_DEPTH, _FORWARD_DEPTH = 15, 30  # of the searches that repair a route
_LOOP_AREA_M2 = 1.0  # a route whose connectors overlap by more has a loop


def known_route(network: Network, route: Sequence[str]) -> list[str]:
    """The blocks of a route that are on the map, each once."""
    return [token for token in dict.fromkeys(route) if token in network.blocks]


def repaired_route(network: Network, route: Sequence[str], ego: np.ndarray) -> list[str]:
    """The route starting at the ego, with its gaps filled, cut before it crosses an intersection
    again.
    """
    route = _joined_to_ego(network, list(route), ego)
    gaps: dict[int, list[str]] = {}
    for i, (block, following) in enumerate(pairwise(route)):
        if block not in network.blocks[following].predecessors:
            way = _search(network, block, [following], _FORWARD_DEPTH, forward=True)
            if way and len(way) >= 3:
                gaps[i] = way[1:-1]
    filled = [token for i, block in enumerate(route) for token in (block, *gaps.get(i, ()))]
    return _without_loop(network, filled)


def starting_lane(lanes: Sequence[Lane], ego: np.ndarray) -> Lane:
    """Lane of the route that contains the rear axle, the one with the smallest heading error; else
    one that contains the ego's centre; else the one nearest to the ego box.
    """
    rear = shapely.Point(ego[0], ego[1])
    inside = [lane for lane in lanes if lane.polygon.intersects(rear)]
    if inside:
        return min(inside, key=lambda lane: _error(lane, ego)[1])
    center = shapely.Point(
        ego[0] + REAR_AXLE_TO_CENTER_M * np.cos(ego[2]),
        ego[1] + REAR_AXLE_TO_CENTER_M * np.sin(ego[2]),
    )
    box = shapely.polygons(ego_box(ego))
    around_center = [lane for lane in lanes if lane.polygon.contains(center)]
    if around_center:
        return around_center[0]
    return min(lanes, key=lambda lane: lane.polygon.distance(box))


def centerline(
    network: Network, lanes: Sequence[Lane], route: Sequence[str], start: Lane
) -> np.ndarray:
    """(N, 3) joined centre lines of the shortest way over the route's lanes, up to the last of 30
    blocks.
    """
    first = route.index(start.block) if start.block in route else 0
    target = route[first : first + _BLOCKS_AHEAD][-1]
    allowed = {lane.token for lane in lanes}
    return np.concatenate([lane.path for lane in _shortest(network, start, allowed, target)])


def _shortest(network: Network, start: Lane, allowed: set[str], target: str) -> list[Lane]:
    """Dijkstra over lanes; if the target cannot be reached, the shortest of the ways with the most
    lanes.
    """
    parent: dict[str, Lane | None] = {start.token: None}
    frontier = {start.token: (1.0, 1)}  # cost, lanes so far
    visited: dict[str, tuple[float, int]] = {}
    end = None
    while frontier:
        token = min(frontier, key=lambda lane: frontier[lane][0])
        cost, depth = frontier.pop(token)
        lane = network.lanes[token]
        if lane.block == target:
            end = lane
            break
        visited[token] = (cost, depth)
        for following in lane.successors:
            if following not in allowed or following in visited:
                continue
            longer = cost + network.lanes[following].length_m
            if following not in frontier or longer < frontier[following][0]:
                parent[following] = lane
                frontier[following] = (longer, depth + 1)
    if end is None:
        deepest = min(visited, key=lambda lane: (-visited[lane][1], visited[lane][0]))
        end = network.lanes[deepest]
    way = [end]
    while (before := parent[way[-1].token]) is not None:
        way.append(before)
    return way[::-1]


def _joined_to_ego(network: Network, route: list[str], ego: np.ndarray) -> list[str]:
    """The route, extended to the ego's block if the ego is not on it."""
    start, candidates = _block_of_ego(network, set(route), ego)
    if start is None or start in route:
        return route
    way = _search(network, route[0], candidates, _BACKWARD_DEPTH, forward=False)
    if way:
        return way[:-1] + route
    way = _search(network, start, route[:3], _FORWARD_DEPTH, forward=True)
    return way + route[route.index(way[-1]) + 1 :] if way else route


def _block_of_ego(
    network: Network, route: set[str], ego: np.ndarray
) -> tuple[str | None, list[str]]:
    """The block that most likely contains the ego, preferably one of the route, and all
    candidates.
    """
    near = shapely.box(ego[0] - 1.0, ego[1] - 1.0, ego[0] + 1.0, ego[1] + 1.0)
    rear = shapely.Point(ego[0], ego[1])
    blocks = [block for block in network.blocks.values() if block.lanes]
    around = [block for block in blocks if block.polygon.intersects(near)]
    for layer in () if around else (MapLayer.ROADBLOCK, MapLayer.ROADBLOCK_CONNECTOR):
        of_layer = [block for block in blocks if block.layer == layer]
        around += sorted(of_layer, key=lambda block: block.polygon.distance(rear))[:1]
    errors = {
        (block.token, lane): _error(network.lanes[lane], ego)
        for block in around
        for lane in block.lanes
    }
    aligned = {
        key: error[0]
        for key, error in errors.items()
        if error[0] < _NEAR_M and error[1] < _NEAR_YAW_RAD
    }
    on_route = {key: error for key, error in aligned.items() if key[0] in route}
    chosen = on_route or aligned or {key: error[0] for key, error in errors.items()}
    if not chosen:
        return None, []
    return min(chosen, key=lambda key: chosen[key])[0], list(
        dict.fromkeys(block for block, _ in chosen)
    )


def _error(lane: Lane, ego: np.ndarray) -> tuple[float, float]:
    """Distance (m) and heading difference (rad) of the ego to the nearest vertex of a lane's centre
    line.
    """
    distance = np.hypot(lane.path[:, 0] - ego[0], lane.path[:, 1] - ego[1])
    nearest = int(distance.argmin())
    turn = lane.path[nearest, 2] - ego[2]
    return float(distance[nearest]), float(abs(np.arctan2(np.sin(turn), np.cos(turn))))


def _search(
    network: Network, start: str, targets: Sequence[str], depth: int, *, forward: bool
) -> list[str]:
    """Fewest blocks from `start` to one of the targets, in driving order; empty if none is within
    `depth` blocks.
    """
    level, seen = [[start]], {start}
    for _ in range(depth):
        for way in level:
            if way[-1] in targets:
                return way if forward else way[::-1]
        longer = []
        for way in level:
            block = network.blocks[way[-1]]
            for following in block.successors if forward else block.predecessors:
                if following in network.blocks and following not in seen:
                    seen.add(following)
                    longer.append([*way, following])
        level = longer
    return []


def _without_loop(network: Network, route: list[str]) -> list[str]:
    """The route cut before the first connector that overlaps an earlier one."""
    passed: list[shapely.Polygon] = []
    for i, token in enumerate(route):
        block = network.blocks[token]
        if block.layer != MapLayer.ROADBLOCK_CONNECTOR:
            continue
        if any(
            other.intersects(block.polygon)
            and other.intersection(block.polygon).area > _LOOP_AREA_M2
            for other in passed
        ):
            return route[:i]
        passed.append(block.polygon)
    return route
