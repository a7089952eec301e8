"""Traffic signals: the state of each junction's two phases (green, amber, all red) over time."""

import numpy as np

from ops.synthesize.town.town import Town

GREEN, AMBER, RED = 0, 1, 2
GREEN_S, AMBER_S, ALL_RED_S = 5.0, 2.5, 0.7
CYCLE_S = 2 * (GREEN_S + AMBER_S + ALL_RED_S)


class Signals:
    """The signal phases of all junctions in one log; J junctions, two axes."""

    def __init__(self, town: Town, rng: np.random.Generator) -> None:
        self.row = {junction: row for row, junction in enumerate(town.junctions)}
        self.phase_s = rng.uniform(0.0, CYCLE_S, len(self.row))  # (J,)

    def states(self, time_s: float) -> np.ndarray:
        """(J, 2) GREEN, AMBER or RED for the arms of each axis."""
        return self.states_of(np.arange(len(self.phase_s))[:, None], np.arange(2), time_s)

    def states_of(
        self, row: int | np.ndarray, axis: int | np.ndarray, time_s: float | np.ndarray
    ) -> np.ndarray:
        """GREEN, AMBER or RED for axes of junctions (rows of `states`) at times; the arguments are
        broadcast.
        """
        cycle_s = (time_s + self.phase_s[row] + CYCLE_S / 2 * axis) % CYCLE_S
        return np.where(cycle_s < GREEN_S, GREEN, np.where(cycle_s < GREEN_S + AMBER_S, AMBER, RED))

    def turn_green(self, junction_id: int, axis: int, at_s: float) -> None:
        """Shift the phase of a junction so that an axis turns green at time `at_s`."""
        self.phase_s[self.row[junction_id]] = (-at_s - CYCLE_S / 2 * axis) % CYCLE_S

    def turn_amber(self, junction_id: int, axis: int, time_s: float) -> None:
        """Shift the phase of a junction so that an axis turns amber at time `time_s`."""
        self.phase_s[self.row[junction_id]] = (GREEN_S - time_s - CYCLE_S / 2 * axis) % CYCLE_S
