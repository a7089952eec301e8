"""What the finished VLA says about its training rows: code distributions and pooled features, for
the student.

Not the true codes: everything comes from the VLM's own decoding. Legend: N rows, S = 12 slots, K =
16 codes, M memory tokens, D planner width.
"""

from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import torch

from models.planners.fusion import FusedPlannerNet
from ops.planners.config import ProposalScoringConfig
from ops.planners.scored_proposals import ScoredProposals, ScorePlans, require_rows, score_proposals
from ops.vla.vlm import VlmOutputs
from storage.dataset import FrameSet
from storage.errors import ArtifactError


@dataclass(frozen=True, slots=True)
class TeacherTargets:
    """One row a training row of the planners, in their order."""

    log_id: np.ndarray  # (N,) str
    frame_index: np.ndarray  # (N,) int32
    mirrored: np.ndarray  # (N,) bool
    code_logits: np.ndarray  # (N, S, K) float16
    memory: np.ndarray  # (N, M, D) float16, what the fusion module gives to the planner

    @classmethod
    @torch.no_grad()
    def predict(
        cls, model: FusedPlannerNet, vlm_outputs: VlmOutputs, frames: FrameSet, mirrored: np.ndarray
    ) -> "TeacherTargets":
        """Pool the VLM's hidden states of `frames` by the trained fusion module."""
        streams = (
            torch.from_numpy(vlm_outputs.visual).split(512),
            torch.from_numpy(vlm_outputs.action).split(512),
        )
        memory = [
            model.fusion(visual.float(), action.float())
            for visual, action in zip(*streams, strict=True)
        ]
        return cls(
            frames.log_id.astype(str),
            frames.frame_index,
            mirrored,
            vlm_outputs.code_logits,
            torch.cat(memory).numpy().astype(np.float16),
        )

    def save(self, folder: Path) -> None:
        """Write `teacher.npz`."""
        folder.mkdir(parents=True, exist_ok=True)
        np.savez(
            folder / "teacher.npz", **{item.name: getattr(self, item.name) for item in fields(self)}
        )

    @classmethod
    def open(cls, folder: Path) -> "TeacherTargets":
        """Read `teacher.npz`. Raises ArtifactError if it is not there."""
        file = folder / "teacher.npz"
        if not file.exists():
            raise ArtifactError(
                "the VLA left no word for its student",
                where=folder,
                expected=file.name,
                do="make the vla again: latentvla run --until vla",
            )
        with np.load(file, allow_pickle=False) as stored:
            return cls(**{item.name: stored[item.name] for item in fields(cls)})

    def covers(self, frames: FrameSet, mirrored: np.ndarray) -> bool:
        """True if these are the teacher's words on exactly these rows."""
        return len(self.log_id) == len(frames) and self.match_first_rows_of(frames, mirrored)

    def match_first_rows_of(self, frames: FrameSet, mirrored: np.ndarray) -> bool:
        """True if these are the teacher's words on the first of these rows."""
        count = len(self.log_id)
        return (
            bool(np.array_equal(self.log_id, frames.log_id[:count].astype(str)))
            and bool(np.array_equal(self.frame_index, frames.frame_index[:count]))
            and bool(np.array_equal(self.mirrored, mirrored[:count]))
        )

    def concatenated(self, other: "TeacherTargets") -> "TeacherTargets":
        """Its rows and then the other's."""
        return TeacherTargets(
            *(
                np.concatenate([getattr(self, item.name), getattr(other, item.name)])
                for item in fields(TeacherTargets)
            )
        )


def scored_proposals_for(
    vla: Path,
    train: FrameSet,
    frames: FrameSet,
    mirrored: np.ndarray,
    score_plans: ScorePlans | None,
    config: ProposalScoringConfig,
    seed: int,
) -> ScoredProposals | None:
    """The judged plans of the planners' rows `frames`: those of the finished `vla` if it was made
    from the same rows or from the same rows without their mirror images, else scored anew, as
    ops.judge.judge does.
    """
    kept, own = TeacherTargets.open(vla / "teacher"), int((~mirrored).sum())
    known = len(kept.log_id)
    if known not in (own, len(frames)) or not kept.match_first_rows_of(frames, mirrored):
        return score_proposals(train, frames, mirrored, score_plans, config, seed)
    scored = ScoredProposals.open(vla / "teacher")
    require_rows(scored, known, vla / "teacher")
    return scored if scored is None or known == len(frames) else scored.with_mirror_images()
