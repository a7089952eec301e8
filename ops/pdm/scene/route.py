"""From a route of roadblocks to the lanes on it and the centreline ahead. Not the planning of a
route.

Source: PDM_SPEC 1.4 (navsim abstract_pdm_planner.py, utils/route_utils.py, utils/graph_search). All
searches walk a graph of a few dozen nodes once a scene, so they are plain Python.
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
_NEAR_M, _NEAR_YAW_RAD = (
    3.0,
    np.pi / 4,
)  # a roadblock this close and aligned to a lane's centre line holds the ego
_BACKWARD_DEPTH, _FORWARD_DEPTH = 15, 30  # of the searches that mend a route
_LOOP_AREA_M2 = 1.0  # two connectors of a route that overlap by more make a loop


def known_route(network: Network, route: Sequence[str]) -> list[str]:
    """Blocks of a route that the map holds, each once."""
    return [token for token in dict.fromkeys(route) if token in network.blocks]


def mended_route(network: Network, route: Sequence[str], ego: np.ndarray) -> list[str]:
    """A route that starts where the ego is, has no missing link and crosses no intersection twice."""
    route = _joined_to_ego(network, list(route), ego)
    links: dict[int, list[str]] = {}
    for i, (block, following) in enumerate(pairwise(route)):
        if block not in network.blocks[following].predecessors:
            found = _search(network, block, [following], _FORWARD_DEPTH, forward=True)
            if found and len(found) >= 3:
                links[i] = found[1:-1]
    whole = [token for i, block in enumerate(route) for token in (block, *links.get(i, ()))]
    return _without_loop(network, whole)


def starting_lane(lanes: Sequence[Lane], ego: np.ndarray) -> Lane:
    """Lane of the route that holds the rear axle, by smallest heading error; else the one nearest
    to the ego box.
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
    holding = [lane for lane in lanes if lane.polygon.contains(center)]
    return holding[0] if holding else min(lanes, key=lambda lane: lane.polygon.distance(box))


def centerline(
    network: Network, lanes: Sequence[Lane], route: Sequence[str], start: Lane
) -> np.ndarray:
    """(N, 3) centre lines, joined up, of the shortest way over the route's lanes to the last block
    within 30.
    """
    first = route.index(start.block) if start.block in route else 0
    target = route[first : first + _BLOCKS_AHEAD][-1]
    allowed = {lane.token for lane in lanes}
    return np.concatenate([lane.path for lane in _shortest(network, start, allowed, target)])


def _shortest(network: Network, start: Lane, allowed: set[str], target: str) -> list[Lane]:
    """Dijkstra over lanes; where the target cannot be reached, the shortest of the ways with most
    lanes.
    """
    parent: dict[str, Lane | None] = {start.token: None}
    frontier = {start.token: (1.0, 1)}  # cost, lanes so far
    done: dict[str, tuple[float, int]] = {}
    end = None
    while frontier:
        token = min(frontier, key=lambda lane: frontier[lane][0])
        cost, depth = frontier.pop(token)
        lane = network.lanes[token]
        if lane.block == target:
            end = lane
            break
        done[token] = (cost, depth)
        for following in lane.successors:
            if following not in allowed or following in done:
                continue
            longer = cost + network.lanes[following].length_m
            if following not in frontier or longer < frontier[following][0]:
                parent[following] = lane
                frontier[following] = (longer, depth + 1)
    if end is None:
        end = network.lanes[min(done, key=lambda lane: (-done[lane][1], done[lane][0]))]
    way = [end]
    while (before := parent[way[-1].token]) is not None:
        way.append(before)
    return way[::-1]


def _joined_to_ego(network: Network, route: list[str], ego: np.ndarray) -> list[str]:
    """The route with the way from the ego's block to it, if the ego is off it."""
    start, candidates = _block_of_ego(network, set(route), ego)
    if start is None or start in route:
        return route
    found = _search(network, route[0], candidates, _BACKWARD_DEPTH, forward=False)
    if found:
        return found[:-1] + route
    found = _search(network, start, route[:3], _FORWARD_DEPTH, forward=True)
    return found + route[route.index(found[-1]) + 1 :] if found else route


def _block_of_ego(
    network: Network, route: set[str], ego: np.ndarray
) -> tuple[str | None, list[str]]:
    """The block that most likely holds the ego, on the route if any is, and all that may."""
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
    good = {
        key: error[0]
        for key, error in errors.items()
        if error[0] < _NEAR_M and error[1] < _NEAR_YAW_RAD
    }
    on_route = {key: error for key, error in good.items() if key[0] in route}
    chosen = on_route or good or {key: error[0] for key, error in errors.items()}
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
