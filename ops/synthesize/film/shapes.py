"""Low-polygon models: vehicles, pedestrians, cyclists, houses, trees, posts, signals, signs, cones.

A model is a list of quadrilaterals in units of the instance's length, width and height (x forward,
y left, z up), each with a role that the instance gives a colour; later quads are drawn over earlier
ones. Legend: Q quads.
"""

from dataclasses import dataclass
from enum import IntEnum
from itertools import pairwise

import numpy as np


class Role(IntEnum):
    """The part that a quad belongs to; an instance has one colour per role."""

    BODY = 0
    GLASS = 1
    TRIM = 2
    BRAKE = 3  # brake lamps
    LEFT = 4  # indicators
    RIGHT = 5
    HEAD = 6  # headlights
    EXTRA = 7  # skin, roof, tree trunk, ...
    RED = 8  # signal lamps
    AMBER = 9
    GREEN = 10


ROLES = len(Role)
LUMINOUS = (Role.BRAKE, Role.LEFT, Role.RIGHT, Role.HEAD, Role.RED, Role.AMBER, Role.GREEN)


@dataclass(frozen=True, slots=True)
class Model:
    """A polygon model."""

    quads: np.ndarray  # (Q, 4, 3), outside seen counter-clockwise
    role: np.ndarray  # (Q,) Role
    stride: np.ndarray  # (Q, 4) x displacement of a walking limb at full stride, in lengths
    detail_m: np.ndarray  # (Q,) drawn only when nearer than this


def vehicle(cabin: tuple[float, float, float, float], waist: float) -> Model:
    """A car or van.

    `cabin`: its rear bottom, rear top, front top and front bottom in lengths; `waist`: its lower
    edge in heights.
    """
    parts = _ModelBuilder()
    parts.box((-0.5, 0.5), (-0.5, 0.5), (0.16, waist), Role.BODY, top=True)
    back, back_top, front_top, front = cabin
    parts.hexahedron(
        [(back, -0.47, waist), (front, -0.47, waist), (front, 0.47, waist), (back, 0.47, waist)],
        [
            (back_top, -0.38, 1.0),
            (front_top, -0.38, 1.0),
            (front_top, 0.38, 1.0),
            (back_top, 0.38, 1.0),
        ],
        Role.GLASS,
        Role.BODY,
    )
    for x in (-0.31, 0.31):
        parts.side_patches((x - 0.075, x + 0.075), (0.0, 0.40), Role.TRIM, 70.0)
    parts.side_patches((-0.5, 0.5), (0.12, 0.19), Role.TRIM, 60.0)
    parts.rear((-0.5, 0.5), (0.10, 0.24), Role.TRIM, 80.0)
    for side, turn in ((1, Role.LEFT), (-1, Role.RIGHT)):
        low, high = sorted((side * 0.28, side * 0.49))
        parts.rear((low, high), (waist - 0.20, waist - 0.04), Role.BRAKE, 200.0)
        low, high = sorted((side * 0.43, side * 0.5))
        parts.rear((low, high), (waist - 0.30, waist - 0.18), turn, 60.0)
        parts.front((low, high), (waist - 0.24, waist - 0.12), turn, 60.0)
        low, high = sorted((side * 0.26, side * 0.46))
        parts.front((low, high), (waist - 0.17, waist - 0.05), Role.HEAD, 200.0)
    parts.front((-0.24, 0.24), (waist - 0.22, waist - 0.08), Role.TRIM, 60.0)
    parts.front((-0.5, 0.5), (0.10, 0.22), Role.TRIM, 60.0)
    parts.rear((-0.14, 0.14), (waist - 0.30, waist - 0.20), Role.EXTRA, 30.0)
    parts.quad(
        [
            (back - 0.002, -0.14, waist + 0.04),
            (back - 0.002, 0.14, waist + 0.04),
            (back - 0.002, 0.14, waist + 0.11),
            (back - 0.002, -0.14, waist + 0.11),
        ][::-1],
        Role.BRAKE,
        80.0,
    )
    return parts.model()


def lorry() -> Model:
    """A truck: a cab and a box on wheels."""
    parts = _ModelBuilder()
    parts.box((0.24, 0.5), (-0.48, 0.48), (0.12, 0.78), Role.EXTRA, top=True)
    parts.front((-0.44, 0.44), (0.46, 0.72), Role.GLASS, 100.0)
    parts.box((-0.5, 0.22), (-0.5, 0.5), (0.22, 1.0), Role.BODY, top=True)
    for x in (-0.36, -0.22, 0.36):
        parts.side_patches((x - 0.055, x + 0.055), (0.0, 0.28), Role.TRIM, 90.0)
    parts.rear((-0.5, 0.5), (0.12, 0.24), Role.TRIM, 150.0)
    for side, turn in ((1, Role.LEFT), (-1, Role.RIGHT)):
        low, high = sorted((side * 0.30, side * 0.48))
        parts.rear((low, high), (0.14, 0.22), Role.BRAKE, 200.0)
        parts.front((low, high), (0.18, 0.26), Role.HEAD, 200.0)
        low, high = sorted((side * 0.20, side * 0.29))
        parts.rear((low, high), (0.14, 0.22), turn, 60.0)
    return parts.model()


def person() -> Model:
    """A pedestrian with two legs, a torso and a head; legs swing with the stride."""
    parts = _ModelBuilder()
    for side in (1, -1):
        parts.box(
            (-0.22, 0.22),
            (min(0.06 * side, 0.40 * side), max(0.06 * side, 0.40 * side)),
            (0.0, 0.48),
            Role.TRIM,
            swing=side * 0.5,
        )
    parts.box((-0.3, 0.3), (-0.5, 0.5), (0.46, 0.84), Role.BODY, top=True)
    parts.box((-0.22, 0.22), (-0.24, 0.24), (0.85, 1.0), Role.EXTRA, top=True)
    return parts.model()


def cyclist() -> Model:
    """A rider on a bicycle."""
    parts = _ModelBuilder()
    for x in (-0.33, 0.33):
        parts.box((x - 0.17, x + 0.17), (-0.08, 0.08), (0.0, 0.36), Role.GLASS)
    parts.box((-0.3, 0.3), (-0.06, 0.06), (0.30, 0.36), Role.RIGHT)
    parts.box((-0.12, 0.06), (-0.34, 0.34), (0.22, 0.56), Role.TRIM)
    parts.box((-0.16, 0.14), (-0.48, 0.48), (0.54, 0.86), Role.BODY, top=True)
    parts.box((-0.06, 0.12), (-0.22, 0.22), (0.86, 1.0), Role.EXTRA, top=True)
    parts.rear((-0.16, 0.16), (0.40, 0.48), Role.BRAKE, 120.0)
    return parts.model()


def house() -> Model:
    """A house with a gabled roof and rows of windows; left and right sides are alike."""
    parts = _ModelBuilder()
    parts.box((-0.5, 0.5), (-0.5, 0.5), (0.0, 0.74), Role.BODY)
    ridge = [(-0.5, 0.0, 1.0), (0.5, 0.0, 1.0)]
    parts.quad([(-0.54, 0.54, 0.72), (0.54, 0.54, 0.72), ridge[1], ridge[0]][::-1], Role.EXTRA)
    parts.quad([(-0.54, -0.54, 0.72), (0.54, -0.54, 0.72), ridge[1], ridge[0]], Role.EXTRA)
    parts.quad([(0.5, -0.5, 0.74), (0.5, 0.5, 0.74), ridge[1], ridge[1]], Role.BODY)
    parts.quad([(-0.5, 0.5, 0.74), (-0.5, -0.5, 0.74), ridge[0], ridge[0]], Role.BODY)
    for low, high in ((0.12, 0.30), (0.45, 0.62)):
        for middle in (-0.3, 0.0, 0.3):
            parts.side_patches((middle - 0.07, middle + 0.07), (low, high), Role.GLASS, 48.0)
            parts.front((middle - 0.07, middle + 0.07), (low, high), Role.GLASS, 48.0)
            parts.rear((middle - 0.07, middle + 0.07), (low, high), Role.GLASS, 48.0)
    parts.side_patches((0.12, 0.20), (0.0, 0.30), Role.TRIM, 48.0)
    return parts.model()


def block() -> Model:
    """A flat-roofed block of flats with window bands."""
    parts = _ModelBuilder()
    parts.box((-0.5, 0.5), (-0.5, 0.5), (0.0, 1.0), Role.BODY)
    for low in (0.06, 0.30, 0.54, 0.78):
        for begin, end in ((-0.44, -0.08), (0.08, 0.44)):
            parts.side_patches((begin, end), (low, low + 0.13), Role.GLASS, 75.0)
            parts.front((begin, end), (low, low + 0.13), Role.GLASS, 75.0)
            parts.rear((begin, end), (low, low + 0.13), Role.GLASS, 75.0)
    return parts.model()


def tree() -> Model:
    """A trunk and a crown of two rings."""
    parts = _ModelBuilder()
    parts.box((-0.06, 0.06), (-0.06, 0.06), (0.0, 0.42), Role.EXTRA)
    angles = np.arange(7) * np.pi / 3
    rings = [(0.30, 0.28), (0.50, 0.52), (0.40, 0.80), (0.12, 1.0)]
    for (low_r, low_z), (high_r, high_z) in pairwise(rings):
        for first, second in pairwise(angles):
            parts.quad(
                [
                    (low_r * np.cos(first), low_r * np.sin(first), low_z),
                    (low_r * np.cos(second), low_r * np.sin(second), low_z),
                    (high_r * np.cos(second), high_r * np.sin(second), high_z),
                    (high_r * np.cos(first), high_r * np.sin(first), high_z),
                ],
                Role.BODY,
            )
    return parts.model()


def post() -> Model:
    """A delineator, a pole or a beam: a box with a band near its top."""
    parts = _ModelBuilder()
    parts.box((-0.5, 0.5), (-0.5, 0.5), (0.0, 1.0), Role.BODY, top=True)
    parts.box((-0.52, 0.52), (-0.52, 0.52), (0.70, 0.86), Role.TRIM, detail=40.0)
    return parts.model()


def cone() -> Model:
    """A traffic cone with a light band."""
    parts = _ModelBuilder()
    for low, high, role in (
        (0.0, 0.45, Role.BODY),
        (0.45, 0.65, Role.TRIM),
        (0.65, 1.0, Role.BODY),
    ):
        wide, narrow = 0.5 - 0.42 * low, 0.5 - 0.42 * high
        parts.hexahedron(
            [(-wide, -wide, low), (wide, -wide, low), (wide, wide, low), (-wide, wide, low)],
            [
                (-narrow, -narrow, high),
                (narrow, -narrow, high),
                (narrow, narrow, high),
                (-narrow, narrow, high),
            ],
            role,
            None,
        )
    return parts.model()


def signal_head() -> Model:
    """The head of a traffic light; its lamps face -x, towards arriving vehicles."""
    parts = _ModelBuilder()
    parts.box((-0.5, 0.5), (-0.5, 0.5), (0.0, 1.0), Role.TRIM, top=True)
    for low, role in ((0.68, Role.RED), (0.36, Role.AMBER), (0.04, Role.GREEN)):
        parts.rear((-0.26, 0.26), (low, low + 0.28), role, 300.0)
        parts.rear((-0.42, 0.42), (low + 0.06, low + 0.22), role, 300.0)
    return parts.model()


def board() -> Model:
    """A flat sign that faces -x."""
    parts = _ModelBuilder()
    parts.box((-0.5, 0.5), (-0.5, 0.5), (0.0, 1.0), Role.TRIM)
    parts.rear((-0.5, 0.5), (0.0, 1.0), Role.BODY, 300.0)
    parts.rear((-0.36, 0.36), (0.14, 0.86), Role.EXTRA, 300.0)
    return parts.model()


class _ModelBuilder:
    """Collects the quads of a model."""

    def __init__(self) -> None:
        self.rows: list[tuple[list, Role, list, float]] = []

    def quad(
        self, corners: list, role: Role, detail: float = 1e9, stride: list | None = None
    ) -> None:
        self.rows.append((corners, role, stride or [0.0] * 4, detail))

    def hexahedron(
        self,
        low: list,
        high: list,
        sides: Role,
        top: Role | None,
        swing: float = 0.0,
        detail: float = 1e9,
    ) -> None:
        """Bottom and top rings given counter-clockwise from above; four sides, then the top."""
        for i in range(4):
            j = (i + 1) % 4
            self.quad([low[i], low[j], high[j], high[i]], sides, detail, [swing, swing, 0.0, 0.0])
        if top is not None:
            self.quad(high, top, detail)

    def box(
        self,
        x: tuple,
        y: tuple,
        z: tuple,
        role: Role,
        top: bool = False,
        swing: float = 0.0,
        detail: float = 1e9,
    ) -> None:
        low, high = (
            [(x[0], y[0], level), (x[1], y[0], level), (x[1], y[1], level), (x[0], y[1], level)]
            for level in z
        )
        self.hexahedron(low, high, role, role if top else None, swing, detail)

    def rear(self, y: tuple, z: tuple, role: Role, detail: float) -> None:
        self.quad(
            [
                (-0.503, y[1], z[0]),
                (-0.503, y[0], z[0]),
                (-0.503, y[0], z[1]),
                (-0.503, y[1], z[1]),
            ],
            role,
            detail,
        )

    def front(self, y: tuple, z: tuple, role: Role, detail: float) -> None:
        self.quad(
            [(0.503, y[0], z[0]), (0.503, y[1], z[0]), (0.503, y[1], z[1]), (0.503, y[0], z[1])],
            role,
            detail,
        )

    def side_patches(self, x: tuple, z: tuple, role: Role, detail: float) -> None:
        self.quad(
            [
                (x[0], -0.503, z[0]),
                (x[1], -0.503, z[0]),
                (x[1], -0.503, z[1]),
                (x[0], -0.503, z[1]),
            ],
            role,
            detail,
        )
        self.quad(
            [(x[1], 0.503, z[0]), (x[0], 0.503, z[0]), (x[0], 0.503, z[1]), (x[1], 0.503, z[1])],
            role,
            detail,
        )

    def model(self) -> Model:
        corners, roles, stride, detail = zip(*self.rows, strict=True)
        return Model(
            np.array(corners, np.float32),
            np.array(roles),
            np.array(stride, np.float32),
            np.array(detail, np.float32),
        )


MODELS = {
    "sedan": vehicle((-0.42, -0.27, 0.08, 0.25), 0.62),
    "hatchback": vehicle((-0.49, -0.40, 0.10, 0.28), 0.60),
    "van": vehicle((-0.49, -0.48, 0.30, 0.44), 0.56),
    "truck": lorry(),
    "person": person(),
    "cyclist": cyclist(),
    "house": house(),
    "block": block(),
    "tree": tree(),
    "post": post(),
    "signal": signal_head(),
    "board": board(),
    "cone": cone(),
}
VEHICLE_KINDS = ("sedan", "hatchback", "van", "truck")
