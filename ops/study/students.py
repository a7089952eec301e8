"""The students of the study: one network and recipe, trained on different rows and targets.

    <study>/students/<name>     the student in the Hugging Face layout, and its history

Legend: L labelled rows, U rows without labels, N = L + U, S code slots, K codes, V visual tokens, C
hidden width of the VLM.
"""

import os
import shutil
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from models.planners.config import ImitatorConfig, PlannerConfig
from ops.ablation.recorded_codes import recorded_code_logits
from ops.pdm.score_rows import PlanScorer
from ops.planners.checkpoint import load_planner
from ops.planners.ensemble import PlannerEnsemble
from ops.planners.recipe import fitted_to_rows, fused_parts, planner_arrays, planner_job
from ops.planners.scored_proposals import ScoredProposals, score_proposals
from ops.planners.training_arrays import TrainingArrays, planner_frames
from ops.study.arms import ARMS, StudentKey
from ops.study.config import StudyConfig
from ops.study.teachers import TeacherCodes, vlm_folder, vlm_streams
from ops.study.towns import Town, together
from ops.training.config import ComputeConfig
from ops.training.runs import TrainingJob, TrainingRuns
from ops.vla.vlm import VlmOutputs, VlmRows, open_vlm, run_vlm
from storage.artifact import Lineage, write_artifact
from storage.dataset import FrameSet
from storage.errors import ArtifactError


@dataclass(frozen=True, slots=True)
class StudyRows:
    """The rows of all students, those with labels first."""

    arrays: TrainingArrays  # of N rows; the target plan of a row without labels is NaN
    odometry: np.ndarray  # (U, 8, 3) float32, the plans that the other rows' odometry gives
    log_id: np.ndarray  # (N,) str
    frame_index: np.ndarray  # (N,) int32
    planner: PlannerConfig
    vlm_rows: VlmRows  # what a VLM sees of the L labelled rows

    @property
    def labelled(self) -> int:
        """L."""
        return len(self.arrays) - len(self.odometry)

    def codes_of(self, teacher: Path) -> TeacherCodes:
        """What a teacher of the study says of these rows. Raises ArtifactError for other rows."""
        codes = TeacherCodes.open(teacher / "vlm")
        same = np.array_equal(codes.log_id, self.log_id) and np.array_equal(
            codes.frame_index, self.frame_index
        )
        if not same:
            raise ArtifactError(
                "the teacher's codes are those of other rows",
                where=teacher,
                expected=f"{len(self.log_id)} rows",
                found=f"{len(codes.log_id)} rows",
                do="remove the folder and start the study again",
            )
        return codes


def read_study_rows(towns: Sequence[Town], config: StudyConfig, processes: int) -> StudyRows:
    """Read the students' rows, and score proposals for those with labels."""
    size_hw, recipe = config.vla.image_hw, config.recipe
    read = [(town, town.read("labelled", size_hw)) for town in towns]
    others = together([(town, town.read("unlabelled", size_hw)) for town in towns])
    labelled, unlabelled = (
        planner_frames(rows, recipe.rows)[0] for rows in (together(read), others)
    )
    planner = fitted_to_rows(recipe.planner, labelled)
    frames = FrameSet.concatenated([labelled, unlabelled])
    scored = _scored(read, labelled, config, processes)
    rest = len(unlabelled)
    padded = ScoredProposals(
        np.pad(scored.plans, ((0, rest), (0, 0), (0, 0), (0, 0))),
        np.pad(scored.subscores, ((0, rest), (0, 0), (0, 0)), constant_values=np.nan),
    )
    future = np.concatenate([labelled.future, np.full_like(unlabelled.future, np.nan)])
    return StudyRows(
        replace(planner_arrays(frames, planner, padded), future=future),
        unlabelled.future,
        frames.log_id.astype(str),
        frames.frame_index,
        planner,
        VlmRows.of(labelled),
    )


@dataclass(frozen=True)
class StudentTraining:
    """Trains students of the study on its rows."""

    rows: StudyRows
    config: StudyConfig
    root: Path  # <study>
    compute: ComputeConfig
    runs: Path

    def train(self, students: Sequence[tuple[StudentKey, Lineage]]) -> None:
        """Train students, `compute.at_once` at a time, each an artefact."""
        training = TrainingRuns(self.compute, self.runs, "study", 0)
        with ExitStack() as stack:
            jobs, outs = [], {}
            for key, lineage in students:
                part = f"{key.name}-{lineage.version}"
                outs[part] = stack.enter_context(write_artifact(self.folder(key), lineage))
                jobs.append(self._job(key, part, outs[part], replace(training, seed=key.seed)))
            if jobs:
                training.launch_all(jobs)
            for part, out in outs.items():
                training.finish((part,), out / "history")

    def folder(self, key: StudentKey) -> Path:
        """Folder of a student."""
        return self.root / "students" / key.name

    def _job(self, key: StudentKey, part: str, out: Path, training: TrainingRuns) -> TrainingJob:
        arm = ARMS[key.arm]
        own = self._readings(key) if arm.reads else self._targets(key)
        return planner_job(
            part,
            arm.kind,
            self._parts(own, bool(arm.reads)),
            out,
            self.config.recipe,
            training,
            imitation=None if arm.reads else self.config.imitation_of(key.arm),
            arrays=self._arrays(part, own, arm.unlabelled, training),
            labelled_rows=self.rows.labelled if arm.unlabelled else 0,
        )

    def _parts(self, own: dict[str, np.ndarray], fused: bool) -> dict[str, Any]:
        """The network's configurations, by name."""
        if fused:
            width = own["visual"].shape[-1]
            return fused_parts(self.rows.planner, self.config.vla.fusion, width)
        imitator = ImitatorConfig(0, *self.config.code_layout)
        return {"planner": self.rows.planner, "imitator": imitator}

    def _readings(self, key: StudentKey) -> dict[str, np.ndarray]:
        """What the planner reads of the VLM on the labelled rows, (L, V, C) and (L, S, C)
        float16.
        """
        assert key.teacher is not None
        if key.teacher not in self._read:
            vlm = open_vlm(vlm_folder(self.root, key.teacher))
            self._read[key.teacher] = run_vlm(vlm, self.rows.vlm_rows)
        return vlm_streams(self._read[key.teacher], ARMS[key.arm].reads)

    @cached_property
    def _read(self) -> dict[int, VlmOutputs]:
        return {}  # by teacher

    def _targets(self, key: StudentKey) -> dict[str, np.ndarray]:
        """The arrays by which the other arms differ: target plans (N, 8, 3) and code logits
        (N, S, K).
        """
        rows = self.rows
        logits = np.full((len(rows.arrays), *self.config.code_layout), np.nan)
        future = rows.arrays.future
        if key.teacher is not None:
            codes = rows.codes_of(self.root / "teachers" / str(key.teacher))
            logits = codes.logits
            if key.arm == "recorded_codes":
                logits = recorded_code_logits(codes.codes, codes.valid, logits.shape[-1])
        if key.arm in ("odometry", "ensemble"):
            plans = rows.odometry if key.arm == "odometry" else self.ensemble_plans
            future = np.concatenate([future[: rows.labelled], plans.astype(np.float32)])
        return {"future": future, "code_logits": logits.astype(np.float16)}

    def plan_by_ensemble(self, members: Sequence[StudentKey], lineage: Lineage) -> None:
        """Write the plans of these students' ensemble on the rows without labels, an artefact."""
        ensemble = PlannerEnsemble([load_planner(self.folder(key), "student") for key in members])
        rest = self.rows.arrays.take(np.arange(self.rows.labelled, len(self.rows.arrays)))
        with write_artifact(self.root / "ensemble", lineage) as out:
            np.save(out / "plans.npy", ensemble.plan(rest))

    @cached_property
    def ensemble_plans(self) -> np.ndarray:
        """Plans (U, 8, 3) of the ensemble on the rows without labels."""
        return np.load(self.root / "ensemble" / "plans.npy")

    @property
    def _shared_folder(self) -> Path:
        return self.runs / f"study-rows-{os.getpid()}"

    @cached_property
    def _shared(self) -> Path:
        """Folder with the arrays that all students read; written once a process."""
        self.rows.arrays.save(self._shared_folder)
        return self._shared_folder

    def remove_shared(self) -> None:
        """Remove the arrays that all students read."""
        shutil.rmtree(self._shared_folder, ignore_errors=True)

    def _arrays(
        self, part: str, targets: dict[str, np.ndarray], unlabelled: bool, training: TrainingRuns
    ) -> Path:
        """Folder of a student's arrays: links to the shared ones, and its own targets."""
        folder = training.arrays(part)
        folder.mkdir(parents=True, exist_ok=True)
        memory = np.zeros((len(self.rows.arrays), 0, self.rows.planner.width), dtype=np.float16)
        rows = slice(None if unlabelled else self.rows.labelled)
        for name, values in {**targets, "memory": memory}.items():
            np.save(folder / f"{name}.npy", values[rows])
        for file in self._shared.glob("*.npy"):
            if file.stem not in targets:
                (folder / file.name).unlink(missing_ok=True)
                if unlabelled:
                    os.link(file, folder / file.name)
                else:
                    np.save(folder / file.name, np.load(file, mmap_mode="r")[rows])
        return folder


def _scored(
    read: Sequence[tuple[Town, FrameSet]], labelled: FrameSet, config: StudyConfig, processes: int
) -> ScoredProposals:
    """Scored proposals of the labelled rows, town by town."""
    parts = []
    for town, rows in read:
        own = labelled.take(np.char.startswith(labelled.log_id.astype(str), f"{town.seed}/"))
        own = replace(own, log_id=np.array([log.split("/")[1] for log in own.log_id], object))
        with PlanScorer(town.lake, processes) as score_plans:
            scored = score_proposals(
                rows,
                own,
                np.zeros(len(own), bool),
                score_plans,
                config.recipe.proposal_scoring,
                town.seed,
            )
        if scored is None:
            raise ArtifactError(
                "no labelled row of a town is a scene",
                where=town.lake.root,
                expected="rows with 1.5 s of past and 5 s of future",
                do="give the study more or longer logs",
            )
        parts.append(scored)
    return ScoredProposals(
        np.concatenate([part.plans for part in parts]),
        np.concatenate([part.subscores for part in parts]),
    )
