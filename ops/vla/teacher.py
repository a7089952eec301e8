"""The teacher's targets for the student: code distributions of the VLM and memory tokens of the
fusion module on the planners' training rows.

They come from the VLM's greedy decoding, without teacher forcing.

Legend: N rows, S code slots, K codes, M memory tokens, D planner width.
"""

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch

from models.planners.config import ImitatorConfig, PlannerConfig
from models.planners.fusion import FusedPlannerNet
from ops.planners.config import ProposalScoringConfig
from ops.planners.scored_proposals import ScoredProposals, ScorePlans, require_rows, score_proposals
from ops.vla.vlm import VlmOutputs
from storage.dataset import FrameSet
from storage.errors import ArtifactError


@dataclass(frozen=True, slots=True)
class TeacherTargets:
    """The teacher's targets, one row per training row of the planners, in their order."""

    log_id: np.ndarray  # (N,) str
    frame_index: np.ndarray  # (N,) int32
    mirrored: np.ndarray  # (N,) bool
    code_logits: np.ndarray  # (N, S, K) float16
    memory: np.ndarray  # (N, M, D) float16, memory tokens of the fusion module

    @classmethod
    @torch.no_grad()
    def predict(
        cls, model: FusedPlannerNet, vlm_outputs: VlmOutputs, frames: FrameSet, mirrored: np.ndarray
    ) -> "TeacherTargets":
        """Pool the VLM's hidden states of `frames` with the trained fusion module of `model`."""
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
        """Read `teacher.npz`. Raises ArtifactError if it is missing."""
        file = folder / "teacher.npz"
        if not file.exists():
            raise ArtifactError(
                "the teacher's targets are missing",
                where=folder,
                expected=file.name,
                do="make the vla again: latentvla run --until vla",
            )
        with np.load(file, allow_pickle=False) as stored:
            return cls(**{item.name: stored[item.name] for item in fields(cls)})

    def match_first_rows_of(self, frames: FrameSet, mirrored: np.ndarray) -> bool:
        """True if these targets belong to the first rows of `frames`, in the same order."""
        count = len(self.log_id)
        return (
            bool(np.array_equal(self.log_id, frames.log_id[:count].astype(str)))
            and bool(np.array_equal(self.frame_index, frames.frame_index[:count]))
            and bool(np.array_equal(self.mirrored, mirrored[:count]))
        )

    def concatenated(self, other: "TeacherTargets") -> "TeacherTargets":
        """The targets of these rows, then those of `other`."""
        return TeacherTargets(
            *(
                np.concatenate([getattr(self, item.name), getattr(other, item.name)])
                for item in fields(TeacherTargets)
            )
        )


def student_parts(planner: PlannerConfig, targets: TeacherTargets) -> dict[str, Any]:
    """Configurations of the network that can imitate these targets, by name."""
    slots, codes = targets.code_logits.shape[1:]
    return {
        "planner": planner,
        "imitator": ImitatorConfig(targets.memory.shape[1], slots, codes),
    }


def scored_proposals_for(
    vla: Path,
    train: FrameSet,
    frames: FrameSet,
    mirrored: np.ndarray,
    score_plans: ScorePlans | None,
    config: ProposalScoringConfig,
    seed: int,
) -> ScoredProposals | None:
    """The scored proposals of the planners' rows `frames`.

    Those stored in the finished `vla` are reused if they belong to the same rows, or to the same
    rows without their mirror images; otherwise new ones are drawn and scored.
    """
    stored, num_originals = TeacherTargets.open(vla / "teacher"), int((~mirrored).sum())
    num_stored = len(stored.log_id)
    same_rows = num_stored in (num_originals, len(frames))
    if not same_rows or not stored.match_first_rows_of(frames, mirrored):
        return score_proposals(train, frames, mirrored, score_plans, config, seed)
    scored = ScoredProposals.open(vla / "teacher")
    require_rows(scored, num_stored, vla / "teacher")
    return scored if scored is None or num_stored == len(frames) else scored.with_mirror_images()
