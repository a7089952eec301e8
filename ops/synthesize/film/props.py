"""What stands still beside the streets: houses, trees, posts, lamps, parked cars, signals and
signs, placed from the seed.

Not their shapes (shapes.py) and not their light (render.py). Nothing stands on a street, a junction
or a pavement edge.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from ops.synthesize.film.ground import PAVEMENT_M, Palette, paint_ground
from ops.synthesize.film.shapes import ROLES, VEHICLE_KINDS, Role
from ops.synthesize.town import curves
from ops.synthesize.town.town import Arm, Junction, Street, TownConfig, build_town

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
class Things:
    """Instances of models; N things."""

    model: np.ndarray  # (N,) object, names of shapes.MODELS
    position: np.ndarray  # (N, 3) metres, foot of the thing
    yaw_rad: np.ndarray  # (N,)
    size_m: np.ndarray  # (N, 3) length, width, height
    colour: np.ndarray  # (N, ROLES, 3)
    light: np.ndarray  # (N, 2) int: junction and axis of a signal, zeros for the rest

    def take(self, rows: np.ndarray) -> "Things":
        return Things(*(getattr(self, name)[rows] for name in Things.__slots__))


def join_things(parts: list[Things]) -> Things:
    """All of several sets."""
    return Things(
        *(np.concatenate([getattr(part, name) for part in parts]) for name in Things.__slots__)
    )


def colours(**roles: np.ndarray | tuple) -> np.ndarray:
    """Colours by role, (ROLES, 3), with the usual ones for glass, trim and lamps."""
    out = np.full((ROLES, 3), 128.0)
    usual = {
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
    for name, value in (usual | roles).items():
        out[Role[name]] = value
    return out


@lru_cache(maxsize=2)
def place_props(config: TownConfig, palette: Palette) -> Things:
    """Everything that stands still in a town; kept for the process."""
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
    return placer.things()


def parked_cars(config: TownConfig, palette: Palette) -> tuple[np.ndarray, np.ndarray]:
    """Poses (S, 3) of the centres and sizes (S, 3) of all parked cars."""
    things = place_props(config, palette)
    cars = things.take(np.isin(things.model, VEHICLE_KINDS))
    return np.column_stack([cars.position[:, :2], cars.yaw_rad]), cars.size_m


class _Placer:
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
        """Lights for each arm, one beyond the crossing over the road and one near; or a sign that
        asks to give way.
        """
        if len(junction.arms) == 2:
            return
        pole = colours(BODY=(92, 96, 98), TRIM=(70, 72, 74))
        for arm in junction.arms:
            inward = arm.mouth[2] + np.pi
            depth = float(np.hypot(*(junction.center - arm.mouth[:2])))
            if not junction.signalled:
                if arm.axis == 1:
                    foot = _from(arm, -0.5, -(arm.half_width_m + 0.9))
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
            near = _from(arm, 5.5, -(arm.half_width_m + 1.2))
            far = _from(arm, 2 * depth - 2.5, -(arm.half_width_m + 0.9))
            over = _from(arm, 2 * depth - 2.5, -0.5 * arm.half_width_m)
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
        """Posts, lamps and trees along both kerbs, and cars in the bays."""
        rng = self.rng
        for side in (1, -1):
            verge = street.half_width_m + PAVEMENT_M
            for at in range(8, len(street.middle) - 6, 9):
                here = curves.offset(street.middle[[at]], side * (verge + 0.3))[0]
                if self._free(here[:2], 0.4):
                    self.add(
                        "post",
                        here[:2],
                        here[2],
                        (0.14, 0.14, 1.0),
                        colours(BODY=(228, 228, 224), TRIM=(180, 40, 36)),
                    )
            for at in range(int(rng.integers(4, 14)), len(street.middle) - 4, 26):
                here = curves.offset(street.middle[[at]], side * (street.half_width_m + 0.8))[0]
                lamp = colours(BODY=(88, 92, 96), TRIM=(88, 92, 96))
                if street.bays:
                    continue
                self.add("post", here[:2], here[2], (0.16, 0.16, 7.0), lamp)
                inner = curves.offset(street.middle[[at]], side * (street.half_width_m - 0.4))[0]
                self.add(
                    "post",
                    inner[:2],
                    here[2],
                    (0.3, 2.4, 0.14),
                    colours(BODY=(214, 212, 196), TRIM=(214, 212, 196)),
                    7.0,
                )
            for at in range(
                int(rng.integers(3, 9)), len(street.middle) - 3, int(rng.integers(8, 15))
            ):
                here = curves.offset(street.middle[[at]], side * (verge + rng.uniform(1.2, 3.0)))[0]
                if rng.random() < 0.75 and self._free(here[:2], 1.0):
                    self._tree(here[:2])
        if street.lanes_each_way == 2:
            for at in range(6, len(street.middle) - 8, 13):
                if rng.random() < 0.7:
                    self._tree(street.middle[at, :2], small=True)
        for bay in street.bays:
            for at in range(3, len(bay) - 4, 7):
                if rng.random() < 0.62:
                    here = curves.offset(bay[[at]], 1.15 + rng.uniform(-0.08, 0.08))[0]
                    kind = str(rng.choice(("sedan", "hatchback", "van"), p=(0.45, 0.4, 0.15)))
                    size = {
                        "sedan": (4.6, 1.84, 1.46),
                        "hatchback": (4.1, 1.78, 1.53),
                        "van": (5.0, 1.95, 2.1),
                    }[kind]
                    self.add(
                        kind,
                        here[:2],
                        here[2] + rng.normal(0, 0.02),
                        size,
                        colours(BODY=CAR_COLOURS[rng.integers(10)]),
                    )

    def buildings(self, street: Street) -> None:
        rng = self.rng
        for side in (1, -1):
            at = int(rng.integers(0, 8))
            while at < len(street.middle) - 3:
                width, depth = rng.uniform(8.0, 11.0), rng.uniform(8.0, 11.0)
                back = street.half_width_m + PAVEMENT_M + rng.uniform(3.5, 7.5) + depth / 2
                here = curves.offset(
                    street.middle[[min(int(at + width / 2), len(street.middle) - 1)]], side * back
                )[0]
                if rng.random() < 0.72 and self._free(here[:2], 0.62 * max(width, depth)):
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
                elif rng.random() < 0.5 and self._free(here[:2], 1.5):
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

    def _free(self, xy: np.ndarray, radius: float) -> bool:
        window = self.built[self._window(xy, radius)]
        return window.size > 0 and not window.any()

    def _occupy(self, xy: np.ndarray, radius: float) -> None:
        self.built[self._window(xy, radius)] = True

    def things(self) -> Things:
        model, position, yaw, size, colour, light = zip(*self.rows, strict=True)
        return Things(
            np.array(model, object),
            np.array(position),
            np.array(yaw),
            np.array(size),
            np.array(colour),
            np.array(light),
        )


def _from(arm: Arm, ahead_m: float, left_m: float) -> np.ndarray:
    """A point seen by who arrives on the arm: ahead of the stop line, to the left of the street's
    middle.
    """
    forward = curves.heading_vector(arm.mouth[2] + np.pi)
    return arm.mouth[:2] + ahead_m * forward + left_m * np.array([-forward[1], forward[0]])
