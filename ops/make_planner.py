"""The recipe that all planners share: how one is trained, and how it then learns to judge its own proposals.

Not the choice of planners: that is finetune's and distill's.
"""

import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from models.fusion import FusionConfig
from models.planner import PlannerConfig
from ops.fit import FitConfig, RunPlace, TrainingJob
from ops.fit_planner import ImitationConfig, planner_loop
from ops.fit_score import ScoreHeadConfig, ScorePlans, train_scorer
from ops.load_planner import load_planner, save_planner
from ops.propose import propose
from ops.scenes import scene_rows
from ops.training_arrays import RowChoice, TrainingArrays
from storage.dataset import FrameSet
from storage.errors import ArtifactError


@dataclass(frozen=True, slots=True)
class PlannerRecipe:
    """What every planner shares, with the VLM, as the student, or alone."""

    planner: PlannerConfig = field(default_factory=PlannerConfig)
    fit: FitConfig = field(default_factory=lambda: FitConfig(steps=500, batch=32))
    score: ScoreHeadConfig = field(default_factory=ScoreHeadConfig)
    rows: RowChoice = field(default_factory=RowChoice)


def read_recipe(vla: Path) -> tuple[PlannerRecipe, tuple[int, int]]:
    """The recipe a finished `vla` was made by, its output constants included, and the image size that the VLM sees.

    Raises ArtifactError if there is no finished `vla`.
    """
    file = vla / "config.json"
    if not file.exists():
        raise ArtifactError("there is no finished VLA here", where=vla, expected=file.name,
                            do="make it: latentvla run --until vla")
    config = json.loads(file.read_text())
    recipe = config["recipe"]
    planner = replace(load_planner(vla / "planner_alone", "planner").config, score_weight=0.0)
    score = ScoreHeadConfig(**recipe["score"] | {"fit": FitConfig(**recipe["score"]["fit"])})
    height, width = config["image_hw"]
    return PlannerRecipe(planner, FitConfig(**recipe["fit"]), score, RowChoice(**recipe["rows"])), (height, width)


@dataclass(frozen=True, slots=True)
class Judging:
    """Training scenes whose proposals get PDM sub-scores."""

    rows: FrameSet
    arrays: TrainingArrays          # the same rows as the planner reads them
    score_plans: ScorePlans


def fused_parts(planner: PlannerConfig, fusion: FusionConfig, vlm_width: int) -> dict[str, Any]:
    """The parts of a fused planner, as build_planner has them: `planner` with the memory of a VLM of this width."""
    return {"planner": replace(planner, second_memory=True),
            "fusion": replace(fusion, vlm_width=vlm_width, width=planner.width)}


def planner_job(part: str, kind: str, parts: dict[str, Any], out: Path, fit: FitConfig, place: RunPlace,
                imitation: ImitationConfig | None = None) -> TrainingJob:
    """The training of planner `part` on the arrays in `place.arrays("planner")`; it writes the planner to `out`.

    `kind` and `parts` are those of build_planner.
    """
    return TrainingJob(part, planner_loop, {"kind": kind, "parts": parts, "arrays": str(place.arrays("planner")),
                                            "out": str(out), "fit": fit, "imitation": imitation})


def finish_planner(part: str, kind: str, out: Path, place: RunPlace, judging: Judging | None = None,
                   score: ScoreHeadConfig | None = None) -> Any:
    """Read the trained planner in `out`, teach it to judge its own proposals, write it again and return it.

    Without `judging`, plans are chosen by their mode alone, that is by displacement.
    """
    model = load_planner(out, kind)
    if judging is not None and score is not None:
        train_scorer(model, propose(model, judging.arrays), judging.rows, judging.score_plans, score, place,
                     f"{part}_score")
        save_planner(out, model)
    return model


def judging_of(train: FrameSet, frames: FrameSet, mirrored: np.ndarray, arrays: TrainingArrays,
               score_plans: ScorePlans | None, count: int) -> Judging | None:
    """Up to `count` of the planner's rows that are scenes, spread evenly; None without a scorer or without scenes."""
    if score_plans is None:
        return None
    scenes = scene_rows(train)
    keys = set(zip(train.log_id[scenes], train.frame_index[scenes].tolist(), strict=True))
    able = np.flatnonzero([not flipped and key in keys for flipped, key in
                           zip(mirrored, zip(frames.log_id, frames.frame_index.tolist(), strict=True), strict=True)])
    if not len(able):
        return None
    chosen = able[np.linspace(0, len(able) - 1, min(count, len(able))).astype(int)]
    return Judging(frames.take(chosen), arrays.take(chosen), score_plans)
