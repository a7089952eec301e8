"""Writes the pickle for NAVSIM's leaderboards from plans by scene token. It needs the devkit, whose
classes the pickle contains.

The layouts are those of the devkit's run_create_submission_pickle.py: v1.1 has `predictions`, v2
`first_stage_predictions` and `second_stage_predictions`, each a list with one dictionary from token
to Trajectory.
"""

import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ops.devkit.find import incomplete_devkit, require_devkit
from ops.pdm.config import Version
from storage.durable import replacing
from storage.errors import ConfigError, unknown_name
from storage.trajectory_table import FUTURE_STEPS


@dataclass(frozen=True, slots=True)
class Team:
    """The submitting team, as the leaderboard shows it."""

    name: str  # v1.1: a link to the technical report or code, <a href=...>method</a>
    authors: str
    email: str
    institution: str
    country: str  # country or region


def write_submission(
    out: Path,
    team: Team,
    predictions: Mapping[str, np.ndarray],
    *,
    version: Version,
    second_stage: Mapping[str, np.ndarray] | None = None,
) -> None:
    """Write the submission of plans (8, 3) by token; v2 also takes the plans of its second stage.

    The leaderboard expects the file name `submission.pkl`. Raises ConfigError without the devkit,
    for plans that are not 8 finite poses, for no plans, and for a second stage that is missing in
    v2 or given in v1.
    """
    require_devkit()
    if version not in ("v1", "v2"):
        raise unknown_name("version of the devkit", version, ("v1", "v2"))
    if (version == "v2") != (second_stage is not None):
        raise ConfigError(
            "submissions of v2 have a second stage, those of v1 do not",
            found=f"version {version} {'without' if second_stage is None else 'with'} second_stage",
        )
    team_fields = {
        "team_name": team.name,
        "authors": team.authors,
        "email": team.email,
        "institution": team.institution,
        "country / region": team.country,
    }
    first = _trajectories(predictions)
    stages = (
        {"predictions": [first]}
        if second_stage is None
        else {
            "first_stage_predictions": [first],
            "second_stage_predictions": [_trajectories(second_stage)],
        }
    )
    with replacing(out) as part:
        part.write_bytes(pickle.dumps(team_fields | stages))


def _trajectories(predictions: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """The devkit's Trajectory of each token."""
    try:
        from navsim.common.dataclasses import Trajectory
    except ModuleNotFoundError as error:
        raise incomplete_devkit(error) from error
    poses = {token: np.asarray(plan, dtype=np.float32) for token, plan in predictions.items()}
    invalid = [
        token
        for token, plan in poses.items()
        if plan.shape != (FUTURE_STEPS, 3) or not np.isfinite(plan).all()
    ]
    if invalid or not poses:
        raise ConfigError(
            "these plans cannot be submitted" if invalid else "there are no plans to submit",
            where=f"tokens {', '.join(invalid[:5])}" if invalid else None,
            expected=f"({FUTURE_STEPS}, 3) finite x, y, heading, 0.5 s apart",
            found=f"{len(invalid)} of {len(poses)}",
        )
    return {token: Trajectory(plan) for token, plan in poses.items()}
