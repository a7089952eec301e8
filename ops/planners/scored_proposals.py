"""Scored proposals: plans with their PDM sub-scores for each training row, the training data of the
planners' score heads.

A score head trained on good plans alone could not recognise a bad one. A row therefore has plans
from three sources: recorded futures of other rows at a similar speed, its own recorded future
rotated and stretched, and that future itself. All planners trained on these rows use the same
proposals, which are scored once.

Legend: N rows, J proposals of a row, R sub-scores in the order of models.planners.config.SUBSCORES;
a plan is (8, 3): x, y, heading in m, m, rad in the ego frame at 0.5 s steps.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from models.planners.config import PLAN_STEPS, STEP_S, SUBSCORES
from ops.pdm.score_rows import scene_rows
from ops.planners.config import ProposalScoringConfig
from ops.planners.training_arrays import MIRROR
from storage.dataset import FrameSet
from storage.errors import ArtifactError, ConfigError

ScorePlans = Callable[[FrameSet, np.ndarray], np.ndarray]
"""(rows, plans (N, J, 8, 3)) -> PDM sub-scores (N, J, R or more) of version v1, in the order of
SUBSCORES and further ones after them; NaN where the row is not a scene."""

SCORED_PROPOSALS_FILE = "scored_proposals.npz"


@dataclass(frozen=True, slots=True)
class ScoredProposals:
    """The scored proposals of the planners' rows, in their order."""

    plans: np.ndarray  # (N, J, 8, 3) float32
    subscores: np.ndarray  # (N, J, R) float32, NaN where the row is not a scene

    def save(self, folder: Path) -> None:
        """Write `scored_proposals.npz`."""
        folder.mkdir(parents=True, exist_ok=True)
        np.savez(folder / SCORED_PROPOSALS_FILE, plans=self.plans, subscores=self.subscores)

    def with_mirror_images(self) -> "ScoredProposals":
        """These rows, then their mirror images, with mirrored plans and the same sub-scores."""
        return ScoredProposals(
            np.concatenate([self.plans, self.plans * MIRROR]),
            np.concatenate([self.subscores, self.subscores]),
        )

    @classmethod
    def open(cls, folder: Path) -> "ScoredProposals | None":
        """Read `scored_proposals.npz`; None if the folder has none, as for logs without a map."""
        file = folder / SCORED_PROPOSALS_FILE
        if not file.exists():
            return None
        with np.load(file, allow_pickle=False) as stored:
            return cls(stored["plans"], stored["subscores"])


def score_proposals(
    train: FrameSet,
    frames: FrameSet,
    mirrored: np.ndarray,
    score_plans: ScorePlans | None,
    config: ProposalScoringConfig,
    seed: int,
) -> ScoredProposals | None:
    """Draw and score proposals for `frames`, the rows and the mask that planner_frames takes from
    the split `train`.

    A mirror image has the mirrored proposals of its original. Returns None without a scorer, or if
    no row is a scene. Raises ConfigError if the scorer returns another shape, or only NaN.
    """
    if score_plans is None:
        return None
    rows = frames.without_images().take(~mirrored)
    scenes = scene_rows(train)
    keys = set(zip(train.log_id[scenes], train.frame_index[scenes].tolist(), strict=True))
    scorable = np.flatnonzero(
        [key in keys for key in zip(rows.log_id, rows.frame_index.tolist(), strict=True)]
    )
    if not len(scorable):
        return None
    plans = draw_plans(rows, config, np.random.default_rng((seed, 211)))
    expected = (len(scorable), plans.shape[1], len(SUBSCORES))
    scores = score_plans(rows.take(scorable), plans[scorable].astype(np.float64))
    scored = np.asarray(scores, dtype=np.float32)[..., : len(SUBSCORES)]
    if scored.shape != expected or not np.isfinite(scored).any():
        raise ConfigError(
            "the scorer gave no usable sub-scores",
            expected=expected,
            found=f"{scored.shape}, {int(np.isfinite(scored).sum())} values that are not NaN",
            do=f"return {', '.join(SUBSCORES)} for every plan of the rows that are scenes",
        )
    subscores = np.full((*plans.shape[:2], len(SUBSCORES)), np.nan, dtype=np.float32)
    subscores[scorable] = scored
    proposals = ScoredProposals(plans, subscores)
    return proposals.with_mirror_images() if mirrored.any() else proposals


def draw_plans(
    rows: FrameSet, config: ProposalScoringConfig, generator: np.random.Generator
) -> np.ndarray:
    """Proposals (N, J, 8, 3) float32 of each row: futures of other rows, shifted to this row's
    speed; its own future, rotated and stretched; that future itself.
    """
    count, future = len(rows), rows.future.astype(np.float64)
    times = STEP_S * np.arange(1, PLAN_STEPS + 1)
    straight = np.zeros_like(future)
    straight[..., 0] = rows.velocity[:, :1] * times
    by_speed = np.argsort(rows.velocity[:, 0], kind="stable")
    rank = np.empty(count, dtype=int)
    rank[by_speed] = np.arange(count)
    offset = generator.integers(
        -config.neighbor_window, config.neighbor_window + 1, (count, config.num_retrieved)
    )
    neighbors = by_speed[np.clip(rank[:, None] + offset, 0, count - 1)]
    retrieved = (future - straight)[neighbors] + straight[:, None]
    stretch, turn = (
        generator.normal(1.0, 0.15, (count, config.num_perturbed, 1)),
        generator.normal(0.0, 0.05, (count, config.num_perturbed, 1)),
    )
    angle = turn * times / times[-1]
    x, y = stretch * future[:, None, :, 0], stretch * future[:, None, :, 1]
    perturbed = np.stack(
        [
            x * np.cos(angle) - y * np.sin(angle),
            x * np.sin(angle) + y * np.cos(angle),
            future[:, None, :, 2] + 2 * angle,
        ],
        axis=-1,
    )
    return np.concatenate([retrieved, perturbed, future[:, None]], axis=1).astype(np.float32)


def require_rows(scored: ScoredProposals | None, count: int, where: Path) -> None:
    """Raise ArtifactError unless the scored proposals are those of `count` rows."""
    if scored is not None and len(scored.plans) != count:
        raise ArtifactError(
            "the scored proposals belong to other rows",
            where=where,
            expected=f"{count} rows",
            found=len(scored.plans),
            do="make the vla again: latentvla run --until vla",
        )
