"""The HD map of a synthetic town: streets, lanes, junctions, crosswalks, stop lines.

Local metres; the writers add the offset of a real map. Traffic keeps right. A street has one or two
lanes per direction; lanes end at the stop lines, where the junction and its lane connectors begin.
"""

from dataclasses import dataclass
from enum import IntEnum

import numpy as np

from ops.synthesize.town import curves

LANE_WIDTH_M = 3.6
SHOULDER_M = 0.8  # drivable strip between the outer lane and the kerb
CROSSWALK_M = (1.6, 4.6)  # band of a crosswalk inside the junction, from the stop line
CORNER_M = 10.0  # from the crosswalk to the crossing street
FLARE_M = 0.7  # by which a street widens at each kerb towards a junction
MEDIAN_OPEN_M = 7.0  # a median begins this far from the stop line
MEDIAN_SHOULDER_M = 0.6  # drivable strip between a median and the inner lane
TIGHTEST_M = 30.0  # smallest radius of a street
BAY_WIDTH_M = 2.3  # parking bay beside the shoulder
MARGIN_M = 75.0  # from the town's edge to the outermost junctions


class Turn(IntEnum):
    """Turn of a lane connector."""

    RIGHT = -1
    STRAIGHT = 0
    LEFT = 1


@dataclass(frozen=True, slots=True)
class TownConfig:
    """What a town is built from."""

    seed: int = 7  # of everything random
    columns: int = 7  # junctions of the street grid
    rows: int = 5
    spacing_m: float = 120.0  # between junctions
    jitter_m: float = 9.0  # displacement of a junction
    rotation_rad: tuple[float, float] = (0.38, 0.54)  # of a junction's arms against the grid
    bulge_m: float = 20.0  # largest extra sideways displacement of a street
    wide_columns: tuple[int, ...] = (1, 5)  # streets with two lanes per direction
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
    arm: int  # arm of that junction on which the lane arrives
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
    from_id: int = 0  # of a connector: the roadblocks that it joins
    to_id: int = 0
    junction_id: int = 0


@dataclass(frozen=True, slots=True)
class Arm:
    """The end of a street at a junction."""

    street: int
    # (3,) x, y on the centre line at the stop line; heading away from the junction
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
    """A place where streets meet."""

    junction_id: int
    center: np.ndarray  # (2,)
    ring: np.ndarray  # (n, 2) outline; covers every connector and corner
    signalled: bool
    arms: tuple[Arm, ...]


@dataclass(frozen=True, slots=True)
class Street:
    """A street between two junctions, for drawing."""

    middle: np.ndarray  # (n, 3) centre line
    lanes_each_way: int
    median_m: float  # raised strip between the directions, 0 without
    edges: tuple[
        np.ndarray, np.ndarray
    ]  # (n, 3) left and right kerb, both in the direction of `middle`
    # (n, 3) outer border of each parking bay, driven direction of its side
    bays: tuple[np.ndarray, ...]
    bay_rings: tuple[np.ndarray, ...]

    @property
    def half_width_m(self) -> float:
        """From the centre line to the kerb."""
        return half_width_m(self.lanes_each_way, self.median_m)


@dataclass(frozen=True, slots=True)
class Town:
    """The static map."""

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

    def lane_count(self, lane: Lane) -> int:
        """Lanes of a street in the direction of a lane."""
        return len(self.roadblocks[lane.roadblock_id].lane_ids)


def half_width_m(lanes: int, median_m: float) -> float:
    """Distance from a street's centre line to its kerb, metres; `lanes` per direction."""
    return inner_edge_m(median_m) + lanes * LANE_WIDTH_M + SHOULDER_M


def inner_edge_m(median_m: float) -> float:
    """Distance from a street's centre line to its innermost lane, metres."""
    return median_m / 2 + MEDIAN_SHOULDER_M if median_m else 0.0
