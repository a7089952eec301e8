"""The procedural HD map of a town: streets, lanes, junctions, crosswalks, signals, from a seed
alone. Not its look.

Local metres; the writers add the offset of a real map. Traffic keeps right. A street has one or two
lanes a direction; lanes end at the stop lines, where the junction and its lane connectors begin.
"""

from dataclasses import dataclass, replace
from enum import IntEnum
from functools import lru_cache

import numpy as np
import shapely
from shapely.geometry import Polygon

from ops.synthesize.town import curves

LANE_WIDTH_M = 3.6
SHOULDER_M = 0.8  # drivable strip between the outer lane and the kerb
CROSSWALK_M = (1.6, 4.6)  # band of a crosswalk inside the junction, from the stop line
CORNER_M = 10.0  # free corner between the crosswalk and the crossing street
FLARE_M = 0.7  # by which a kerb opens towards a junction
MEDIAN_OPEN_M = 7.0  # a median begins this far from the stop line
MEDIAN_SHOULDER_M = 0.6  # drivable strip between a median and the inner lane
TIGHTEST_M = 30.0  # smallest radius of a street
BAY_WIDTH_M = 2.3  # parking bay beside the shoulder
FORK_SHARE = 0.5  # of the places where three minor streets meet
# by which the two branches of a fork lean away from the street that splits
FORK_RAD = 0.5
OMITTED_SHARE = 0.15  # of the inner minor streets of the grid


class Turn(IntEnum):
    """Direction of a connector."""

    RIGHT = -1
    STRAIGHT = 0
    LEFT = 1


@dataclass(frozen=True, slots=True)
class TownConfig:
    """The plan of a town."""

    seed: int = 7  # everything procedural follows from it
    columns: int = 7  # nodes of the street grid
    rows: int = 5
    spacing_m: float = 120.0  # between nodes
    jitter_m: float = 9.0  # displacement of a node
    rotation_rad: tuple[float, float] = (0.38, 0.54)  # of the arms of a node against the grid
    bulge_m: float = 20.0  # greatest extra sideways swing of a street
    wide_columns: tuple[int, ...] = (1, 5)  # streets with two lanes a direction
    wide_rows: tuple[int, ...] = (2,)
    wide_median_m: float = 2.2  # raised strip between the directions of wide streets
    minor_median_m: float = 1.2  # of those minor streets that have one
    minor_median_share: float = 0.8
    minor_speed_mps: float = 12.0
    wide_speed_mps: float = 15.0


@dataclass(frozen=True, slots=True)
class Lane:
    """A lane of a street, or a connector through a junction."""

    lane_id: int
    is_connector: bool
    path: np.ndarray  # (n, 3) centre line, spacing <= 1 m
    left: np.ndarray  # (n, 3) borders, driven direction
    right: np.ndarray
    speed_mps: float  # limit
    roadblock_id: int  # lane group, or lane-group connector
    index: int  # 1 = leftmost of its group
    predecessors: tuple[int, ...]
    successors: tuple[int, ...]
    junction_id: int  # of a connector; of a lane: the junction at its end
    arm: int  # arm of that junction by which one arrives
    turn: Turn = Turn.STRAIGHT
    rank: int = 0  # right of way inside the junction, 0 goes first

    @property
    def ring(self) -> np.ndarray:
        """Open polygon ring (n, 2)."""
        return curves.band(self.left, self.right)


@dataclass(frozen=True, slots=True)
class RoadBlock:
    """Lanes of one direction of a street, or the connectors from one group to another."""

    roadblock_id: int
    is_connector: bool
    ring: np.ndarray  # (n, 2)
    lane_ids: tuple[int, ...]
    from_id: int = 0  # roadblocks it joins, of a connector
    to_id: int = 0
    junction_id: int = 0


@dataclass(frozen=True, slots=True)
class Arm:
    """A street end at a junction."""

    street: int
    # (3,) x, y at the stop line on the street's middle, heading away from the junction
    mouth: np.ndarray
    half_width_m: float  # to the kerb
    has_median: bool
    axis: int  # 0: east-west, 1: north-south; arms of one axis have green together
    crosswalk: np.ndarray | None  # (4, 2) ring
    crosswalk_id: int
    stop_id: int  # stop polygon of the arriving lanes
    stop_ring: np.ndarray  # (4, 2)


@dataclass(frozen=True, slots=True)
class Junction:
    """Where streets meet."""

    junction_id: int
    center: np.ndarray  # (2,)
    ring: np.ndarray  # (n, 2) covers every connector and corner
    signalled: bool
    arms: tuple[Arm, ...]


@dataclass(frozen=True, slots=True)
class Street:
    """A street between two junctions, for drawing."""

    middle: np.ndarray  # (n, 3)
    lanes_each_way: int
    median_m: float  # raised strip between the directions, 0 without
    edges: tuple[np.ndarray, np.ndarray]  # (n, 3) left and right kerb, both along the middle
    # (n, 3) outer border of each parking bay, driven direction of its side
    bays: tuple[np.ndarray, ...]
    bay_rings: tuple[np.ndarray, ...]

    @property
    def half_width_m(self) -> float:
        return _half_width(self.lanes_each_way, self.median_m)


@dataclass(frozen=True, slots=True)
class Town:
    """Everything static that a map holds."""

    config: TownConfig
    lanes: dict[int, Lane]
    roadblocks: dict[int, RoadBlock]
    junctions: dict[int, Junction]
    streets: tuple[Street, ...]
    # pairs of connectors whose areas overlap, both orders
    conflicts: frozenset[tuple[int, int]]

    @property
    def size_m(self) -> tuple[float, float]:
        """Extent in x and y; the origin is a corner."""
        margin = 2 * MARGIN_M
        return (
            (self.config.columns - 1) * self.config.spacing_m + margin,
            (self.config.rows - 1) * self.config.spacing_m + margin,
        )


MARGIN_M = 75.0  # from the town's edge to the outermost nodes
_HEADINGS = ((1, 0), (0, 1), (-1, 0), (0, -1))


@lru_cache(maxsize=2)
def build_town(config: TownConfig) -> Town:
    """The town of a configuration; the same object for the same configuration within a process."""
    rng = np.random.default_rng([config.seed, 101])
    edges = _choose_edges(config, rng)
    nodes = _place_nodes(config, edges, rng)
    builder = _Builder(config, nodes)
    for edge in edges:
        builder.add_street(edge, rng)
    for number, node in enumerate(nodes):
        builder.add_junction(number, node, rng)
    return builder.town()


@dataclass(slots=True)
class _Node:
    center: np.ndarray
    # direction index 0 E, 1 N, 2 W, 3 S -> heading of the arm
    angles: dict[int, float]
    widths: dict[int, int]  # lanes each way of that arm
    medians: dict[int, float]
    setback_m: float = 0.0


def _choose_edges(config: TownConfig, rng: np.random.Generator) -> list[tuple[int, int, int]]:
    """(node, node, direction index from the first) of every street; a few inner minor streets are
    left out.

    Every node keeps two streets, so that nobody drives into a dead end.
    """
    edges, may_go = [], []
    for row in range(config.rows):
        for column in range(config.columns):
            here = row * config.columns + column
            if column + 1 < config.columns:
                edges.append((here, here + 1, 0))
                may_go.append(
                    row not in (0, config.rows - 1, *config.wide_rows)
                    and rng.random() <= OMITTED_SHARE
                )
            if row + 1 < config.rows:
                edges.append((here, here + config.columns, 1))
                may_go.append(
                    column not in (0, config.columns - 1, *config.wide_columns)
                    and rng.random() <= OMITTED_SHARE
                )
    degree = np.bincount([node for edge in edges for node in edge[:2]])
    kept = []
    for edge, goes in zip(edges, may_go, strict=True):
        if goes and degree[list(edge[:2])].min() > 2:
            degree[list(edge[:2])] -= 1
        else:
            kept.append(edge)
    return kept


def _place_nodes(
    config: TownConfig, edges: list[tuple[int, int, int]], rng: np.random.Generator
) -> list[_Node]:
    nodes = []
    for number in range(config.columns * config.rows):
        row, column = divmod(number, config.columns)
        center = (
            MARGIN_M
            + config.spacing_m * np.array([column, row])
            + rng.uniform(-1, 1, 2) * config.jitter_m
        )
        nodes.append(_Node(center, {}, {}, {}))
    checker = np.array(
        [(-1) ** sum(divmod(number, config.columns)) for number in range(len(nodes))]
    )
    # neighbours turn against each other: streets bend
    rotation = checker * rng.uniform(*config.rotation_rad, len(nodes))
    degree = np.bincount([node for edge in edges for node in edge[:2]], minlength=len(nodes))
    # these become wide bends, which turn enough by themselves
    rotation[degree == 2] *= 0.25
    for first, second, direction in edges:
        line = first // config.columns if direction == 0 else first % config.columns
        lanes = 2 if line in (config.wide_rows if direction == 0 else config.wide_columns) else 1
        median = (
            config.wide_median_m
            if lanes == 2
            else config.minor_median_m * (rng.random() < config.minor_median_share)
        )
        for node, way in ((first, direction), (second, direction + 2)):
            nodes[node].medians[way] = median
            nodes[node].angles[way] = way * np.pi / 2 + rotation[node] + rng.uniform(-0.05, 0.05)
            nodes[node].widths[way] = lanes
    for place, chance in zip(nodes, rng.random(len(nodes)), strict=True):
        if len(place.angles) == 3 and max(place.widths.values()) == 1 and chance < FORK_SHARE:
            _lean_to_a_fork(place)
    for place in nodes:
        place.setback_m = max(
            _half_width(place.widths[way], place.medians[way]) for way in place.angles
        )
        place.setback_m += CORNER_M + CROSSWALK_M[1]
        # no crossing traffic: a wide bend, or the street goes on
        if len(place.angles) == 2:
            first, second = sorted(place.angles)
            if second - first == 2:
                place.setback_m, place.angles[second] = 6.0, place.angles[first] + np.pi
            else:
                place.setback_m += 22.0
    return nodes


def _lean_to_a_fork(place: _Node) -> None:
    """Turn the two arms that lie in line towards the side where no arm is: who comes by the third
    sees the road split.
    """
    free = next(way for way in range(4) if way not in place.angles)
    turned = float(curves.wrap(place.angles[(free + 2) % 4] - (free + 2) * np.pi / 2))
    for way in place.angles:
        place.angles[way] -= 0.75 * turned  # a fork itself bends its streets enough
    place.angles[(free + 1) % 4] -= FORK_RAD
    place.angles[(free - 1) % 4] += FORK_RAD


class _Builder:
    """Collects the parts of a town; ids are given in order of making."""

    def __init__(self, config: TownConfig, nodes: list[_Node]) -> None:
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
        """Pose on the street's middle at the stop line, heading away from the junction."""
        here = self.nodes[node]
        angle = here.angles[way]
        return np.append(here.center + here.setback_m * curves.heading_vector(angle), angle)

    def add_street(self, edge: tuple[int, int, int], rng: np.random.Generator) -> None:
        first, second, way = edge
        start, end = self.mouth(first, way), self.mouth(second, way + 2)
        end[2] += np.pi
        # the street already bends to this side
        side = float(np.sign(curves.wrap(start[2] - end[2])))
        bulge = rng.uniform(0.3, 1.0) * self.config.bulge_m * side
        middle = curves.winding(start, end, bulge)
        while np.abs(curves.curvature(middle)).max() > 1 / TIGHTEST_M and abs(bulge) > 0.5:
            bulge *= 0.85
            middle = curves.winding(start, end, bulge)
        count, median = self.nodes[first].widths[way], self.nodes[first].medians[way]
        half = _half_width(count, median)
        bays, rings = [], []
        for line, ends in (
            (middle, ((first, way), (second, way + 2))),
            (curves.reverse(middle), ((second, way + 2), (first, way))),
        ):
            self._add_group(line, count, median, *ends)
            if count == 1 and rng.random() < 0.6:
                stretch = _bay_stretch(line)
                outer = curves.offset(line, -(half + BAY_WIDTH_M))[stretch]
                inner = curves.offset(line, -half)[stretch]
                if len(outer) > 20:
                    bays.append(outer)
                    rings.append(curves.band(inner, outer))
        for place in ((first, way), (second, way + 2)):
            self.street_of[place] = len(self.streets)
        edges = (_kerb(middle, half), _kerb(middle, -half))
        self.streets.append(Street(middle, count, median, edges, tuple(bays), tuple(rings)))

    def _add_group(
        self,
        line: np.ndarray,
        count: int,
        median_m: float,
        origin: tuple[int, int],
        goal: tuple[int, int],
    ) -> None:
        """Lanes of one direction along `line`, the middle of the street driven that way."""
        group = 30000 + len(self.roadblocks)
        ids = []
        for index in range(count):
            lane_id = 10000 + len(self.lanes)
            middle, left, right = (
                curves.resample(
                    curves.offset(line, -_inner_edge(median_m) - (index + where) * LANE_WIDTH_M)
                )
                for where in (0.5, 0.0, 1.0)
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
            _kerb(line, -_half_width(count, median_m)),
        )
        self.roadblocks[group] = RoadBlock(group, False, curves.band(inner, outer), tuple(ids))
        self.leaving[origin], self.arriving[goal] = ids, ids

    def add_junction(self, number: int, node: _Node, rng: np.random.Generator) -> None:
        junction_id = 50000 + number
        ways = sorted(node.angles)
        wide = max(node.widths.values()) == 2
        signalled = len(ways) >= 3 and (wide or rng.random() < 0.3)
        made: list[int] = []
        for way in ways:
            for other in ways:
                if other != way:
                    made += self._connect(number, way, other, signalled, len(ways) == 2)
        arms = tuple(
            self._arm(number, way, signalled or (len(ways) >= 3 and rng.random() < 0.5))
            for way in ways
        )
        ring = self._surface(made, arms)
        self.junctions[junction_id] = Junction(junction_id, node.center, ring, signalled, arms)
        self._find_conflicts(made)

    def _surface(self, made: list[int], arms: tuple[Arm, ...]) -> np.ndarray:
        """Outline of a junction (n, 2): the swept lanes, the mouths with their crosswalks, and the
        openings of medians.
        """
        areas = [Polygon(self.lanes[lane].ring).buffer(SHOULDER_M + 0.4) for lane in made]
        for arm in arms:
            wide = arm.half_width_m + FLARE_M
            areas.append(_patch(arm.mouth, 0.05, -5.0, wide, wide + 0.5))
        swept = shapely.union_all(areas).buffer(1.5).buffer(-1.5)
        beyond = shapely.union_all([_patch(arm.mouth, 3.0, 0.05, 12.0, 12.0) for arm in arms])
        whole = Polygon(swept.exterior).difference(beyond)
        noses = [_patch(arm.mouth, MEDIAN_OPEN_M, -0.1, 1.4, 1.4) for arm in arms if arm.has_median]
        return np.asarray(shapely.union_all([whole, *noses]).exterior.coords)[:-1]

    def _connect(
        self, number: int, way: int, other: int, signalled: bool, bend_only: bool
    ) -> list[int]:
        """Connectors from the lanes arriving on arm `way` to those leaving on `other`."""
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
        made: list[int] = []
        for source, target in pairs:
            path = curves.bend(self.lanes[source].path[-1], self.lanes[target].path[0])
            tight = np.abs(curves.curvature(path)).max()
            speed = min(
                self.lanes[source].speed_mps,
                self.lanes[target].speed_mps,
                round(float(np.sqrt(3.2 / tight)), 1),
            )
            lane_id = 20000 + len(self.lanes)
            self.lanes[lane_id] = Lane(
                lane_id,
                True,
                path,
                curves.offset(path, LANE_WIDTH_M / 2),
                curves.offset(path, -LANE_WIDTH_M / 2),
                speed,
                block,
                len(made) + 1,
                (source,),
                (target,),
                50000 + number,
                way,
                turn,
                rank,
            )
            before, after = self.lanes[source], self.lanes[target]
            self.lanes[source] = replace(before, successors=(*before.successors, lane_id))
            self.lanes[target] = replace(after, predecessors=(*after.predecessors, lane_id))
            made.append(lane_id)
        area = shapely.union_all(
            [Polygon(self.lanes[lane].ring).buffer(0.01) for lane in made]
        ).convex_hull
        self.roadblocks[block] = RoadBlock(
            block,
            True,
            np.asarray(area.exterior.coords)[:-1],
            tuple(made),
            self.lanes[arriving[0]].roadblock_id,
            self.lanes[leaving[0]].roadblock_id,
            50000 + number,
        )
        return made

    def _arm(self, number: int, way: int, crosswalk: bool) -> Arm:
        mouth = self.mouth(number, way)
        half = _half_width(self.nodes[number].widths[way], self.nodes[number].medians[way])
        near, far = (-depth for depth in CROSSWALK_M)
        walk = (
            np.stack(
                [
                    _beside(mouth, near, half + 0.8),
                    _beside(mouth, near, -half - 0.8),
                    _beside(mouth, far, -half - 0.8),
                    _beside(mouth, far, half + 0.8),
                ]
            )
            if crosswalk
            else None
        )
        stop = np.stack(
            [
                _beside(mouth, 1.0, 0.0),
                _beside(mouth, 0.0, 0.0),
                _beside(mouth, 0.0, half),
                _beside(mouth, 1.0, half),
            ]
        )
        return Arm(
            self.street_of[number, way],
            mouth,
            half,
            self.nodes[number].medians[way] > 0,
            way % 2,
            walk,
            60000 + 4 * number + way,
            70000 + 4 * number + way,
            stop,
        )

    def _find_conflicts(self, made: list[int]) -> None:
        areas = [
            Polygon(
                curves.band(
                    curves.offset(self.lanes[lane].path, 1.35),
                    curves.offset(self.lanes[lane].path, -1.35),
                )
            ).buffer(0.0)
            for lane in made
        ]
        for i, lane in enumerate(made):
            for j in range(i):
                other = made[j]
                if self.lanes[lane].predecessors != self.lanes[other].predecessors and areas[
                    i
                ].intersects(areas[j]):
                    self.conflicts |= {(lane, other), (other, lane)}

    def town(self) -> Town:
        return Town(
            self.config,
            self.lanes,
            self.roadblocks,
            self.junctions,
            tuple(self.streets),
            frozenset(self.conflicts),
        )


def _half_width(lanes: int, median_m: float) -> float:
    """From a street's middle to its kerb."""
    return _inner_edge(median_m) + lanes * LANE_WIDTH_M + SHOULDER_M


def _kerb(middle: np.ndarray, left_m: float) -> np.ndarray:
    """The kerb beside a street's middle, (n, 3): it opens a little towards the junctions at both
    ends.
    """
    from_end = np.minimum(np.arange(len(middle)), np.arange(len(middle))[::-1])
    flare = FLARE_M * np.clip(1 - from_end / 14.0, 0.0, 1.0) ** 2
    return np.column_stack(
        [
            curves.offset_points(middle, np.full(len(middle), left_m) + np.sign(left_m) * flare),
            middle[:, 2],
        ]
    )


def _inner_edge(median_m: float) -> float:
    """From a street's middle to its inner lane."""
    return median_m / 2 + MEDIAN_SHOULDER_M if median_m else 0.0


def _lane_pairs(
    arriving: list[int], leaving: list[int], turn: Turn, bend_only: bool
) -> list[tuple[int, int]]:
    """Which arriving lane leads to which leaving lane: turns from the near side, straight on from
    every lane.
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
    """The longest stretch of a street that does not bend to the left, where parked cars are not in
    a driver's line.
    """
    fit = curves.curvature(line) < 1 / 250
    fit[:14], fit[-14:] = False, False
    edges = np.flatnonzero(np.diff(np.concatenate([[0], fit.astype(int), [0]])))
    starts, stops = edges[::2], edges[1::2]
    best = int(np.argmax(stops - starts)) if len(starts) else 0
    return slice(int(starts[best]), int(stops[best])) if len(starts) else slice(0, 0)


def _patch(
    pose: np.ndarray, ahead_m: float, behind_m: float, ahead_half_m: float, behind_half_m: float
) -> Polygon:
    """A trapezoid across a pose, from `behind_m` to `ahead_m` along its heading."""
    return Polygon(
        [
            _beside(pose, behind_m, behind_half_m),
            _beside(pose, behind_m, -behind_half_m),
            _beside(pose, ahead_m, -ahead_half_m),
            _beside(pose, ahead_m, ahead_half_m),
        ]
    )


def _beside(pose: np.ndarray, ahead_m: float, left_m: float) -> np.ndarray:
    """Point (2,) at an offset from a pose."""
    forward = curves.heading_vector(pose[2])
    return pose[:2] + ahead_m * forward + left_m * np.array([-forward[1], forward[0]])
