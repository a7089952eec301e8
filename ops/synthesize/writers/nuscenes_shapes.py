"""Elements of nuScenes' tables and maps: tokens, numbers, nodes, lines, polygons, arc paths."""

import hashlib
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import shapely
from shapely.geometry import LineString, Polygon

from ops.synthesize.town import curves

SIMPLIFY_M = 0.02  # vertices that move a border by less are dropped
ARC_STEP = 3  # vertices of a centre line, a metre apart, per arc

Record = dict[str, Any]


@dataclass(slots=True)
class Shapes:
    """The geometric layers, to which records of the other layers point."""

    nodes: list[Record] = field(default_factory=list)
    lines: list[Record] = field(default_factory=list)
    polygons: list[Record] = field(default_factory=list)

    def area(self, name: str, polygon: Polygon) -> str:
        """Add a polygon and return its token."""
        valid = (
            polygon
            if polygon.is_valid
            else max(shapely.get_parts(polygon.buffer(0)), key=shapely.area)
        )
        simple = valid.simplify(SIMPLIFY_M)
        self.polygons.append(
            {
                "token": f"area-{name}",
                "exterior_node_tokens": self._add(
                    f"area-{name}", np.asarray(simple.exterior.coords)[:-1]
                ),
                "holes": [
                    {
                        "node_tokens": self._add(
                            f"area-{name}-hole-{number}", np.asarray(hole.coords)[:-1]
                        )
                    }
                    for number, hole in enumerate(simple.interiors)
                ],
            }
        )
        return f"area-{name}"

    def line(self, name: str, points: np.ndarray) -> tuple[str, list[str]]:
        """Add a line (n, 2 or 3); returns its token and those of its nodes."""
        simple = np.asarray(LineString(points[:, :2]).simplify(SIMPLIFY_M).coords)
        self.lines.append(
            {"token": f"line-{name}", "node_tokens": self._add(f"line-{name}", simple)}
        )
        return f"line-{name}", self.lines[-1]["node_tokens"]

    def _add(self, name: str, points: np.ndarray) -> list[str]:
        tokens = [f"{name}-{number}" for number in range(len(points))]
        self.nodes += [
            {"token": token, "x": round(float(x), 4), "y": round(float(y), 4)}
            for token, (x, y) in zip(tokens, points[:, :2], strict=True)
        ]
        return tokens


def arclines(path: np.ndarray) -> list[Record]:
    """A path (n, 3) as nuScenes' arc segments from vertex to vertex, each tangent at its start."""
    rows = np.unique(np.append(np.arange(0, len(path) - 1, ARC_STEP), len(path) - 1))
    start, end = path[rows[:-1]], path[rows[1:]]
    chord = np.hypot(*(end[:, :2] - start[:, :2]).T)
    half_turn = curves.wrap(
        np.arctan2(end[:, 1] - start[:, 1], end[:, 0] - start[:, 0]) - start[:, 2]
    )
    segments = []
    for (x, y, yaw), (to_x, to_y, _), length, angle in zip(
        start, end, chord, np.asarray(half_turn), strict=True
    ):
        straight = abs(angle) < 1e-5
        radius = 999.999 if straight else length / abs(2 * np.sin(angle))
        arc_m = length if straight else 2 * abs(angle) * radius
        segments.append(
            {
                "start_pose": rounded(x, y, float(curves.wrap(yaw))),
                "end_pose": rounded(to_x, to_y, float(curves.wrap(yaw + 2 * angle))),
                "shape": "LSR" if straight else "LSL" if angle > 0 else "RSR",
                "radius": round(float(radius), 6),
                "segment_length": rounded(0.0, arc_m, 0.0)
                if straight
                else rounded(arc_m, 0.0, 0.0),
            }
        )
    return segments


def rounded(*values: float) -> list[float]:
    """Values rounded to six digits, a micrometre or a microradian, to keep files small."""
    return [round(float(value), 6) for value in values]


def row_tokens(tokens: list[str], index: int) -> Record:
    """The tokens of a row and of the rows before and after it in time."""
    return {
        "token": tokens[index],
        "prev": tokens[index - 1] if index else "",
        "next": tokens[index + 1] if index + 1 < len(tokens) else "",
    }


def quaternion(yaw_rad: float) -> list[float]:
    """w, x, y, z of a heading."""
    return [round(float(np.cos(yaw_rad / 2)), 9), 0.0, 0.0, round(float(np.sin(yaw_rad / 2)), 9)]


def token(text: str) -> str:
    """A token derived from a name."""
    return hashlib.sha256(text.encode()).hexdigest()[:32]
