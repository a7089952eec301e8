"""Parts of nuScenes' tables and maps: tokens, numbers, nodes, lines, polygons, chains of arcs. Not
what they stand for.
"""

import hashlib
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import shapely
from shapely.geometry import LineString, Polygon

from ops.synthesize.town import curves

SIMPLIFY_M = 0.02  # vertices that move no border by more are left out
ARC_STEP = 3  # vertices of a centre line, a metre apart, that one arc covers

Record = dict[str, Any]


@dataclass(slots=True)
class Shapes:
    """The geometric layers; records of the other layers point to them."""

    nodes: list[Record] = field(default_factory=list)
    lines: list[Record] = field(default_factory=list)
    polygons: list[Record] = field(default_factory=list)

    def area(self, name: str, polygon: Polygon) -> str:
        """Add a polygon; its token."""
        whole = (
            polygon
            if polygon.is_valid
            else max(shapely.get_parts(polygon.buffer(0)), key=shapely.area)
        )
        plain = whole.simplify(SIMPLIFY_M)
        self.polygons.append(
            {
                "token": f"area-{name}",
                "exterior_node_tokens": self._add(
                    f"area-{name}", np.asarray(plain.exterior.coords)[:-1]
                ),
                "holes": [
                    {
                        "node_tokens": self._add(
                            f"area-{name}-hole-{number}", np.asarray(hole.coords)[:-1]
                        )
                    }
                    for number, hole in enumerate(plain.interiors)
                ],
            }
        )
        return f"area-{name}"

    def line(self, name: str, points: np.ndarray) -> tuple[str, list[str]]:
        """Add a line; its token and those of its nodes."""
        plain = np.asarray(LineString(points[:, :2]).simplify(SIMPLIFY_M).coords)
        self.lines.append(
            {"token": f"line-{name}", "node_tokens": self._add(f"line-{name}", plain)}
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
    """A path (n, 3) as nuScenes' arc segments: from vertex to vertex, tangent at the beginning of
    each.
    """
    rows = np.unique(np.append(np.arange(0, len(path) - 1, ARC_STEP), len(path) - 1))
    start, end = path[rows[:-1]], path[rows[1:]]
    chord = np.hypot(*(end[:, :2] - start[:, :2]).T)
    aside = curves.wrap(np.arctan2(end[:, 1] - start[:, 1], end[:, 0] - start[:, 0]) - start[:, 2])
    out = []
    for (x, y, yaw), (to_x, to_y, _), length, angle in zip(
        start, end, chord, np.asarray(aside), strict=True
    ):
        straight = abs(angle) < 1e-5
        radius = 999.999 if straight else length / abs(2 * np.sin(angle))
        along = length if straight else 2 * abs(angle) * radius
        out.append(
            {
                "start_pose": rounded(x, y, float(curves.wrap(yaw))),
                "end_pose": rounded(to_x, to_y, float(curves.wrap(yaw + 2 * angle))),
                "shape": "LSR" if straight else "LSL" if angle > 0 else "RSR",
                "radius": round(float(radius), 6),
                "segment_length": rounded(0.0, along, 0.0)
                if straight
                else rounded(along, 0.0, 0.0),
            }
        )
    return out


def rounded(*values: float) -> list[float]:
    """To a micrometre or a microradian, so that files do not grow by digits that mean nothing."""
    return [round(float(value), 6) for value in values]


def linked(tokens: list[str], index: int) -> Record:
    """A row's own token and those of the rows before and after it in time."""
    return {
        "token": tokens[index],
        "prev": tokens[index - 1] if index else "",
        "next": tokens[index + 1] if index + 1 < len(tokens) else "",
    }


def quaternion(yaw_rad: float) -> list[float]:
    """w, x, y, z of a heading."""
    return [round(float(np.cos(yaw_rad / 2)), 9), 0.0, 0.0, round(float(np.sin(yaw_rad / 2)), 9)]


def token(text: str) -> str:
    """A token that follows from what it names."""
    return hashlib.sha256(text.encode()).hexdigest()[:32]
