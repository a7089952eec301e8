"""Every planner of a lake by name, and its plans for rows. Not their training, nor the human's or PDM-Closed's plans.

Rules, the blind baseline, the planner alone, the VLA, and the two students answer the same call, so that whatever
judges them judges all alike.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from models.vlm import ActionVlm
from ops import baselines
from ops.fit_vlm import open_vlm, read_vlm
from ops.latency import measure_latency
from ops.load_planner import count_parameters, host, load_planner
from ops.make_planner import planner_arrays, read_recipe
from ops.predict import Student, fit_images
from ops.propose import plan_rows
from ops.training_arrays import TrainingArrays
from storage.dataset import FrameSet
from storage.errors import unknown_name

PLANNERS = ("stopped", "constant_velocity", "constant_turn_rate", "ego_status_mlp", "planner_alone",
            "student_no_teacher", "vla", "student")


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


@dataclass(frozen=True, slots=True)
class VlaPlanner:
    """The VLM and the planner that reads its hidden states; `image_hw` is what the VLM sees."""

    vlm: ActionVlm
    model: Any
    image_hw: tuple[int, int]
    parameters: int
    batch: int = 32

    def plan(self, rows: FrameSet) -> np.ndarray:
        out = [self._plan(rows.take(np.arange(first, min(first + self.batch, len(rows)))))
               for first in range(0, len(rows), self.batch)]
        return np.concatenate(out) if out else np.zeros((0, 8, 3))

    def _plan(self, rows: FrameSet) -> np.ndarray:
        said = read_vlm(self.vlm, fit_images(rows.images, self.image_hw), rows.status, self.batch)
        arrays = planner_arrays(rows, host(self.model).config)
        return plan_rows(self.model, replace(arrays, visual=said.visual, action=said.action))


@dataclass(frozen=True, slots=True)
class StudentPlanner:
    """A student as it is deployed, with or without its teacher in training."""

    student: Student
    parameters: int

    def plan(self, rows: FrameSet) -> np.ndarray:
        motion = np.concatenate([rows.velocity, rows.acceleration], axis=1)
        return self.student.plan(rows.images, motion, rows.command, rows.camera)


def open_planner(name: str, vla: Path, student: Path, *, runtime: str = "onnx") -> Planner:
    """One planner of the artefacts `vla` and `student`, on the CPU; `runtime` is the student's.

    Raises ConfigError for a name that does not exist and ArtifactError for an artefact that is missing or of another
    version.
    """
    rules = {"stopped": baselines.stopped, "constant_velocity": baselines.constant_velocity,
             "constant_turn_rate": baselines.constant_turn_rate}
    if name not in PLANNERS:
        raise unknown_name("planner", name, PLANNERS)
    if name in rules:
        return RulePlanner(rules[name])
    if name == "ego_status_mlp":
        model = load_planner(vla / "ego_status_mlp", "ego_mlp")
        return BlindPlanner(model, count_parameters(model))
    if name == "planner_alone":
        model = load_planner(vla / "planner_alone", "planner")
        return AlonePlanner(model, count_parameters(model))
    if name == "vla":
        return open_vla(vla)
    made = Student.from_pretrained(student, runtime=runtime) if name == "student" else Student.from_pretrained(
        student / "no_teacher", runtime="torch")
    return StudentPlanner(made, made.parameters)


def open_vla(vla: Path, *, planner: Path | None = None, vlm: Path | None = None) -> VlaPlanner:
    """The VLA of a finished artefact; `planner` and `vlm` are folders to take instead of its own."""
    model, read = load_planner(planner or vla / "planner", "fused_planner"), open_vlm(vlm or vla / "vlm")
    return VlaPlanner(read, model, read_recipe(vla)[1], count_parameters(read) + count_parameters(model))


def open_planners(vla: Path, student: Path, names: tuple[str, ...] = PLANNERS) -> dict[str, Planner]:
    """Planners by name; see open_planner."""
    return {name: open_planner(name, vla, student) for name in names}


__all__ = ["PLANNERS", "Planner", "measure_latency", "open_planner", "open_planners", "open_vla"]
