"""The rows on which planners that build on a finished VLA are trained: the student, and the changed
planners of the ablation.
"""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ops.planners.config import PlannerRecipe
from ops.planners.recipe import planner_arrays, read_recipe
from ops.planners.scored_proposals import ScorePlans
from ops.planners.training_arrays import TrainingArrays, planner_frames
from ops.vla.teacher import scored_proposals_for
from storage.dataset import FrameSet


@dataclass(frozen=True, slots=True)
class PlannerRows:
    """The training rows of a planner, and its recipe."""

    recipe: PlannerRecipe
    frames: FrameSet
    mirrored: np.ndarray  # (N,) bool, the mirror images
    arrays: TrainingArrays  # with scored proposals, without outputs of the VLM


def planner_rows(
    train: FrameSet,
    vla: Path,
    score_plans: ScorePlans | None,
    seed: int,
    *,
    steps: int | None = None,
    mirror: bool = False,
) -> PlannerRows:
    """The rows of the split `train` and the recipe of the finished `vla` of the same seed.

    `steps` replaces those of the recipe; `mirror` adds mirror images even if the VLA's planners had
    none. Raises ArtifactError if `vla` is missing or unfinished.
    """
    recipe, _ = read_recipe(vla)
    recipe = replace(recipe, fit=replace(recipe.fit, steps=steps or recipe.fit.steps))
    frames, mirrored = planner_frames(
        train, replace(recipe.rows, mirror=recipe.rows.mirror or mirror)
    )
    scored = scored_proposals_for(
        vla, train, frames, mirrored, score_plans, recipe.proposal_scoring, seed
    )
    return PlannerRows(recipe, frames, mirrored, planner_arrays(frames, recipe.planner, scored))
