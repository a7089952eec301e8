"""Displacement errors and PDM score of trained planners on a few held-out rows, for the report of a
training asset.

Not the evaluation: that scores every planner on every scene of the test split.
Legend: N rows, P planners.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ops.planners.scored_proposals import ScorePlans
from storage.dataset import FrameSet


@dataclass(frozen=True, slots=True)
class PlannerFigures:
    """One planner on the measured rows."""

    planner: str
    ade_m: float  # mean distance to the recorded poses over 4 s
    fde_m: float  # distance at 4 s
    lateral_m: float  # mean distance across the recorded heading, over 4 s
    pdms: float | None  # mean PDMS of v1, 0 ... 100; None without a map
    parameters: int  # learned numbers, 0 for a rule


def measure_planners(
    rows: FrameSet,
    plans: Mapping[str, np.ndarray],
    parameters: Mapping[str, int],
    score_plans: ScorePlans | None,
) -> tuple[PlannerFigures, ...]:
    """Figures of each planner's plans (N, 8, 3) on rows with a whole recorded future."""
    names = list(plans)
    plans_NP83 = np.stack([plans[name] for name in names], axis=1)
    error_NP82 = plans_NP83[..., :2] - rows.future[:, None, :, :2]
    distance = np.linalg.norm(error_NP82, axis=-1)
    heading = rows.future[:, None, :, 2]
    lateral = np.abs(error_NP82[..., 1] * np.cos(heading) - error_NP82[..., 0] * np.sin(heading))
    pdms: list[float | None] = [None] * len(names)
    if score_plans is not None:
        nc, dac, ttc, ep, comfort = np.moveaxis(
            np.asarray(score_plans(rows, plans_NP83))[..., :5], -1, 0
        )
        pdms = [
            float(value)
            for value in 100 * np.nanmean(nc * dac * (5 * ttc + 5 * ep + 2 * comfort) / 12, axis=0)
        ]
    return tuple(
        PlannerFigures(
            name,
            float(distance[:, at].mean()),
            float(distance[:, at, -1].mean()),
            float(lateral[:, at].mean()),
            pdms[at],
            parameters.get(name, 0),
        )
        for at, name in enumerate(names)
    )
