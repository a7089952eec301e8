"""The ground texture of a town, seen from above: asphalt, markings, kerbs, pavements, grass.

Rows grow with y, columns with x. The texture is a mipmap, with a coarse mask of built ground.
"""

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
from shapely.geometry import Polygon

from ops.synthesize.town import curves
from ops.synthesize.town.build_town import build_town
from ops.synthesize.town.town import (
    CROSSWALK_M,
    LANE_WIDTH_M,
    MEDIAN_OPEN_M,
    MEDIAN_SHOULDER_M,
    Arm,
    Junction,
    Lane,
    Street,
    Town,
    TownConfig,
    Turn,
)

METRES_PER_PIXEL = 0.125
LEVELS = 5  # each with half the resolution of the one before
PAVEMENT_M = 3.0
_SHIFT = 4  # fractional bits of polygon corners


@dataclass(frozen=True, slots=True)
class Palette:
    """Colours of a town, RGB."""

    asphalt: tuple[int, int, int] = (88, 90, 94)
    junction: tuple[int, int, int] = (84, 86, 90)
    bay: tuple[int, int, int] = (112, 106, 102)
    kerb: tuple[int, int, int] = (186, 184, 176)
    pavement: tuple[int, int, int] = (150, 143, 134)
    grass: tuple[int, int, int] = (84, 112, 58)
    paint: tuple[int, int, int] = (228, 228, 222)
    middle: tuple[int, int, int] = (222, 184, 62)


@dataclass(frozen=True, slots=True)
class Ground:
    """The texture as a mipmap; level k has METRES_PER_PIXEL * 2**k metres per pixel."""

    levels: tuple[np.ndarray, ...]  # (H, W, 3) uint8 RGB
    built: np.ndarray  # (h, w) bool at 1 m: street, junction, bay or pavement


@lru_cache(maxsize=2)
def paint_ground(config: TownConfig, palette: Palette) -> Ground:
    """Draw the ground of a town; cached for the process, since all its logs share it."""
    town = build_town(config)
    width, height = (int(np.ceil(side / METRES_PER_PIXEL)) for side in town.size_m)
    canvas = _Canvas(np.empty((height, width, 3), np.uint8))
    canvas.image[:] = palette.grass
    rng = np.random.default_rng([config.seed, 202])
    _texture(canvas.image, rng, 13, 64)
    for colour, margin in (
        (palette.pavement, PAVEMENT_M),
        (palette.kerb, 0.28),
        (palette.asphalt, 0.0),
    ):
        for street in town.streets:
            canvas.fill(_grown(curves.band(*street.edges), margin), colour)
            for ring in street.bay_rings:
                canvas.fill(_grown(ring, margin), palette.bay if margin == 0.0 else colour)
        for junction in town.junctions.values():
            canvas.fill(
                _grown(junction.ring, margin), palette.junction if margin == 0.0 else colour
            )
    _texture(canvas.image, rng, 6, 8)
    for lane in town.lanes.values():
        _wear(canvas, lane, rng, palette)
    for street in town.streets:
        _paint_street(canvas, street, palette)
    for junction in town.junctions.values():
        _paint_junction(canvas, town, junction, palette)
    _texture(canvas.image, rng, 7, 4)
    _texture(canvas.image, rng, 8, 2)
    levels = [canvas.image]
    for _ in range(LEVELS - 1):
        levels.append(cv2.resize(levels[-1], None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA))
    return Ground(tuple(levels), _built_mask(town))


class _Canvas:
    """Draws shapes given in metres."""

    def __init__(self, image: np.ndarray) -> None:
        self.image = image

    def fill(self, ring: np.ndarray, colour: tuple[int, int, int]) -> None:
        """A polygon given by its ring (n, 2)."""
        cv2.fillPoly(self.image, [self._pixels(ring)], colour, cv2.LINE_AA, _SHIFT)

    def line(self, points: np.ndarray, colour: tuple[int, int, int], width_m: float) -> None:
        """A band of constant width along the points (n, 3)."""
        self.fill(
            curves.band(curves.offset(points, width_m / 2), curves.offset(points, -width_m / 2)),
            colour,
        )

    def dashes(
        self, points: np.ndarray, colour: tuple[int, int, int], width_m: float, dash: int, gap: int
    ) -> None:
        """Dashes of `dash` metres with gaps of `gap` along points (n, 3) a metre apart."""
        for start in range(2, len(points) - dash - 2, dash + gap):
            self.line(points[start : start + dash + 1], colour, width_m)

    def _pixels(self, ring: np.ndarray) -> np.ndarray:
        return np.round((ring[:, :2] / METRES_PER_PIXEL - 0.5) * 2**_SHIFT).astype(np.int32)


def _grown(ring: np.ndarray, margin_m: float) -> np.ndarray:
    return ring if margin_m == 0.0 else np.asarray(Polygon(ring).buffer(margin_m).exterior.coords)


def _built_mask(town: Town) -> np.ndarray:
    mask = np.zeros([int(np.ceil(side)) for side in town.size_m[::-1]], np.uint8)
    rings = [_grown(curves.band(*street.edges), PAVEMENT_M) for street in town.streets]
    rings += [_grown(ring, PAVEMENT_M) for street in town.streets for ring in street.bay_rings]
    rings += [_grown(junction.ring, PAVEMENT_M) for junction in town.junctions.values()]
    cv2.fillPoly(mask, [np.round(ring[:, :2]).astype(np.int32) for ring in rings], (1,))
    return mask.astype(bool)


def _texture(image: np.ndarray, rng: np.random.Generator, strength: float, grain: int) -> None:
    """Add grey noise of a grain size in pixels, as one tile repeated; in place."""
    side = 1024
    coarse = rng.normal(0.0, 1.0, (side // grain, side // grain)).astype(np.float32)
    padded = cv2.resize(
        np.pad(coarse, 2, mode="wrap"), None, fx=grain, fy=grain, interpolation=cv2.INTER_CUBIC
    )
    # opposite edges match when the tile is repeated
    tile = padded[2 * grain : -2 * grain, 2 * grain : -2 * grain]
    side = len(tile)
    tile = np.repeat((tile * strength)[:, :, None], 3, axis=2)
    lighter, darker = (np.clip(sign * tile, 0, 255).astype(np.uint8) for sign in (1, -1))
    for top in range(0, image.shape[0], side):
        for left in range(0, image.shape[1], side):
            part = image[top : top + side, left : left + side]
            rows, columns = part.shape[:2]
            part[:] = cv2.subtract(
                cv2.add(part, lighter[:rows, :columns].copy()), darker[:rows, :columns].copy()
            )


def _paint_street(canvas: _Canvas, street: Street, palette: Palette) -> None:
    for edge, inward in zip(street.edges, (-0.25, 0.25), strict=True):
        canvas.line(curves.offset(edge, inward), palette.paint, 0.14)
    if street.median_m > 0:
        strip = street.middle[int(MEDIAN_OPEN_M) : -int(MEDIAN_OPEN_M)]
        canvas.line(strip, palette.kerb, street.median_m)
        canvas.line(
            strip[1:-1],
            palette.grass if street.lanes_each_way == 2 else palette.pavement,
            street.median_m - 0.5,
        )
        for side in (1, -1):
            canvas.line(
                curves.offset(street.middle, side * (street.median_m / 2 + 0.24)),
                palette.middle,
                0.14,
            )
    if street.lanes_each_way == 2:
        for side in (1, -1):
            between = side * (street.median_m / 2 + MEDIAN_SHOULDER_M + LANE_WIDTH_M)
            canvas.dashes(curves.offset(street.middle, between), palette.paint, 0.17, 3, 5)
    elif street.median_m == 0:
        canvas.dashes(street.middle, palette.middle, 0.18, 3, 3)
        for end in (street.middle[:16], street.middle[-16:]):
            canvas.line(end, palette.middle, 0.18)
    for bay in street.bays:
        for at in range(0, len(bay), 7):
            across = np.stack([bay[at], curves.offset(bay[[at]], 2.3)[0]])
            across[:, 2] = bay[at, 2] + np.pi / 2
            canvas.line(across, palette.paint, 0.12)


def _wear(canvas: _Canvas, lane: Lane, rng: np.random.Generator, palette: Palette) -> None:
    """Tyre tracks, patches of asphalt, cracks and manholes, which make the ego's speed visible."""
    base = np.array(palette.asphalt, float)
    for side in (0.85, -0.85):
        canvas.line(curves.offset(lane.path, side), tuple(base * 0.92), 0.55)
    if lane.is_connector:
        return
    for at in range(3, len(lane.path) - 5, 6):
        kind, shade, side = (
            rng.choice(4),
            float(rng.choice((0.70, 0.80, 1.18, 1.28))),
            rng.uniform(-1.0, 1.0),
        )
        stretch = curves.offset(lane.path[at : at + 2], side)
        if kind == 0:
            patch = curves.offset(lane.path[at : at + int(rng.integers(2, 6))], side)
            canvas.line(patch, tuple(np.clip(base * shade, 0, 255)), float(rng.uniform(0.7, 1.9)))
        elif kind == 1:
            angles = np.linspace(0, 2 * np.pi, 12, endpoint=False)
            canvas.fill(
                stretch[0, :2] + 0.38 * np.stack([np.cos(angles), np.sin(angles)], axis=1),
                tuple(base * 0.55),
            )
        elif kind == 2:
            across = np.stack(
                [curves.offset(stretch[:1], reach)[0] for reach in (-1.2, -0.3, 0.4, 1.3)]
            )
            across[:, :2] += rng.normal(0, 0.25, (4, 2))
            across[:, 2] = stretch[0, 2] + np.pi / 2
            canvas.line(across, tuple(base * 0.6), 0.13)


def _paint_junction(canvas: _Canvas, town: Town, junction: Junction, palette: Palette) -> None:
    """Crosswalks, stop and yield lines, and the markings of the lanes that meet here."""
    has_crossing_axes = len({arm.axis for arm in junction.arms}) == 2
    for arm in junction.arms:
        _paint_crosswalk(canvas, arm, palette)
        if len(junction.arms) == 2:
            continue
        median_m = town.streets[arm.street].median_m
        if junction.signalled:
            _paint_stop_line(canvas, arm, median_m, palette)
        elif arm.axis == 1 and has_crossing_axes:
            _paint_yield_line(canvas, arm, median_m, palette)
    for lane in town.lanes.values():
        if lane.is_connector and lane.junction_id == junction.junction_id:
            if len(junction.arms) == 2:  # a bend: its lines continue
                canvas.line(lane.left, palette.middle, 0.16)
                canvas.line(curves.offset(lane.right, -0.1), palette.paint, 0.14)
            elif lane.turn == Turn.LEFT:
                canvas.dashes(lane.right[4:-4], palette.paint, 0.13, 1, 2)
        elif not lane.is_connector and lane.junction_id == junction.junction_id:
            _paint_arrows(canvas, town, lane, palette)


def _axes(arm: Arm) -> tuple[np.ndarray, np.ndarray]:
    """Unit vectors (2,) away from the junction and to the left of it."""
    outward = curves.heading_vector(arm.mouth[2])
    return outward, np.array([-outward[1], outward[0]])


def _paint_crosswalk(canvas: _Canvas, arm: Arm, palette: Palette) -> None:
    if arm.crosswalk is None:
        return
    outward, left = _axes(arm)
    depth = arm.crosswalk[3] - arm.crosswalk[0]
    for across in np.arange(-arm.half_width_m + 0.45, arm.half_width_m - 0.4, 1.05):
        base = arm.mouth[:2] - outward * CROSSWALK_M[0] + left * across
        canvas.fill(
            np.stack([base, base + left * 0.55, base + left * 0.55 + depth, base + depth]),
            palette.paint,
        )


def _paint_stop_line(canvas: _Canvas, arm: Arm, median_m: float, palette: Palette) -> None:
    outward, left = _axes(arm)
    near = arm.mouth[:2] + outward * 0.35
    inner, outer = left * (0.25 + median_m / 2), left * (arm.half_width_m - 0.4)
    canvas.fill(
        np.stack(
            [near + inner, near + outer, near + outer + outward * 0.5, near + inner + outward * 0.5]
        ),
        palette.paint,
    )


def _paint_yield_line(canvas: _Canvas, arm: Arm, median_m: float, palette: Palette) -> None:
    """A row of triangles."""
    outward, left = _axes(arm)
    near = arm.mouth[:2] + outward * 0.35
    for across in np.arange(0.4 + median_m / 2, arm.half_width_m - 0.7, 0.8):
        corner = near + left * across
        canvas.fill(
            np.stack([corner, corner + left * 0.6, corner + left * 0.3 + outward * 0.9]),
            palette.paint,
        )


def _paint_arrows(canvas: _Canvas, town: Town, lane: Lane, palette: Palette) -> None:
    """Arrows for the turns that a lane of a wide street allows."""
    group = town.roadblocks[lane.roadblock_id].lane_ids
    if len(group) < 2 or len(lane.path) < 24:
        return
    pose = lane.path[-12]
    forward = curves.heading_vector(pose[2])
    left = np.array([-forward[1], forward[0]])

    def at(ahead: float, side: float) -> np.ndarray:
        return pose[:2] + ahead * forward + side * left

    for turn in {town.lanes[item].turn for item in lane.successors}:
        if turn == Turn.STRAIGHT:
            canvas.fill(
                np.stack([at(0, 0.1), at(0, -0.1), at(3.2, -0.1), at(3.2, 0.1)]), palette.paint
            )
            canvas.fill(np.stack([at(3.0, 0.42), at(3.0, -0.42), at(4.6, 0.0)]), palette.paint)
        else:
            side = float(turn)
            canvas.fill(
                np.stack([at(0, 0.1), at(0, -0.1), at(2.0, -0.1), at(2.0, 0.1)]), palette.paint
            )
            canvas.fill(
                np.stack([at(1.8, 0.0), at(2.1, 0.0), at(2.4, side * 0.8), at(2.1, side * 0.8)]),
                palette.paint,
            )
            canvas.fill(
                np.stack([at(1.6, side * 0.7), at(2.9, side * 0.7), at(2.2, side * 1.35)]),
                palette.paint,
            )
