"""The street grid of a town: its junctions with their arms, and the streets that join them."""

from dataclasses import dataclass

import numpy as np

from ops.synthesize.town import curves
from ops.synthesize.town.town import (
    CORNER_M,
    CROSSWALK_M,
    MARGIN_M,
    TownConfig,
    half_width_m,
)

FORK_SHARE = 0.5  # of the junctions where three minor streets meet
FORK_RAD = 0.5  # by which the two branches of a fork turn away from the street that splits
OMITTED_SHARE = 0.15  # of the inner minor streets of the grid


@dataclass(slots=True)
class Node:
    """A junction of the grid; dicts are keyed by direction: 0 east, 1 north, 2 west, 3 south."""

    center: np.ndarray  # (2,) metres
    headings: dict[int, float]  # of the arm, away from the junction, radians
    lane_counts: dict[int, int]  # lanes each way of the arm
    medians: dict[int, float]  # width of the arm's median, metres
    setback_m: float = 0.0  # from the centre to the stop lines


def choose_edges(config: TownConfig, rng: np.random.Generator) -> list[tuple[int, int, int]]:
    """(node, node, direction from the first) of every street.

    Some inner minor streets are left out, but every node keeps two: there are no dead ends.
    """
    edges, removable = [], []
    for row in range(config.rows):
        for column in range(config.columns):
            node = row * config.columns + column
            if column + 1 < config.columns:
                edges.append((node, node + 1, 0))
                removable.append(
                    row not in (0, config.rows - 1, *config.wide_rows)
                    and rng.random() <= OMITTED_SHARE
                )
            if row + 1 < config.rows:
                edges.append((node, node + config.columns, 1))
                removable.append(
                    column not in (0, config.columns - 1, *config.wide_columns)
                    and rng.random() <= OMITTED_SHARE
                )
    degree = np.bincount([node for edge in edges for node in edge[:2]])
    kept = []
    for edge, is_removable in zip(edges, removable, strict=True):
        if is_removable and degree[list(edge[:2])].min() > 2:
            degree[list(edge[:2])] -= 1
        else:
            kept.append(edge)
    return kept


def place_nodes(
    config: TownConfig, edges: list[tuple[int, int, int]], rng: np.random.Generator
) -> list[Node]:
    """The junctions of the grid, row by row, with their arms; draws from `rng` in that order."""
    nodes = []
    for number in range(config.columns * config.rows):
        row, column = divmod(number, config.columns)
        center = (
            MARGIN_M
            + config.spacing_m * np.array([column, row])
            + rng.uniform(-1, 1, 2) * config.jitter_m
        )
        nodes.append(Node(center, {}, {}, {}))
    checker = np.array(
        [(-1) ** sum(divmod(number, config.columns)) for number in range(len(nodes))]
    )
    # neighbours are rotated in opposite directions, so streets bend
    rotation = checker * rng.uniform(*config.rotation_rad, len(nodes))
    degree = np.bincount([node for edge in edges for node in edge[:2]], minlength=len(nodes))
    # nodes with two arms become wide bends, which turn enough by themselves
    rotation[degree == 2] *= 0.25
    for first, second, direction in edges:
        line = first // config.columns if direction == 0 else first % config.columns
        lanes = 2 if line in (config.wide_rows if direction == 0 else config.wide_columns) else 1
        median = (
            config.wide_median_m
            if lanes == 2
            else config.minor_median_m * (rng.random() < config.minor_median_share)
        )
        for number, way in ((first, direction), (second, direction + 2)):
            nodes[number].medians[way] = median
            nodes[number].headings[way] = (
                way * np.pi / 2 + rotation[number] + rng.uniform(-0.05, 0.05)
            )
            nodes[number].lane_counts[way] = lanes
    for node, draw in zip(nodes, rng.random(len(nodes)), strict=True):
        if len(node.headings) == 3 and max(node.lane_counts.values()) == 1 and draw < FORK_SHARE:
            _make_fork(node)
    for node in nodes:
        _set_stop_lines(node)
    return nodes


def _set_stop_lines(node: Node) -> None:
    """Set the distance of the stop lines from the centre, and align two opposite arms."""
    node.setback_m = max(
        half_width_m(node.lane_counts[way], node.medians[way]) for way in node.headings
    )
    node.setback_m += CORNER_M + CROSSWALK_M[1]
    # no crossing traffic: a wide bend, or a street that goes straight on
    if len(node.headings) == 2:
        first, second = sorted(node.headings)
        if second - first == 2:
            node.setback_m, node.headings[second] = 6.0, node.headings[first] + np.pi
        else:
            node.setback_m += 22.0


def _make_fork(node: Node) -> None:
    """Turn the two opposite arms towards the side without an arm: seen from the third arm, the road
    splits.
    """
    free = next(way for way in range(4) if way not in node.headings)
    turned = float(curves.wrap(node.headings[(free + 2) % 4] - (free + 2) * np.pi / 2))
    for way in node.headings:
        node.headings[way] -= 0.75 * turned  # a fork bends its streets by itself
    node.headings[(free + 1) % 4] -= FORK_RAD
    node.headings[(free - 1) % 4] += FORK_RAD
