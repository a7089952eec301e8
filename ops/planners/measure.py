"""Displacement errors and PDM score of trained planners on held-out rows, for a training report.

ops/evaluation scores every planner on every test scene. Legend: N rows, P planners.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ops.pdm.score_rows import TRAINING_COLUMNS
from ops.planners.scored_proposals import ScorePlans
from storage.dataset import FrameSet


@dataclass(frozen=True, slots=True)
class PlannerFigures:
    """Figures of one planner on the measured rows."""

    planner: str
    ade_m: float  # average displacement error: mean distance to the recorded positions over 4 s
    fde_m: float  # final displacement error: distance at 4 s
    lateral_m: float  # mean distance perpendicular to the recorded heading over 4 s
    pdms: float | None  # mean PDMS (v1), 0 ... 100; None without a map
    parameters: int  # number of parameters, 0 for a rule


def measure_planners(
    rows: FrameSet,
    plans: Mapping[str, np.ndarray],
    parameters: Mapping[str, int],
    score_plans: ScorePlans | None,
) -> tuple[PlannerFigures, ...]:
    """Figures of each planner's plans (N, 8, 3) on rows with a complete recorded future.

    `plans` and `parameters` have the planners' names as keys; `score_plans` is None without a map.
    """
    names = list(plans)
    plans_NP83 = np.stack([plans[name] for name in names], axis=1)
    error_NP82 = plans_NP83[..., :2] - rows.future[:, None, :, :2]
    distance = np.linalg.norm(error_NP82, axis=-1)
    heading = rows.future[:, None, :, 2]
    lateral = np.abs(error_NP82[..., 1] * np.cos(heading) - error_NP82[..., 0] * np.sin(heading))
    pdms: list[float | None] = [None] * len(names)
    if score_plans is not None:
        scores_NP = np.asarray(score_plans(rows, plans_NP83))[..., TRAINING_COLUMNS.index("score")]
        pdms = [float(value) for value in 100 * np.nanmean(scores_NP, axis=0)]
    return tuple(
        PlannerFigures(
            name,
            float(distance[:, index].mean()),
            float(distance[:, index, -1].mean()),
            float(lateral[:, index].mean()),
            pdms[index],
            parameters.get(name, 0),
        )
        for index, name in enumerate(names)
    )
