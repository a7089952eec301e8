"""The recipe that all planners share, and the arrays that they learn from. Not the choice of
planners: that is finetune's and distill's.
"""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from models.planners.config import FusionConfig, PlannerConfig
from ops.planners.checkpoint import load_planner
from ops.planners.config import ImitationConfig, PlannerRecipe, ProposalScoringConfig, RowChoice
from ops.planners.fit_planner import planner_loop
from ops.planners.scored_proposals import ScoredProposals
from ops.planners.training_arrays import TrainingArrays
from ops.training.config import FitConfig
from ops.training.runs import TrainingJob, TrainingRuns
from storage.camera import fit_images
from storage.dataset import FrameSet
from storage.errors import ArtifactError, ConfigError


def read_recipe(vla: Path) -> tuple[PlannerRecipe, tuple[int, int]]:
    """The recipe a finished `vla` was made by, its output constants included, and the image size
    that the VLM sees.

    Raises ArtifactError if there is no finished `vla`.
    """
    file = vla / "config.json"
    if not file.exists():
        raise ArtifactError(
            "there is no finished VLA here",
            where=vla,
            expected=file.name,
            do="make it: latentvla run --until vla",
        )
    config = json.loads(file.read_text())
    recipe = config["recipe"]
    planner = replace(load_planner(vla / "planner_alone", "planner").config, score_weight=0.0)
    height, width = config["image_hw"]
    return PlannerRecipe(
        planner,
        FitConfig(**recipe["fit"]),
        ProposalScoringConfig(**recipe["proposal_scoring"]),
        RowChoice(**recipe["rows"]),
    ), (height, width)


def planner_arrays(
    frames: FrameSet, planner: PlannerConfig, scored: ScoredProposals | None = None
) -> TrainingArrays:
    """What every planner learns from, at its own image size.

    Raises ConfigError if that size shows another part of the images than `frames` hold: their
    calibration would be wrong.
    """
    height, width = planner.image_hw
    if len(frames) and height * frames.images.shape[2] != width * frames.images.shape[1]:
        raise ConfigError(
            "the planner's images have another aspect ratio than the VLM's",
            found=planner.image_hw,
            expected=f"the ratio of {frames.images.shape[1:3]}",
            do="change PlannerConfig.image_hw",
        )
    plans, subscores = (None, None) if scored is None else (scored.plans, scored.subscores)
    return TrainingArrays(
        frames.status,
        frames.future,
        fit_images(frames.images, planner.image_hw),
        frames.camera,
        plans,
        subscores,
    )


def fused_parts(planner: PlannerConfig, fusion: FusionConfig, vlm_width: int) -> dict[str, Any]:
    """The parts of a fused planner, as build_planner has them: `planner` with the memory of a VLM
    of this width.
    """
    return {
        "planner": replace(planner, second_memory=True),
        "fusion": replace(fusion, vlm_width=vlm_width, width=planner.width),
    }


def planner_job(
    part: str,
    kind: str,
    parts: dict[str, Any],
    out: Path,
    recipe: PlannerRecipe,
    training: TrainingRuns,
    fit: FitConfig | None = None,
    imitation: ImitationConfig | None = None,
) -> TrainingJob:
    """The training of planner `part` on the arrays in `training.arrays("planner")`; it writes the
    planner to `out`.

    `kind` and `parts` are those of build_planner; `fit` is the recipe's unless it is given.
    """
    return TrainingJob(
        part,
        planner_loop,
        {
            "kind": kind,
            "parts": parts,
            "arrays": str(training.arrays("planner")),
            "out": str(out),
            "fit": fit or recipe.fit,
            "imitation": imitation,
            "proposal_scoring": recipe.proposal_scoring,
        },
    )
