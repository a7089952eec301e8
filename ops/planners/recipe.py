"""Read the recipe of a finished `vla`; make the arrays and the training jobs of planners."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from models.planners.config import FusionConfig, PlannerConfig
from models.planners.planner import offset_scale
from ops.planners.checkpoint import load_planner
from ops.planners.config import ImitationConfig, PlannerRecipe, ProposalScoringConfig, RowChoice
from ops.planners.fit_planner import PlannerTraining, planner_loop
from ops.planners.scored_proposals import ScoredProposals
from ops.planners.training_arrays import TrainingArrays
from ops.training.config import FitConfig
from ops.training.runs import TrainingJob, TrainingRuns
from storage.camera import fit_images
from storage.dataset import FrameSet
from storage.errors import ArtifactError, ConfigError


def read_recipe(vla: Path) -> tuple[PlannerRecipe, tuple[int, int]]:
    """The recipe with which a finished `vla` was trained, and the VLM's image size (H, W).

    The planner's configuration includes the constants taken from the training data. Raises
    ArtifactError if the folder holds no finished `vla`.
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
    """The arrays that every planner is trained on, with images at the planner's size.

    Raises ConfigError if that size has another aspect ratio than the images of `frames`: they would
    be cropped, and their calibration would be wrong.
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


def fitted_to_rows(planner: PlannerConfig, frames: FrameSet) -> PlannerConfig:
    """The configuration with the constants that come from the training rows: the scale of the
    outputs, and the camera for rows without a calibration.
    """
    return replace(
        planner,
        offset_scale=offset_scale(torch.from_numpy(frames.status), torch.from_numpy(frames.future)),
        camera=tuple(np.median(frames.camera, axis=0).tolist()),
    )


def fused_parts(planner: PlannerConfig, fusion: FusionConfig, vlm_width: int) -> dict[str, Any]:
    """Configurations of a fused planner, by name: `planner` with cross-attention to a VLM of this
    width.
    """
    return {
        "planner": replace(planner, second_memory=True),
        "fusion": replace(fusion, vlm_width=vlm_width, width=planner.width),
    }


def planner_job(
    part: str,
    kind: str,
    parts: Mapping[str, Any],
    out: Path,
    recipe: PlannerRecipe,
    training: TrainingRuns,
    fit: FitConfig | None = None,
    imitation: ImitationConfig | None = None,
    arrays: Path | None = None,
    labelled_rows: int = 0,
) -> TrainingJob:
    """The training job `part` of a planner on the arrays in `arrays`, by default
    `training.arrays("planner")`; it writes the checkpoint to `out`.

    `kind`, `parts`, `imitation` and `labelled_rows` are those of PlannerTraining; `fit` defaults to
    the recipe's.
    """
    config = PlannerTraining(
        kind,
        parts,
        arrays or training.arrays("planner"),
        out,
        fit or recipe.fit,
        recipe.proposal_scoring,
        training.seed,
        imitation,
        labelled_rows,
    )
    return TrainingJob(part, planner_loop, config)
