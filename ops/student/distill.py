"""Make the `student` artefact: the planner that imitates the VLM instead of asking it, and its
control.

Not the teacher, which stays as it is. The student learns from the recorded futures like every
planner, and beside that from what the VLA said about the same rows: its code distributions (KL at a
temperature) and its pooled features. The control is the same network with the same rows, recipe and
seed and no word from the teacher.

    out/config.json, out/model.safetensors      the student in the Hugging Face layout
    out/student.onnx, out/student_int8.onnx     the student as it is deployed; both are told where the ground lies in their
    out/calibration.onnx                        images, which this one works out once for a camera
    out/no_teacher/                             the control
    out/history/                                one JSON-lines file of metrics a training run
    out/report.json
"""

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from models.planners.config import ImitatorConfig
from models.planners.student import StudentNet, StudentOutput
from ops.planners import baselines
from ops.planners.checkpoint import count_parameters, load_planner
from ops.planners.fit_planner import without_teacher
from ops.planners.latency import measure_latency
from ops.planners.measure import PlannerFigures, measure_planners
from ops.planners.propose import plan_rows
from ops.planners.recipe import planner_arrays, planner_job, read_recipe
from ops.planners.scored_proposals import ScorePlans
from ops.planners.training_arrays import TrainingArrays, plannable_rows, planner_frames, spread
from ops.student.config import StudentConfig
from ops.student.export import ExportReport, export
from ops.student.predict import Student, StudentPlanner
from ops.training.config import ComputeConfig
from ops.training.runs import Clock, TrainingRuns
from ops.vla.code_accuracy import CodeAccuracy, code_accuracy
from ops.vla.planner import VlaPlanner, open_vla
from ops.vla.teacher import TeacherTargets, scored_proposals_for
from ops.vla.vlm import run_vlm, run_vlm_in_processes
from storage.camera import fit_images
from storage.dataset import FrameSet

PARTS = ("student", "no_teacher", "planner")


@dataclass(frozen=True, slots=True)
class StudentReport:
    """What the student learned; figures on the val split."""

    train_rows: int
    val_rows: int
    # VLA, student (also in 8 bits), control, constant velocity for scale
    planners: tuple[PlannerFigures, ...]
    # share of slots where student and VLM say the same code
    code_agreement: float
    code_kl_nats: float  # KL(VLM || student) a slot at temperature 1
    # mean cosine of the student's and the fusion's pooled features
    memory_cosine: float
    codes: CodeAccuracy  # the student's own codes against the recorded ones
    scored_by: str  # "pdm_score" or "displacement"
    export: ExportReport
    # planner, p50, p95 of one plan, in one run on one thread
    latency_ms: tuple[tuple[str, float, float], ...]
    speed_up: float  # VLA's p50 over the student's
    seconds: tuple[tuple[str, float], ...]  # wall time of each part


def distill(
    train: FrameSet,
    val: FrameSet,
    vla: Path,
    out: Path,
    config: StudentConfig,
    *,
    score_plans: ScorePlans | None,
    compute: ComputeConfig,
    runs: Path,
    name: str,
    seed: int,
) -> StudentReport:
    """Fill `out` with the student and its control, from the finished `vla` and the splits it was
    made from.

    The arguments are those of ops.finetune.finetune. Raises ArtifactError if `vla` is missing or
    unfinished.
    """
    torch.set_num_threads(compute.threads)
    training, clock = TrainingRuns(compute, runs, name, seed), Clock()
    recipe, _ = read_recipe(vla)
    recipe = replace(recipe, fit=replace(recipe.fit, steps=config.steps or recipe.fit.steps))
    teacher_planner = open_vla(vla)
    frames, flipped = planner_frames(
        train, replace(recipe.rows, mirror=recipe.rows.mirror or config.mirror)
    )
    teacher = teacher_of(vla, teacher_planner, frames, flipped, compute)
    scored = scored_proposals_for(
        vla, train, frames, flipped, score_plans, recipe.proposal_scoring, seed
    )
    arrays = replace(
        planner_arrays(frames, recipe.planner, scored),
        code_logits=teacher.code_logits,
        memory=teacher.memory,
    )
    arrays.save(training.arrays("planner"))
    clock.lap("teacher")

    parts = {
        "planner": recipe.planner,
        "imitator": ImitatorConfig(memory_tokens=teacher.memory.shape[1]),
    }
    folders = {"student": out, "no_teacher": out / "no_teacher"}
    imitations = {"student": config.imitation, "no_teacher": without_teacher(config.imitation)}
    training.launch_all(
        [
            planner_job(
                part, "student", parts, folders[part], recipe, training, imitation=imitations[part]
            )
            for part in folders
        ]
    )
    clock.lap("student and no_teacher")
    made: dict[str, StudentNet] = {
        part: load_planner(folder, "student") for part, folder in folders.items()
    }
    checked = spread(np.arange(len(arrays)), config.check_rows)
    exported = export(made["student"], arrays.take(checked), out, int8=config.int8)
    clock.lap("export")

    measured = val.take(spread(plannable_rows(val), config.val_rows))
    report = _report(
        measured,
        train,
        teacher_planner,
        out,
        made,
        exported,
        config,
        score_plans,
        len(frames),
        "displacement" if scored is None else "pdm_score",
    )
    clock.lap("measure")
    report = replace(report, seconds=clock.laps)
    (out / "report.json").write_text(json.dumps(asdict(report), indent=1))
    training.finish(PARTS, out / "history")
    return report


def teacher_of(
    vla: Path, planner: VlaPlanner, frames: FrameSet, flipped: np.ndarray, compute: ComputeConfig
) -> TeacherTargets:
    """What the VLA says about these rows; what its artefact does not hold of them is read anew."""
    kept = TeacherTargets.open(vla / "teacher")
    known = len(kept.log_id) if kept.match_first_rows_of(frames, flipped) else 0
    if known == len(frames):
        return kept
    asked = frames.take(np.arange(known, len(frames)))
    vlm_outputs = run_vlm_in_processes(
        vla / "vlm", fit_images(asked.images, planner.image_hw), asked.status, compute
    )
    said = TeacherTargets.predict(planner.model, vlm_outputs, asked, flipped[known:])
    return kept.concatenated(said) if known else said


def _report(
    rows: FrameSet,
    train: FrameSet,
    teacher: VlaPlanner,
    out: Path,
    made: dict[str, StudentNet],
    exported: ExportReport,
    config: StudentConfig,
    score_plans: ScorePlans | None,
    train_rows: int,
    scored_by: str,
) -> StudentReport:
    said = run_vlm(teacher.vlm, fit_images(rows.images, teacher.image_hw), rows.status)
    memory = TeacherTargets.predict(
        teacher.model, said, rows, np.zeros(len(rows), bool)
    ).memory.astype(np.float32)
    arrays = replace(
        planner_arrays(rows, made["student"].planner.config), visual=said.visual, action=said.action
    )
    student = _say(made["student"], arrays)
    logits = student.code_logits_BSK.numpy()
    log_teacher, log_student = (
        values - np.logaddexp.reduce(values, axis=-1, keepdims=True)
        for values in (said.code_logits.astype(np.float64), logits.astype(np.float64))
    )
    plans = {
        "constant_velocity": baselines.constant_velocity(rows),
        "vla": plan_rows(teacher.model, arrays),
        "student": plan_rows(made["student"], arrays),
        "student_no_teacher": plan_rows(made["no_teacher"], arrays),
    }
    parameters = {
        "vla": teacher.parameters,
        "student": count_parameters(made["student"]),
        "student_no_teacher": count_parameters(made["no_teacher"]),
    }
    timed: dict[str, Any] = {"vla": teacher, "student": _deployed(out, "onnx")}
    if config.int8:
        timed["student_int8"] = _deployed(out, "int8")
        plans["student_int8"], parameters["student_int8"] = (
            timed["student_int8"].plan(rows),
            parameters["student"],
        )
    latency = {
        row["planner"]: row
        for row in measure_latency(timed, rows, calls=config.latency_calls).to_pylist()
    }
    return StudentReport(
        train_rows,
        len(rows),
        measure_planners(rows, plans, parameters, score_plans),
        code_agreement=float((logits.argmax(-1) == said.codes).mean()),
        code_kl_nats=float((np.exp(log_teacher) * (log_teacher - log_student)).sum(-1).mean()),
        memory_cosine=float(
            torch.nn.functional.cosine_similarity(
                student.memory_BMD, torch.from_numpy(memory), dim=-1
            ).mean()
        ),
        codes=code_accuracy(logits, rows.codes, rows.codes_valid, train.codes, train.codes_valid),
        scored_by=scored_by,
        export=exported,
        latency_ms=tuple(
            (planner, row["p50_ms"], row["p95_ms"]) for planner, row in latency.items()
        ),
        speed_up=latency["vla"]["p50_ms"] / latency["student"]["p50_ms"],
        seconds=(),
    )


def _deployed(folder: Path, runtime: str) -> StudentPlanner:
    student = Student.from_pretrained(folder, runtime=runtime)
    return StudentPlanner(student, student.parameters)


@torch.no_grad()
def _say(student: StudentNet, arrays: TrainingArrays) -> StudentOutput:
    assert arrays.images is not None and arrays.camera is not None
    return student(*map(torch.from_numpy, (arrays.images, arrays.camera, arrays.status)))
