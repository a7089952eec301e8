"""Train the fused planner of an ablation on the arrays that one of its runs prepared."""

from pathlib import Path
from typing import Any

from models.planners.config import FusionConfig
from ops.planners.checkpoint import load_planner
from ops.planners.config import PlannerRecipe
from ops.planners.recipe import fused_parts, planner_job
from ops.planners.training_arrays import TrainingArrays
from ops.training.runs import TrainingRuns

PART = "planner"


def train_fused(
    arrays: TrainingArrays,
    recipe: PlannerRecipe,
    fusion: FusionConfig,
    training: TrainingRuns,
    out: Path,
) -> Any:
    """Train a fused planner on `arrays`, whose `visual` and `action` it reads; write it to
    `out/planner` and its metrics to `out/history`, and return it.
    """
    assert arrays.visual is not None
    arrays.save(training.arrays(PART))
    parts = fused_parts(recipe.planner, fusion, arrays.visual.shape[-1])
    training.launch_all([planner_job(PART, "fused_planner", parts, out / PART, recipe, training)])
    training.finish((PART,), out / "history")
    return load_planner(out / PART, "fused_planner")
