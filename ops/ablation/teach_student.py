"""The student with another teacher than the VLA, for the ablation: the controls of distillation.

Network, rows, mirror images, steps, scored proposals and seed are those of the student of the same
seed (ops/student/distill.py); only the targets differ. Two teachers are here, both of codes alone:
the recorded codes, and the blind baseline of the VLM, which sees no image. The third is in
ops/ablation/ensemble.py.

    out/config.json, out/model.safetensors     the student
    out/history/                               metrics of each training run, JSON lines

Legend: N rows, S code slots, K codes, M memory tokens, D planner width.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ops.ablation.recorded_codes import recorded_code_logits, require_codes
from ops.planners.config import ImitationConfig
from ops.planners.recipe import planner_job
from ops.planners.scored_proposals import ScorePlans
from ops.planners.training_arrays import TrainingArrays
from ops.student.config import StudentConfig
from ops.training.config import ComputeConfig, FitConfig
from ops.training.runs import TrainingRuns
from ops.vla.blind_codes import blind_code_logits
from ops.vla.planner_rows import PlannerRows, planner_rows
from ops.vla.teacher import TeacherTargets, student_parts
from storage.dataset import FrameSet

PART = "student"


@dataclass(frozen=True, slots=True)
class StudentTask:
    """A student's training but for the teacher's targets."""

    rows: PlannerRows
    parts: dict[str, Any]  # configurations of its network, by name
    arrays: TrainingArrays  # the rows, with NaN for every target of a teacher
    imitation: ImitationConfig
    training: TrainingRuns
    train: FrameSet  # the whole split
    out: Path

    def code_targets(self, code_logits: np.ndarray) -> "StudentTargets":
        """The training with these logits (N, S, K) as targets, of the codes alone."""
        arrays = replace(self.arrays, code_logits=code_logits.astype(np.float16))
        return StudentTargets(arrays, self.rows.recipe.fit, self.imitation)


@dataclass(frozen=True, slots=True)
class StudentTargets:
    """What a teacher makes of the training of a student."""

    arrays: TrainingArrays
    fit: FitConfig
    imitation: ImitationConfig
    labelled_rows: int = 0  # see PlannerTraining
    parts: tuple[str, ...] = ()  # the teacher's own training runs


Teacher = Callable[[StudentTask], StudentTargets]


def train_student(
    train: FrameSet,
    vla: Path,
    out: Path,
    config: StudentConfig,
    teacher: Teacher,
    *,
    score_plans: ScorePlans | None,
    compute: ComputeConfig,
    runs: Path,
    name: str,
    seed: int,
) -> None:
    """Fill `out` with the student of this teacher; `vla` is the finished VLA of the same seed and
    rows.

    The other arguments are those of ops.vla.finetune.finetune. Raises ArtifactError if `vla` is
    missing or unfinished.
    """
    torch.set_num_threads(compute.threads)
    training = TrainingRuns(compute, runs, name, seed)
    rows = planner_rows(train, vla, score_plans, seed, steps=config.steps, mirror=config.mirror)
    parts = student_parts(rows.recipe.planner, TeacherTargets.open(vla / "teacher"))
    arrays = without_targets(rows.arrays, parts)
    targets = teacher(StudentTask(rows, parts, arrays, config.imitation, training, train, out))
    targets.arrays.save(training.arrays(PART))
    training.launch(
        planner_job(
            PART,
            "student",
            parts,
            out,
            rows.recipe,
            training,
            targets.fit,
            targets.imitation,
            training.arrays(PART),
            targets.labelled_rows,
        )
    )
    training.finish((PART, *targets.parts), out / "history")


def recorded_codes(task: StudentTask) -> StudentTargets:
    """The codes themselves, for certain: what a VLM without any error would teach of them. Mirror
    images, and slots without a valid code, have no target.
    """
    frames, num_codes = task.rows.frames, task.parts["imitator"].codes
    require_codes(frames, num_codes)
    return task.code_targets(recorded_code_logits(frames.codes, frames.codes_valid, num_codes))


def blind_teacher(task: StudentTask) -> StudentTargets:
    """The distributions of the VLM's blind baseline: what ego status and command tell of the codes.
    Mirror images have targets too.
    """
    rows, choice = task.rows.frames, task.rows.recipe.rows
    codes, seed = task.parts["imitator"].codes, task.training.seed
    return task.code_targets(blind_code_logits(task.train, rows, choice, codes, seed))


def without_targets(arrays: TrainingArrays, parts: dict[str, Any]) -> TrainingArrays:
    """The arrays with NaN for every target of a teacher of a student with these configurations."""
    imitator, count = parts["imitator"], len(arrays)
    codes = (count, imitator.code_slots, imitator.codes)
    memory = (count, imitator.memory_tokens, parts["planner"].width)
    return replace(
        arrays,
        code_logits=np.full(codes, np.nan, np.float16),
        memory=np.full(memory, np.nan, np.float16),
    )
