"""The study on logs without labels: what is latent-action distillation worth where few logs have
labels?

Codebook and VLM learn from logs with video and odometry alone. The students (ops/study/arms.py)
learn from the same labelled rows, and some of them from what a teacher says of the others. Every
part is an artefact: what is current is not made again, and an interrupted training resumes.

    <study>/town-<seed>/       logs of one town, a lake
    <study>/teachers/<number>  codebook and VLM
    <study>/students/<name>    networks
    <study>/ensemble           plans of the positive control's teacher
    <study>/scores/<split>     scores of the students
"""

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from ops.pool import worker_pool
from ops.study.arms import CONTROL, StudentKey, students_of
from ops.study.config import StudyConfig
from ops.study.scores import StudentScorer, scores_folder
from ops.study.students import StudentTraining, read_study_rows
from ops.study.teachers import TeacherJob
from ops.study.towns import Town, make_town, town_lineages, towns
from ops.training.config import ComputeConfig
from storage.artifact import Lineage, is_current, planned_lineage

_FIRST_MEMBER_SEED = 1000  # of the ensemble; far from those of the students


@dataclass(frozen=True)
class Study:
    """One study: its folder, configuration and versions."""

    root: Path
    config: StudyConfig
    code: Mapping[str, str]  # code versions of `towns`, `teachers`, `students` and `scores`
    compute: ComputeConfig
    processes: int
    log: Callable[[str], None]

    def make(self) -> None:
        """Make everything that is missing or stale."""
        for folder in self._runs.glob("study-rows-*"):  # of a killed process
            shutil.rmtree(folder)
        for town in self._towns:
            make_town(town, self.config.towns, self._town_lineages(town), self.processes, self.log)
        self._make_teachers()
        todo = [key for key in self.students if not self._is_scored(key)]
        if not todo:
            return
        training = StudentTraining(
            read_study_rows(self._towns, self.config, self.processes),
            self.config,
            self.root,
            self.compute,
            self._runs,
        )
        try:
            self._make_ensemble(training)
            scorer = StudentScorer(self._towns, self.config, self.root)
            for seed in sorted({key.seed for key in todo}):
                keys = [key for key in todo if key.seed == seed]
                self._train(training, keys)
                scorer.score({key: self._score_lineage(key) for key in keys})
                self.log(f"  students of seed {seed}: {len(keys)} trained and scored")
        finally:
            training.remove_shared()

    @cached_property
    def students(self) -> list[StudentKey]:
        """All students of the study, seed by seed."""
        size = self.config.size
        return [key for seed in range(size.students) for key in students_of(seed, size.teachers)]

    @cached_property
    def _towns(self) -> list[Town]:
        return towns(self.root, self.config.towns)

    @property
    def _runs(self) -> Path:
        return self.root / ".runs"

    @cached_property
    def _town_versions(self) -> dict[str, str]:
        return {
            lineage.asset: lineage.version
            for town in self._towns
            for lineage in self._town_lineages(town).values()
        }

    def _town_lineages(self, town: Town) -> dict[str, Lineage]:
        return town_lineages(town, self.config.towns, self.code["towns"])

    def _make_teachers(self) -> None:
        jobs = [
            TeacherJob(
                number,
                self.root / "teachers" / str(number),
                self._teacher_lineages(number),
                self._towns,
                self.config,
                self.compute,
                self._runs,
            )
            for number in range(self.config.size.teachers)
        ]
        todo = [
            job
            for job in jobs
            if not all(
                is_current(job.folder / part, lineage.version)
                for part, lineage in job.lineages.items()
            )
        ]
        if not todo:
            return
        self.log(f"  {len(todo)} of {len(jobs)} teachers to train")
        with worker_pool(min(self.compute.at_once, len(todo))) as pool:
            for job, pending in [(job, pool.submit(job)) for job in todo]:
                pending.result()
                self.log(f"  teacher {job.number} trained")

    def _make_ensemble(self, training: StudentTraining) -> None:
        lineage = self._ensemble_lineage
        if is_current(self.root / "ensemble", lineage.version):
            return
        self._train(training, self._members)
        training.plan_by_ensemble(self._members, lineage)
        self.log("  ensemble trained")

    def _train(self, training: StudentTraining, keys: Sequence[StudentKey]) -> None:
        lineages = [(key, self._student_lineage(key)) for key in keys]
        training.train(
            [item for item in lineages if not is_current(training.folder(item[0]), item[1].version)]
        )

    @property
    def _members(self) -> list[StudentKey]:
        seeds = range(_FIRST_MEMBER_SEED, _FIRST_MEMBER_SEED + self.config.size.members)
        return [StudentKey(CONTROL, seed) for seed in seeds]

    @property
    def _logs(self) -> dict[str, Any]:
        size = self.config.size
        return {"labelled": size.labelled_logs, "unlabelled": size.unlabelled_logs}

    def _teacher_lineages(self, number: int) -> dict[str, Lineage]:
        config, name = self.config, f"teachers/{number}"
        codebook = planned_lineage(
            f"{name}/codebook",
            self._town_versions,
            {"codebook": config.codebook, "compute": self.compute, **self._logs},
            self.code["teachers"],
            number,
        )
        vlm = planned_lineage(
            f"{name}/vlm",
            {codebook.asset: codebook.version},
            {
                "vlm": config.vla.vlm,
                "fit": config.size.vlm_fit,
                "relabeled": config.relabeled,
                "rows": config.recipe.rows,
                "image_hw": config.vla.image_hw,
                "compute": self.compute,
            },
            self.code["teachers"],
            number,
        )
        return {"codebook": codebook, "vlm": vlm}

    @property
    def _ensemble_lineage(self) -> Lineage:
        members = {key.name: self._student_lineage(key).version for key in self._members}
        return planned_lineage("ensemble", members, self._logs, self.code["students"])

    def _student_lineage(self, key: StudentKey) -> Lineage:
        parents = dict(self._town_versions)
        if key.teacher is not None:
            vlm = self._teacher_lineages(key.teacher)["vlm"]
            parents[vlm.asset] = vlm.version
        if key.arm == "ensemble":
            parents["ensemble"] = self._ensemble_lineage.version
        config = {
            "arm": key.arm,
            "recipe": self.config.recipe,
            "imitation": self.config.imitation_of(key.arm),
            "code_layout": self.config.code_layout,
            "image_hw": self.config.vla.image_hw,
            "compute": self.compute,
            **self._logs,
        }
        return planned_lineage(
            f"students/{key.name}", parents, config, self.code["students"], key.seed
        )

    def _score_lineage(self, key: StudentKey) -> Lineage:
        student = self._student_lineage(key)
        config = {
            "split": self.config.split,
            "logs": getattr(self.config.size, f"{self.config.split}_logs"),
            "stride": self.config.evaluation.stride,
            "event_horizon_s": self.config.evaluation.event_horizon_s,
        }
        return planned_lineage(
            f"scores/{self.config.split}/{key.name}",
            {**self._town_versions, student.asset: student.version},
            config,
            self.code["scores"],
        )

    def _is_scored(self, key: StudentKey) -> bool:
        folder = scores_folder(self.root, self.config.split, key)
        return is_current(folder, self._score_lineage(key).version)
