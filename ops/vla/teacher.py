"""What the finished VLA says about its training rows: code distributions and pooled features, for the student.

Not the true codes: everything comes from the VLM's own decoding. Legend: N rows, S = 12 slots, K = 16 codes, M memory
tokens, D planner width.
"""

from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import torch

from models.planners.fusion import FusedPlanner
from ops.planners.scored_plans import Judged, JudgingConfig, ScorePlans, judge, require_rows
from ops.vla.vlm import VlmReadings
from storage.dataset import FrameSet
from storage.errors import ArtifactError


@dataclass(frozen=True, slots=True)
class Teacher:
    """One row a training row of the planners, in their order."""

    log_id: np.ndarray          # (N,) str
    frame_index: np.ndarray     # (N,) int32
    mirrored: np.ndarray        # (N,) bool
    code_logits: np.ndarray     # (N, S, K) float16
    memory: np.ndarray          # (N, M, D) float16, what the fusion module gives to the planner

    @classmethod
    @torch.no_grad()
    def say(cls, model: FusedPlanner, readings: VlmReadings, frames: FrameSet, mirrored: np.ndarray) -> "Teacher":
        """Pool the VLM's hidden states of `frames` by the trained fusion module."""
        streams = (torch.from_numpy(readings.visual).split(512), torch.from_numpy(readings.action).split(512))
        memory = [model.fusion(visual.float(), action.float()) for visual, action in zip(*streams, strict=True)]
        return cls(frames.log_id.astype(str), frames.frame_index, mirrored, readings.code_logits,
                   torch.cat(memory).numpy().astype(np.float16))

    def save(self, folder: Path) -> None:
        """Write `teacher.npz`."""
        folder.mkdir(parents=True, exist_ok=True)
        np.savez(folder / "teacher.npz", **{item.name: getattr(self, item.name) for item in fields(self)})

    @classmethod
    def open(cls, folder: Path) -> "Teacher":
        """Read `teacher.npz`. Raises ArtifactError if it is not there."""
        file = folder / "teacher.npz"
        if not file.exists():
            raise ArtifactError("the VLA left no word for its student", where=folder, expected=file.name,
                                do="make the vla again: latentvla run --until vla")
        with np.load(file, allow_pickle=False) as stored:
            return cls(**{item.name: stored[item.name] for item in fields(cls)})

    def covers(self, frames: FrameSet, mirrored: np.ndarray) -> bool:
        """True if these are the teacher's words on exactly these rows."""
        return len(self.log_id) == len(frames) and self.starts(frames, mirrored)

    def starts(self, frames: FrameSet, mirrored: np.ndarray) -> bool:
        """True if these are the teacher's words on the first of these rows."""
        count = len(self.log_id)
        return (bool(np.array_equal(self.log_id, frames.log_id[:count].astype(str)))
                and bool(np.array_equal(self.frame_index, frames.frame_index[:count]))
                and bool(np.array_equal(self.mirrored, mirrored[:count])))

    def followed_by(self, other: "Teacher") -> "Teacher":
        """Its rows and then the other's."""
        return Teacher(*(np.concatenate([getattr(self, item.name), getattr(other, item.name)]) for item in fields(Teacher)))


def judged_plans(vla: Path, train: FrameSet, frames: FrameSet, mirrored: np.ndarray, score_plans: ScorePlans | None,
                 config: JudgingConfig, seed: int) -> Judged | None:
    """The judged plans of the planners' rows `frames`: those of the finished `vla` if it was made from the same rows or from
    the same rows without their mirror images, else judged anew, as ops.judge.judge does."""
    kept, own = Teacher.open(vla / "teacher"), int((~mirrored).sum())
    known = len(kept.log_id)
    if known not in (own, len(frames)) or not kept.starts(frames, mirrored):
        return judge(train, frames, mirrored, score_plans, config, seed)
    judged = Judged.open(vla / "teacher")
    require_rows(judged, known, vla / "teacher")
    return judged if judged is None or known == len(frames) else judged.with_mirror_images()
