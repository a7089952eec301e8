"""Places the static props of a town: houses, trees, posts, lamps, parked cars, signals and signs.

None stands on a street, a junction or the edge of a pavement. Their models are in shapes.py.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from ops.synthesize.film.ground import PAVEMENT_M, Palette, paint_ground
from ops.synthesize.film.shapes import ROLES, VEHICLE_KINDS, Role
from ops.synthesize.town import curves
from ops.synthesize.town.build_town import build_town
from ops.synthesize.town.town import Arm, Junction, Street, TownConfig

CAR_COLOURS = np.array(
    [
        (205, 205, 205),
        (235, 235, 235),
        (38, 38, 42),
        (96, 100, 106),
        (150, 28, 30),
        (34, 62, 120),
        (52, 92, 60),
        (180, 120, 40),
        (128, 132, 136),
        (20, 84, 130),
    ],
    float,
)
PARKED_SIZES_M = {
    "sedan": (4.6, 1.84, 1.46),
    "hatchback": (4.1, 1.78, 1.53),
    "van": (5.0, 1.95, 2.1),
}
WALLS = np.array(
    [
        (196, 180, 158),
        (172, 96, 74),
        (214, 208, 196),
        (150, 150, 156),
        (206, 186, 132),
        (140, 118, 100),
        (178, 196, 204),
    ],
    float,
)
ROOFS = np.array([(128, 62, 48), (82, 84, 92), (104, 88, 74), (146, 84, 58)], float)
LEAVES = np.array([(58, 92, 42), (76, 104, 44), (48, 84, 52), (98, 112, 48)], float)


@dataclass(frozen=True, slots=True)
class Instances:
    """N instances of the models in shapes.py."""

    model: np.ndarray  # (N,) object, names of shapes.MODELS
    position: np.ndarray  # (N, 3) metres, middle of the bottom
    yaw_rad: np.ndarray  # (N,)
    size_m: np.ndarray  # (N, 3) length, width, height
    colour: np.ndarray  # (N, ROLES, 3)
    light: np.ndarray  # (N, 2) int: junction and axis of a signal, zeros for the rest

    def take(self, rows: np.ndarray) -> "Instances":
        """The instances of the given rows (indexes or a mask)."""
        return Instances(*(getattr(self, name)[rows] for name in Instances.__slots__))


def concatenate_instances(parts: list[Instances]) -> Instances:
    """Concatenate sets of instances."""
    return Instances(
        *(np.concatenate([getattr(part, name) for part in parts]) for name in Instances.__slots__)
    )


def colours(**roles: np.ndarray | tuple) -> np.ndarray:
    """Colours by role, (ROLES, 3), with defaults for glass, trim and lamps."""
    out = np.full((ROLES, 3), 128.0)
    defaults = {
        "GLASS": (44, 54, 66),
        "TRIM": (26, 26, 28),
        "BRAKE": (112, 14, 14),
        "LEFT": (150, 92, 30),
        "RIGHT": (150, 92, 30),
        "HEAD": (232, 230, 214),
        "EXTRA": (200, 200, 196),
        "RED": (62, 12, 12),
        "AMBER": (58, 44, 8),
        "GREEN": (8, 48, 22),
    }
    for name, value in (defaults | roles).items():
        out[Role[name]] = value
    return out


@lru_cache(maxsize=2)
def place_props(config: TownConfig, palette: Palette) -> Instances:
    """All static props of a town; cached for the process."""
    town = build_town(config)
    placer = _Placer(
        paint_ground(config, palette).built.copy(), np.random.default_rng([config.seed, 303])
    )
    for junction in town.junctions.values():
        placer.signals(junction)
    for street in town.streets:
        placer.roadside(street)
    for street in town.streets:
        placer.buildings(street)
    return placer.instances()


def parked_cars(config: TownConfig, palette: Palette) -> tuple[np.ndarray, np.ndarray]:
    """Poses (S, 3) of the centres and sizes (S, 3) of all parked cars."""
    instances = place_props(config, palette)
    cars = instances.take(np.isin(instances.model, VEHICLE_KINDS))
    return np.column_stack([cars.position[:, :2], cars.yaw_rad]), cars.size_m


class _Placer:
    """Collects instances; `built` (h, w) marks the square metres that are occupied."""

    def __init__(self, built: np.ndarray, rng: np.random.Generator) -> None:
        self.built, self.rng = built, rng
        self.rows: list[tuple] = []

    def add(
        self,
        model: str,
        xy: np.ndarray,
        yaw: float,
        size: tuple,
        colour: np.ndarray,
        z: float = 0.0,
        light: tuple[int, int] = (0, 0),
    ) -> None:
        self.rows.append((model, np.append(xy, z), yaw, np.array(size, float), colour, light))

    def signals(self, junction: Junction) -> None:
        """Signals for each arm, one near and one above the road behind the junction, or a yield
        sign.
        """
        if len(junction.arms) == 2:
            return
        pole = colours(BODY=(92, 96, 98), TRIM=(70, 72, 74))
        for arm in junction.arms:
            inward = arm.mouth[2] + np.pi
            depth = float(np.hypot(*(junction.center - arm.mouth[:2])))
            if not junction.signalled:
                if arm.axis == 1:
                    foot = _point_ahead(arm, -0.5, -(arm.half_width_m + 0.9))
                    self.add("post", foot, inward, (0.09, 0.09, 2.1), pole)
                    self.add(
                        "board",
                        foot,
                        inward,
                        (0.06, 0.85, 0.85),
                        colours(BODY=(196, 24, 28), EXTRA=(240, 240, 236)),
                        2.0,
                    )
                continue
            near = _point_ahead(arm, 5.5, -(arm.half_width_m + 1.2))
            far = _point_ahead(arm, 2 * depth - 2.5, -(arm.half_width_m + 0.9))
            over = _point_ahead(arm, 2 * depth - 2.5, -0.5 * arm.half_width_m)
            head = (0.35, 0.62, 1.75)
            self.add("post", near, inward, (0.14, 0.14, 2.6), pole)
            self.add(
                "signal",
                near,
                inward,
                head,
                colours(TRIM=(24, 26, 24)),
                2.5,
                (junction.junction_id, arm.axis),
            )
            self.add("post", far, inward, (0.2, 0.2, 6.6), pole)
            middle = 0.5 * (far + over)
            self.add(
                "post", middle, inward, (0.14, float(np.hypot(*(far - over))), 0.16), pole, 6.3
            )
            self.add(
                "signal",
                over,
                inward,
                (0.35, 0.78, 2.1),
                colours(TRIM=(24, 26, 24)),
                4.6,
                (junction.junction_id, arm.axis),
            )

    def roadside(self, street: Street) -> None:
        """Posts, lamps and trees along both kerbs, trees on the median, and cars in the bays."""
        for side in (1, -1):
            self._posts(street, side)
            self._lamps(street, side)
            self._trees(street, side)
        if street.lanes_each_way == 2:
            for at in range(6, len(street.middle) - 8, 13):
                if self.rng.random() < 0.7:
                    self._tree(street.middle[at, :2], small=True)
        for bay in street.bays:
            self._parked_cars(bay)

    def _posts(self, street: Street, side: int) -> None:
        colour = colours(BODY=(228, 228, 224), TRIM=(180, 40, 36))
        left_m = side * (street.half_width_m + PAVEMENT_M + 0.3)
        for at in range(8, len(street.middle) - 6, 9):
            pose = curves.offset(street.middle[[at]], left_m)[0]
            if self._is_free(pose[:2], 0.4):
                self.add("post", pose[:2], pose[2], (0.14, 0.14, 1.0), colour)

    def _lamps(self, street: Street, side: int) -> None:
        pole = colours(BODY=(88, 92, 96), TRIM=(88, 92, 96))
        head = colours(BODY=(214, 212, 196), TRIM=(214, 212, 196))
        first = int(self.rng.integers(4, 14))
        if street.bays:
            return
        for at in range(first, len(street.middle) - 4, 26):
            foot = curves.offset(street.middle[[at]], side * (street.half_width_m + 0.8))[0]
            over = curves.offset(street.middle[[at]], side * (street.half_width_m - 0.4))[0]
            self.add("post", foot[:2], foot[2], (0.16, 0.16, 7.0), pole)
            self.add("post", over[:2], foot[2], (0.3, 2.4, 0.14), head, 7.0)

    def _trees(self, street: Street, side: int) -> None:
        rng, verge = self.rng, street.half_width_m + PAVEMENT_M
        for at in range(int(rng.integers(3, 9)), len(street.middle) - 3, int(rng.integers(8, 15))):
            pose = curves.offset(street.middle[[at]], side * (verge + rng.uniform(1.2, 3.0)))[0]
            if rng.random() < 0.75 and self._is_free(pose[:2], 1.0):
                self._tree(pose[:2])

    def _parked_cars(self, bay: np.ndarray) -> None:
        rng = self.rng
        for at in range(3, len(bay) - 4, 7):
            if rng.random() < 0.62:
                pose = curves.offset(bay[[at]], 1.15 + rng.uniform(-0.08, 0.08))[0]
                kind = str(rng.choice(("sedan", "hatchback", "van"), p=(0.45, 0.4, 0.15)))
                yaw = pose[2] + rng.normal(0, 0.02)
                colour = colours(BODY=CAR_COLOURS[rng.integers(10)])
                self.add(kind, pose[:2], yaw, PARKED_SIZES_M[kind], colour)

    def buildings(self, street: Street) -> None:
        """Houses and blocks of flats on both sides of a street, trees in the gaps."""
        rng = self.rng
        for side in (1, -1):
            at = int(rng.integers(0, 8))
            while at < len(street.middle) - 3:
                width, depth = rng.uniform(8.0, 11.0), rng.uniform(8.0, 11.0)
                back = street.half_width_m + PAVEMENT_M + rng.uniform(3.5, 7.5) + depth / 2
                here = curves.offset(
                    street.middle[[min(int(at + width / 2), len(street.middle) - 1)]], side * back
                )[0]
                if rng.random() < 0.72 and self._is_free(here[:2], 0.62 * max(width, depth)):
                    wall, roof = WALLS[rng.integers(len(WALLS))], ROOFS[rng.integers(len(ROOFS))]
                    if rng.random() < (0.45 if street.lanes_each_way == 2 else 0.15):
                        self.add(
                            "block",
                            here[:2],
                            here[2],
                            (width, depth, rng.uniform(10.0, 17.0)),
                            colours(BODY=wall),
                        )
                    else:
                        self.add(
                            "house",
                            here[:2],
                            here[2],
                            (width, depth, rng.uniform(6.5, 9.0)),
                            colours(BODY=wall, EXTRA=roof, TRIM=(86, 58, 40)),
                        )
                    self._occupy(here[:2], 0.55 * max(width, depth))
                elif rng.random() < 0.5 and self._is_free(here[:2], 1.5):
                    self._tree(here[:2])
                at += int(width + rng.uniform(1.5, 7.0))

    def _tree(self, xy: np.ndarray, small: bool = False) -> None:
        rng = self.rng
        crown = rng.uniform(1.3, 1.8) if small else rng.uniform(2.6, 4.6)
        self.add(
            "tree",
            xy,
            rng.uniform(0, np.pi),
            (crown, crown, rng.uniform(2.4, 3.2) if small else rng.uniform(4.0, 7.5)),
            colours(
                BODY=LEAVES[rng.integers(len(LEAVES))] * rng.uniform(0.85, 1.2), EXTRA=(84, 64, 46)
            ),
        )
        self._occupy(xy, 0.8)

    def _window(self, xy: np.ndarray, radius: float) -> tuple[slice, slice]:
        low, high = np.floor(xy - radius).astype(int), np.ceil(xy + radius).astype(int) + 1
        return slice(max(low[1], 0), high[1]), slice(max(low[0], 0), high[0])

    def _is_free(self, xy: np.ndarray, radius: float) -> bool:
        window = self.built[self._window(xy, radius)]
        return window.size > 0 and not window.any()

    def _occupy(self, xy: np.ndarray, radius: float) -> None:
        self.built[self._window(xy, radius)] = True

    def instances(self) -> Instances:
        """All instances placed so far."""
        model, position, yaw, size, colour, light = zip(*self.rows, strict=True)
        return Instances(
            np.array(model, object),
            np.array(position),
            np.array(yaw),
            np.array(size),
            np.array(colour),
            np.array(light),
        )


def _point_ahead(arm: Arm, ahead_m: float, left_m: float) -> np.ndarray:
    """A point (2,) ahead of the stop line and left of the centre line, in arriving direction."""
    forward = curves.heading_vector(arm.mouth[2] + np.pi)
    return arm.mouth[:2] + ahead_m * forward + left_m * np.array([-forward[1], forward[0]])
