"""The interface of a planner, and the planners that need neither the VLM nor the student.

Rules, the ego-status MLP, the planner alone, the VLA (ops/vla/planner.py) and the students
(ops/student/predict.py) share this interface, so that they are evaluated alike.

Legend: N rows; a plan is (8, 3): x, y, heading in m, m, rad in the ego frame at 0.5 s steps.
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
    """Anything that plans for rows of a dataset."""

    @property
    def parameters(self) -> int:
        """Number of parameters, 0 for a rule."""
        ...

    def plan(self, rows: FrameSet) -> np.ndarray:
        """Plans (N, 8, 3), each in the ego frame of its row."""
        ...


@dataclass(frozen=True, slots=True)
class RulePlanner:
    """A rule on the present motion, see ops/planners/baselines.py."""

    rule: Callable[[FrameSet], np.ndarray]
    parameters: int = 0

    def plan(self, rows: FrameSet) -> np.ndarray:
        return self.rule(rows)


@dataclass(frozen=True, slots=True)
class BlindPlanner:
    """The ego-status MLP, which gets no image."""

    model: Any
    parameters: int

    def plan(self, rows: FrameSet) -> np.ndarray:
        return plan_rows(self.model, TrainingArrays(rows.status, rows.future))


@dataclass(frozen=True, slots=True)
class AlonePlanner:
    """The host planner without a VLM and without imitation of one."""

    model: Any
    parameters: int

    def plan(self, rows: FrameSet) -> np.ndarray:
        return plan_rows(self.model, planner_arrays(rows, self.model.config))
