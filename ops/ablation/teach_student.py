"""The student with another teacher than the VLA, for the ablation: what the lessons of the VLM are
compared with.

Network, rows, mirror images, steps, scored proposals and seed are those of the student of the same
seed (ops/student/distill.py); only the lesson differs. Two teachers are here, both of codes alone:
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
from ops.student.training_rows import StudentRows, student_parts, student_rows
from ops.training.config import ComputeConfig, FitConfig
from ops.training.runs import TrainingRuns
from ops.vla.blind_codes import blind_code_logits
from ops.vla.teacher import TeacherTargets
from storage.dataset import FrameSet

PART = "student"


@dataclass(frozen=True, slots=True)
class Pupil:
    """A student before its lesson."""

    rows: StudentRows
    parts: dict[str, Any]  # configurations of its network, by name
    untaught: TrainingArrays  # the rows, with NaN for every target of a teacher
    imitation: ImitationConfig
    training: TrainingRuns
    train: FrameSet  # the whole split
    out: Path

    def lesson_of_codes(self, code_logits: np.ndarray) -> "Lesson":
        """The lesson with these targets (N, S, K) of the codes alone."""
        arrays = replace(self.untaught, code_logits=code_logits.astype(np.float16))
        return Lesson(arrays, self.rows.recipe.fit, self.imitation)


@dataclass(frozen=True, slots=True)
class Lesson:
    """What a teacher makes of the training of a student."""

    arrays: TrainingArrays
    fit: FitConfig
    imitation: ImitationConfig
    labelled_rows: int = 0  # see PlannerTraining
    parts: tuple[str, ...] = ()  # the teacher's own training runs


Teacher = Callable[[Pupil], Lesson]


def train_taught_student(
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
    rows = student_rows(train, vla, config, score_plans, seed)
    parts = student_parts(rows.recipe, TeacherTargets.open(vla / "teacher"))
    untaught = without_targets(rows.arrays, parts)
    lesson = teacher(Pupil(rows, parts, untaught, config.imitation, training, train, out))
    lesson.arrays.save(training.arrays(PART))
    training.launch(
        planner_job(
            PART,
            "student",
            parts,
            out,
            rows.recipe,
            training,
            lesson.fit,
            lesson.imitation,
            training.arrays(PART),
            lesson.labelled_rows,
        )
    )
    training.finish((PART, *lesson.parts), out / "history")


def recorded_codes(pupil: Pupil) -> Lesson:
    """The codes themselves, for certain: what a VLM without any error would teach of them. Mirror
    images, and slots without a valid code, have no target.
    """
    frames, num_codes = pupil.rows.frames, pupil.parts["imitator"].codes
    require_codes(frames, num_codes)
    return pupil.lesson_of_codes(recorded_code_logits(frames.codes, frames.codes_valid, num_codes))


def blind_teacher(pupil: Pupil) -> Lesson:
    """The distributions of the VLM's blind baseline: what ego status and command tell of the codes.
    Mirror images have targets too.
    """
    rows, choice = pupil.rows.frames, pupil.rows.recipe.rows
    codes, seed = pupil.parts["imitator"].codes, pupil.training.seed
    return pupil.lesson_of_codes(blind_code_logits(pupil.train, rows, choice, codes, seed))


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
