"""Builds the HD map of a town from its configuration: streets, lanes, junctions, connectors."""

from dataclasses import replace
from functools import lru_cache

import numpy as np
import shapely
from shapely.geometry import Polygon

from ops.synthesize.town import curves
from ops.synthesize.town.street_grid import Node, choose_edges, place_nodes
from ops.synthesize.town.town import (
    BAY_WIDTH_M,
    CROSSWALK_M,
    FLARE_M,
    LANE_WIDTH_M,
    MEDIAN_OPEN_M,
    SHOULDER_M,
    TIGHTEST_M,
    Arm,
    Junction,
    Lane,
    RoadBlock,
    Street,
    Town,
    TownConfig,
    Turn,
    half_width_m,
    inner_edge_m,
)


@lru_cache(maxsize=2)
def build_town(config: TownConfig) -> Town:
    """The town of a configuration; the same object for the same configuration within a process."""
    rng = np.random.default_rng([config.seed, 101])
    edges = choose_edges(config, rng)
    nodes = place_nodes(config, edges, rng)
    builder = _TownBuilder(config, nodes)
    for edge in edges:
        builder.add_street(edge, rng)
    for number, node in enumerate(nodes):
        builder.add_junction(number, node, rng)
    return builder.town()


class _TownBuilder:
    """Collects the parts of a town; ids count in the order of construction."""

    def __init__(self, config: TownConfig, nodes: list[Node]) -> None:
        self.config, self.nodes = config, nodes
        self.lanes: dict[int, Lane] = {}
        self.roadblocks: dict[int, RoadBlock] = {}
        self.junctions: dict[int, Junction] = {}
        self.streets: list[Street] = []
        # (node, way) -> lanes, leftmost first
        self.arriving: dict[tuple[int, int], list[int]] = {}
        self.leaving: dict[tuple[int, int], list[int]] = {}
        self.street_of: dict[tuple[int, int], int] = {}
        self.conflicts: set[tuple[int, int]] = set()

    def mouth(self, node: int, way: int) -> np.ndarray:
        """Pose (3,) on the centre line at the stop line, heading away from the junction."""
        center, setback_m = self.nodes[node].center, self.nodes[node].setback_m
        heading = self.nodes[node].headings[way]
        return np.append(center + setback_m * curves.heading_vector(heading), heading)

    def add_street(self, edge: tuple[int, int, int], rng: np.random.Generator) -> None:
        """Add the street of an edge of the grid with its lanes and parking bays."""
        first, second, way = edge
        start, end = self.mouth(first, way), self.mouth(second, way + 2)
        end[2] += np.pi
        middle = self._centre_line(start, end, rng)
        count, median = self.nodes[first].lane_counts[way], self.nodes[first].medians[way]
        half_m = half_width_m(count, median)
        bays, rings = [], []
        for line, ends in (
            (middle, ((first, way), (second, way + 2))),
            (curves.reverse(middle), ((second, way + 2), (first, way))),
        ):
            self._add_lane_group(line, count, median, *ends)
            if count == 1 and rng.random() < 0.6:
                stretch = _bay_stretch(line)
                outer = curves.offset(line, -(half_m + BAY_WIDTH_M))[stretch]
                inner = curves.offset(line, -half_m)[stretch]
                if len(outer) > 20:
                    bays.append(outer)
                    rings.append(curves.band(inner, outer))
        for arm in ((first, way), (second, way + 2)):
            self.street_of[arm] = len(self.streets)
        kerbs = (_kerb(middle, half_m), _kerb(middle, -half_m))
        self.streets.append(Street(middle, count, median, kerbs, tuple(bays), tuple(rings)))

    def _centre_line(
        self, start: np.ndarray, end: np.ndarray, rng: np.random.Generator
    ) -> np.ndarray:
        """Centre line (n, 3) of a street between two poses, bulged as far as TIGHTEST_M allows."""
        # the side to which the street bends already
        side = float(np.sign(curves.wrap(start[2] - end[2])))
        bulge = rng.uniform(0.3, 1.0) * self.config.bulge_m * side
        middle = curves.winding(start, end, bulge)
        while np.abs(curves.curvature(middle)).max() > 1 / TIGHTEST_M and abs(bulge) > 0.5:
            bulge *= 0.85
            middle = curves.winding(start, end, bulge)
        return middle

    def _add_lane_group(
        self,
        line: np.ndarray,
        count: int,
        median_m: float,
        origin: tuple[int, int],
        goal: tuple[int, int],
    ) -> None:
        """Add the lanes of one direction along `line`, the centre line in driven direction."""
        group = 30000 + len(self.roadblocks)
        ids = []
        for index in range(count):
            lane_id = 10000 + len(self.lanes)
            middle, left, right = (
                curves.resample(
                    curves.offset(line, -inner_edge_m(median_m) - (index + share) * LANE_WIDTH_M)
                )
                for share in (0.5, 0.0, 1.0)
            )
            speed = self.config.wide_speed_mps if count == 2 else self.config.minor_speed_mps
            speed = min(
                speed, round(float(np.sqrt(2.6 / np.abs(curves.curvature(middle)).max())), 1)
            )
            self.lanes[lane_id] = Lane(
                lane_id,
                False,
                middle,
                left,
                right,
                speed,
                group,
                index + 1,
                (),
                (),
                50000 + goal[0],
                goal[1],
            )
            ids.append(lane_id)
        inner, outer = (
            curves.offset(line, -median_m / 2),
            _kerb(line, -half_width_m(count, median_m)),
        )
        self.roadblocks[group] = RoadBlock(group, False, curves.band(inner, outer), tuple(ids))
        self.leaving[origin], self.arriving[goal] = ids, ids

    def add_junction(self, number: int, node: Node, rng: np.random.Generator) -> None:
        """Add the junction of a node with its connectors, arms, outline and conflicts."""
        junction_id = 50000 + number
        ways = sorted(node.headings)
        wide = max(node.lane_counts.values()) == 2
        signalled = len(ways) >= 3 and (wide or rng.random() < 0.3)
        connectors: list[int] = []
        for way in ways:
            for other in ways:
                if other != way:
                    connectors += self._connect(number, way, other, signalled, len(ways) == 2)
        arms = tuple(
            self._arm(number, way, signalled or (len(ways) >= 3 and rng.random() < 0.5))
            for way in ways
        )
        ring = self._outline(connectors, arms)
        self.junctions[junction_id] = Junction(junction_id, node.center, ring, signalled, arms)
        self._add_conflicts(connectors)

    def _outline(self, connectors: list[int], arms: tuple[Arm, ...]) -> np.ndarray:
        """Outline of a junction (n, 2): the swept connectors, the crosswalks at the stop lines, and
        the openings of medians.
        """
        areas = [Polygon(self.lanes[lane].ring).buffer(SHOULDER_M + 0.4) for lane in connectors]
        for arm in arms:
            half_m = arm.half_width_m + FLARE_M
            areas.append(curves.trapezoid(arm.mouth, 0.05, -5.0, half_m, half_m + 0.5))
        swept = shapely.union_all(areas).buffer(1.5).buffer(-1.5)
        beyond = shapely.union_all(
            [curves.trapezoid(arm.mouth, 3.0, 0.05, 12.0, 12.0) for arm in arms]
        )
        inside = Polygon(swept.exterior).difference(beyond)
        noses = [
            curves.trapezoid(arm.mouth, MEDIAN_OPEN_M, -0.1, 1.4, 1.4)
            for arm in arms
            if arm.has_median
        ]
        return np.asarray(shapely.union_all([inside, *noses]).exterior.coords)[:-1]

    def _connect(
        self, number: int, way: int, other: int, signalled: bool, bend_only: bool
    ) -> list[int]:
        """Add the connectors from the lanes arriving on arm `way` to those leaving on arm `other`.

        Returns their ids.
        """
        arriving, leaving = self.arriving[number, way], self.leaving[number, other]
        heading = float(
            curves.wrap(self.lanes[leaving[0]].path[0, 2] - self.lanes[arriving[0]].path[-1, 2])
        )
        turn = Turn.STRAIGHT if abs(heading) < 0.75 else Turn.LEFT if heading > 0 else Turn.RIGHT
        pairs = _lane_pairs(arriving, leaving, turn, bend_only)
        if not pairs:
            return []
        block = 40000 + len(self.roadblocks)
        rank = {Turn.STRAIGHT: 0, Turn.RIGHT: 1, Turn.LEFT: 2}[turn] + (
            0 if signalled or way % 2 == 0 else 3
        )
        ids: list[int] = []
        for source, target in pairs:
            before, after = self.lanes[source], self.lanes[target]
            path = curves.bend(before.path[-1], after.path[0])
            curve_mps = round(float(np.sqrt(3.2 / np.abs(curves.curvature(path)).max())), 1)
            lane_id = 20000 + len(self.lanes)
            self.lanes[lane_id] = Lane(
                lane_id,
                True,
                path,
                curves.offset(path, LANE_WIDTH_M / 2),
                curves.offset(path, -LANE_WIDTH_M / 2),
                min(before.speed_mps, after.speed_mps, curve_mps),
                block,
                len(ids) + 1,
                (source,),
                (target,),
                50000 + number,
                way,
                turn,
                rank,
            )
            self.lanes[source] = replace(before, successors=(*before.successors, lane_id))
            self.lanes[target] = replace(after, predecessors=(*after.predecessors, lane_id))
            ids.append(lane_id)
        area = shapely.union_all(
            [Polygon(self.lanes[lane].ring).buffer(0.01) for lane in ids]
        ).convex_hull
        self.roadblocks[block] = RoadBlock(
            block,
            True,
            np.asarray(area.exterior.coords)[:-1],
            tuple(ids),
            self.lanes[arriving[0]].roadblock_id,
            self.lanes[leaving[0]].roadblock_id,
            50000 + number,
        )
        return ids

    def _arm(self, number: int, way: int, crosswalk: bool) -> Arm:
        """The end of a street at junction `number`, with its crosswalk and stop polygon."""
        mouth = self.mouth(number, way)
        half_m = half_width_m(self.nodes[number].lane_counts[way], self.nodes[number].medians[way])
        near, far = (-depth for depth in CROSSWALK_M)
        crosswalk_ring = (
            np.stack(
                [
                    curves.offset_point(mouth, near, half_m + 0.8),
                    curves.offset_point(mouth, near, -half_m - 0.8),
                    curves.offset_point(mouth, far, -half_m - 0.8),
                    curves.offset_point(mouth, far, half_m + 0.8),
                ]
            )
            if crosswalk
            else None
        )
        stop_ring = np.stack(
            [
                curves.offset_point(mouth, 1.0, 0.0),
                curves.offset_point(mouth, 0.0, 0.0),
                curves.offset_point(mouth, 0.0, half_m),
                curves.offset_point(mouth, 1.0, half_m),
            ]
        )
        return Arm(
            self.street_of[number, way],
            mouth,
            half_m,
            self.nodes[number].medians[way] > 0,
            way % 2,
            crosswalk_ring,
            60000 + 4 * number + way,
            70000 + 4 * number + way,
            stop_ring,
        )

    def _add_conflicts(self, connectors: list[int]) -> None:
        """Add the pairs of connectors from different lanes whose swept areas overlap."""
        areas = [
            Polygon(
                curves.band(
                    curves.offset(self.lanes[lane].path, 1.35),
                    curves.offset(self.lanes[lane].path, -1.35),
                )
            ).buffer(0.0)
            for lane in connectors
        ]
        for i, lane in enumerate(connectors):
            for j in range(i):
                other = connectors[j]
                if self.lanes[lane].predecessors != self.lanes[other].predecessors and areas[
                    i
                ].intersects(areas[j]):
                    self.conflicts |= {(lane, other), (other, lane)}

    def town(self) -> Town:
        """The town of all parts added so far."""
        return Town(
            self.config,
            self.lanes,
            self.roadblocks,
            self.junctions,
            tuple(self.streets),
            frozenset(self.conflicts),
        )


def _kerb(middle: np.ndarray, left_m: float) -> np.ndarray:
    """The kerb at `left_m` of a street's centre line, (n, 3).

    The street widens towards the junctions at both ends.
    """
    from_end = np.minimum(np.arange(len(middle)), np.arange(len(middle))[::-1])
    flare = FLARE_M * np.clip(1 - from_end / 14.0, 0.0, 1.0) ** 2
    return np.column_stack(
        [
            curves.offset_points(middle, np.full(len(middle), left_m) + np.sign(left_m) * flare),
            middle[:, 2],
        ]
    )


def _lane_pairs(
    arriving: list[int], leaving: list[int], turn: Turn, bend_only: bool
) -> list[tuple[int, int]]:
    """(arriving, leaving) lanes to connect.

    A turn starts in the lane on its side; straight on goes from every lane.
    """
    if turn == Turn.STRAIGHT or bend_only:
        if len(arriving) >= len(leaving):
            return [
                (lane, leaving[min(index, len(leaving) - 1)]) for index, lane in enumerate(arriving)
            ]
        return [(arriving[0], lane) for lane in leaving]
    if turn == Turn.LEFT:
        return [(arriving[0], leaving[0])]
    return [(arriving[-1], leaving[-1])]


def _bay_stretch(line: np.ndarray) -> slice:
    """The longest stretch of a street that does not bend to the left.

    Parked cars there do not stand in a driver's line.
    """
    suitable = curves.curvature(line) < 1 / 250
    suitable[:14], suitable[-14:] = False, False
    edges = np.flatnonzero(np.diff(np.concatenate([[0], suitable.astype(int), [0]])))
    starts, stops = edges[::2], edges[1::2]
    best = int(np.argmax(stops - starts)) if len(starts) else 0
    return slice(int(starts[best]), int(stops[best])) if len(starts) else slice(0, 0)
