"""Plans with their PDM sub-scores beside each training row: what the planners' score heads learn
from. Not the PDM score.

A head that only ever saw good plans would not know a bad one, so a row's plans are drawn from three
sorts: what others did at a like speed, its own recorded future bent and stretched, and that future
itself. They are the same for every planner that learns from these rows, and are scored once.
Legend: N rows, J judged plans, R sub-scores in the order of models.planner.SUBSCORES.
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
"""(rows, plans (N, K, 8, 3)) -> (N, K, R or more), PDMS v1: nc, dac, ttc, ep, comfort, ...; NaN: cannot be scored."""

SCORED_PROPOSALS_FILE = "scored_proposals.npz"


@dataclass(frozen=True, slots=True)
class ScoredProposals:
    """The judged plans of the planners' rows, in their order."""

    plans: np.ndarray  # (N, J, 8, 3) float32
    subscores: np.ndarray  # (N, J, R) float32, NaN where a row is no scene

    def save(self, folder: Path) -> None:
        """Write `scored_proposals.npz`."""
        folder.mkdir(parents=True, exist_ok=True)
        np.savez(folder / SCORED_PROPOSALS_FILE, plans=self.plans, subscores=self.subscores)

    def with_mirror_images(self) -> "ScoredProposals":
        """These rows and then their mirror images, whose plans are mirrored and score the same."""
        return ScoredProposals(
            np.concatenate([self.plans, self.plans * MIRROR]),
            np.concatenate([self.subscores, self.subscores]),
        )

    @classmethod
    def open(cls, folder: Path) -> "ScoredProposals | None":
        """Read `scored_proposals.npz`; None where nothing was scored, as without a map."""
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
    """Judge plans for `frames`, the rows of ops.training_arrays.planner_frames from the split
    `train`.

    A mirrored row has the mirrored plans of its original. None without a scorer, or where no row is
    a scene. Raises ConfigError if the scorer gives the wrong shape, or no row that it could score.
    """
    if score_plans is None:
        return None
    own = frames.take(~mirrored)
    scenes = scene_rows(train)
    keys = set(zip(train.log_id[scenes], train.frame_index[scenes].tolist(), strict=True))
    able = np.flatnonzero(
        [key in keys for key in zip(own.log_id, own.frame_index.tolist(), strict=True)]
    )
    if not len(able):
        return None
    plans = draw_plans(own, config, np.random.default_rng((seed, 211)))
    found = np.asarray(
        score_plans(own.take(able), plans[able].astype(np.float64)), dtype=np.float32
    )[..., : len(SUBSCORES)]
    if found.shape != (len(able), plans.shape[1], len(SUBSCORES)) or not np.isfinite(found).any():
        raise ConfigError(
            "the scorer gave no usable sub-scores",
            expected=(len(able), plans.shape[1], len(SUBSCORES)),
            found=f"{found.shape}, {int(np.isfinite(found).sum())} values that are not NaN",
            do=f"return {', '.join(SUBSCORES)} for every plan of the rows that can be scored",
        )
    subscores = np.full((*plans.shape[:2], len(SUBSCORES)), np.nan, dtype=np.float32)
    subscores[able] = found
    scored = ScoredProposals(plans, subscores)
    return scored.with_mirror_images() if mirrored.any() else scored


def draw_plans(
    rows: FrameSet, config: ProposalScoringConfig, generator: np.random.Generator
) -> np.ndarray:
    """(N, J, 8, 3) float32: others' futures moved to the row's own speed, its own future bent, and
    that future itself.
    """
    count, own = len(rows), rows.future.astype(np.float64)
    times = STEP_S * np.arange(1, PLAN_STEPS + 1)
    straight = np.zeros_like(own)
    straight[..., 0] = rows.velocity[:, :1] * times
    order = np.argsort(rows.velocity[:, 0], kind="stable")
    place = np.empty(count, dtype=int)
    place[order] = np.arange(count)
    away = generator.integers(
        -config.neighbor_window, config.neighbor_window + 1, (count, config.num_retrieved)
    )
    like = order[np.clip(place[:, None] + away, 0, count - 1)]
    retrieved = (own - straight)[like] + straight[:, None]
    stretch, turn = (
        generator.normal(1.0, 0.15, (count, config.num_perturbed, 1)),
        generator.normal(0.0, 0.05, (count, config.num_perturbed, 1)),
    )
    angle = turn * times / times[-1]
    x, y = stretch * own[:, None, :, 0], stretch * own[:, None, :, 1]
    perturbed = np.stack(
        [
            x * np.cos(angle) - y * np.sin(angle),
            x * np.sin(angle) + y * np.cos(angle),
            own[:, None, :, 2] + 2 * angle,
        ],
        axis=-1,
    )
    return np.concatenate([retrieved, perturbed, own[:, None]], axis=1).astype(np.float32)


def require_rows(scored: ScoredProposals | None, count: int, where: Path) -> None:
    """Raise ArtifactError unless the judged plans are those of `count` rows."""
    if scored is not None and len(scored.plans) != count:
        raise ArtifactError(
            "the judged plans are those of other rows",
            where=where,
            expected=f"{count} rows",
            found=len(scored.plans),
            do="make the vla again: latentvla run --until vla",
        )
