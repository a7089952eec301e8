"""Every planner of a lake by name, and its plans for rows. Not their training, nor the human's or
PDM-Closed's plans.

Rules, the blind baseline, the planner alone, the VLA, and the two students answer the same call, so
that whatever judges them judges all alike.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from ops.planners.propose import plan_rows
from ops.planners.recipe import planner_arrays
from ops.planners.training_arrays import TrainingArrays
from storage.dataset import FrameSet


class Planner(Protocol):
    """Anything that plans for rows."""

    @property
    def parameters(self) -> int:
        """Learned numbers, 0 for a rule."""
        ...

    def plan(self, rows: FrameSet) -> np.ndarray:
        """(N, 8, 3) poses x, y, heading in the ego frame of each row at 0.5 s steps."""
        ...


@dataclass(frozen=True, slots=True)
class RulePlanner:
    """A plan that follows from the present motion alone."""

    rule: Callable[[FrameSet], np.ndarray]
    parameters: int = 0

    def plan(self, rows: FrameSet) -> np.ndarray:
        return self.rule(rows)


@dataclass(frozen=True, slots=True)
class BlindPlanner:
    """The ego-status MLP."""

    model: Any
    parameters: int

    def plan(self, rows: FrameSet) -> np.ndarray:
        return plan_rows(self.model, TrainingArrays(rows.status, rows.future))


@dataclass(frozen=True, slots=True)
class AlonePlanner:
    """The planner with no VLM and no imitation of one."""

    model: Any
    parameters: int

    def plan(self, rows: FrameSet) -> np.ndarray:
        return plan_rows(self.model, planner_arrays(rows, self.model.config))
