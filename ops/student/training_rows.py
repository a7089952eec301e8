"""What every student is trained on, whoever teaches it: rows, recipe and network.

The recipe is that of the finished VLA of the same seed, with the student's own steps and mirror
images.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from models.planners.config import ImitatorConfig
from ops.planners.config import PlannerRecipe
from ops.planners.recipe import planner_arrays, read_recipe
from ops.planners.scored_proposals import ScorePlans
from ops.planners.training_arrays import TrainingArrays, planner_frames
from ops.student.config import StudentConfig
from ops.vla.teacher import TeacherTargets, scored_proposals_for
from storage.dataset import FrameSet


@dataclass(frozen=True, slots=True)
class StudentRows:
    """The training rows of a student, and the recipe."""

    recipe: PlannerRecipe
    frames: FrameSet
    mirrored: np.ndarray  # (N,) bool, the mirror images
    arrays: TrainingArrays  # with scored proposals, without a teacher's targets


def student_rows(
    train: FrameSet, vla: Path, config: StudentConfig, score_plans: ScorePlans | None, seed: int
) -> StudentRows:
    """The rows of the split `train` for the student of the finished `vla`; arguments as for
    ops.student.distill.distill. Raises ArtifactError if `vla` is missing or unfinished.
    """
    recipe, _ = read_recipe(vla)
    recipe = replace(recipe, fit=replace(recipe.fit, steps=config.steps or recipe.fit.steps))
    frames, mirrored = planner_frames(
        train, replace(recipe.rows, mirror=recipe.rows.mirror or config.mirror)
    )
    scored = scored_proposals_for(
        vla, train, frames, mirrored, score_plans, recipe.proposal_scoring, seed
    )
    return StudentRows(recipe, frames, mirrored, planner_arrays(frames, recipe.planner, scored))


def student_parts(recipe: PlannerRecipe, targets: TeacherTargets) -> dict[str, Any]:
    """Configurations of the network that can imitate these targets, by name."""
    slots, codes = targets.code_logits.shape[1:]
    return {
        "planner": recipe.planner,
        "imitator": ImitatorConfig(targets.memory.shape[1], slots, codes),
    }
