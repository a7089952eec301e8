"""Make the `student` artefact: distil the VLA into a planner that runs without the VLM, and train a
control without a teacher.

The student is trained on the recorded futures like every planner, and on the teacher's targets for
the same rows: the VLM's code distributions (KL divergence at a temperature) and the fusion module's
memory tokens. The control is the same network, trained on the same rows with the same recipe and
seed.

    out/config.json, out/model.safetensors     the student in the Hugging Face layout
    out/student.onnx, out/student_int8.onnx    the deployed student
    out/calibration.onnx                       image locations of the ground, its input, per camera
    out/no_teacher/                            the control without a teacher
    out/history/                               metrics of each training run, JSON lines
    out/report.json
"""

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch

from models.planners.student import StudentNet, StudentOutput
from ops.planners import baselines
from ops.planners.checkpoint import count_parameters, load_planner
from ops.planners.config import PlannerRecipe, without_teacher
from ops.planners.latency import measure_latency
from ops.planners.measure import PlannerFigures, measure_planners
from ops.planners.planner import Planner
from ops.planners.propose import plan_rows
from ops.planners.recipe import planner_arrays, planner_job
from ops.planners.scored_proposals import ScorePlans
from ops.planners.training_arrays import TrainingArrays, evenly_spaced, plannable_rows
from ops.student.config import StudentConfig
from ops.student.export import ExportReport, export
from ops.student.predict import Student, StudentPlanner
from ops.training.config import ComputeConfig
from ops.training.runs import Clock, TrainingRuns
from ops.vla.code_accuracy import CodeAccuracy, code_accuracy
from ops.vla.planner import VlaPlanner, open_vla
from ops.vla.planner_rows import planner_rows
from ops.vla.teacher import TeacherTargets, student_parts
from ops.vla.vlm import VlmRows, run_vlm, run_vlm_in_processes
from storage.dataset import FrameSet

TRAININGS = ("student", "no_teacher", "planner")


@dataclass(frozen=True, slots=True)
class StudentReport:
    """Figures of the `student` artefact, measured on the val split."""

    train_rows: int
    val_rows: int
    # constant velocity, the VLA, the student (also in 8 bits) and the control
    planners: tuple[PlannerFigures, ...]
    code_agreement: float  # share of slots with the same top-1 code of student and VLM
    code_kl_nats: float  # KL(VLM || student) per slot at temperature 1
    memory_cosine: float  # mean cosine similarity of the student's and the teacher's memory tokens
    codes: CodeAccuracy  # of the student's predicted codes
    scored_by: str  # "pdm_score" or "displacement"
    export: ExportReport
    # planner, p50 and p95 of one plan, measured in one run on one thread
    latency_ms: tuple[tuple[str, float, float], ...]
    speed_up: float  # p50 of the VLA / p50 of the student
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
    """Fill `out` with the student and its control, from the finished `vla` and its splits.

    The other arguments are those of ops.vla.finetune.finetune. Raises ArtifactError if `vla` is
    missing or unfinished.
    """
    torch.set_num_threads(compute.threads)
    training, clock = TrainingRuns(compute, runs, name, seed), Clock()
    teacher = open_vla(vla)
    rows = planner_rows(train, vla, score_plans, seed, steps=config.steps, mirror=config.mirror)
    targets = teacher_targets(vla, teacher, rows.frames, rows.mirrored, compute)
    arrays = replace(rows.arrays, code_logits=targets.code_logits, memory=targets.memory)
    arrays.save(training.arrays("planner"))
    clock.lap("teacher's targets, scored proposals")

    students = _train_students(out, config, rows.recipe, targets, training)
    clock.lap("student, no_teacher")
    check_rows = evenly_spaced(np.arange(len(arrays)), config.check_rows)
    exported = export(students["student"], arrays.take(check_rows), out, int8=config.int8)
    clock.lap("export")

    measured = val.take(evenly_spaced(plannable_rows(val), config.val_rows))
    report = _report(
        measured,
        train,
        teacher,
        out,
        students,
        exported,
        config,
        score_plans,
        len(arrays),
        "displacement" if arrays.subscores is None else "pdm_score",
    )
    clock.lap("measure")
    report = replace(report, seconds=clock.laps)
    (out / "report.json").write_text(json.dumps(asdict(report), indent=1))
    training.finish(TRAININGS, out / "history")
    return report


def teacher_targets(
    vla: Path, planner: VlaPlanner, frames: FrameSet, flipped: np.ndarray, compute: ComputeConfig
) -> TeacherTargets:
    """The teacher's targets for these rows: those stored in the `vla` artefact, and newly predicted
    ones for the rows that it does not hold.
    """
    stored = TeacherTargets.open(vla / "teacher")
    num_stored = len(stored.log_id) if stored.match_first_rows_of(frames, flipped) else 0
    if num_stored == len(frames):
        return stored
    rest = frames.take(np.arange(num_stored, len(frames)))
    rows = VlmRows.of(rest, planner.image_hw)
    vlm_outputs = run_vlm_in_processes(vla / "vlm", rows, compute)
    predicted = TeacherTargets.predict(planner.model, vlm_outputs, rest, flipped[num_stored:])
    return stored.concatenated(predicted) if num_stored else predicted


def _train_students(
    out: Path,
    config: StudentConfig,
    recipe: PlannerRecipe,
    targets: TeacherTargets,
    training: TrainingRuns,
) -> dict[str, StudentNet]:
    """Train the student and the control without a teacher; their networks by part."""
    parts = student_parts(recipe.planner, targets)
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
    return {part: load_planner(folder, "student") for part, folder in folders.items()}


def _report(
    rows: FrameSet,
    train: FrameSet,
    teacher: VlaPlanner,
    out: Path,
    students: dict[str, StudentNet],
    exported: ExportReport,
    config: StudentConfig,
    score_plans: ScorePlans | None,
    train_rows: int,
    scored_by: str,
) -> StudentReport:
    vlm_outputs = run_vlm(teacher.vlm, VlmRows.of(rows, teacher.image_hw))
    memory = TeacherTargets.predict(
        teacher.model, vlm_outputs, rows, np.zeros(len(rows), bool)
    ).memory.astype(np.float32)
    arrays = replace(
        planner_arrays(rows, students["student"].planner.config),
        visual=vlm_outputs.visual,
        action=vlm_outputs.action,
    )
    student = _outputs(students["student"], arrays)
    logits = student.code_logits_BSK.numpy()
    log_teacher, log_student = (
        values - np.logaddexp.reduce(values, axis=-1, keepdims=True)
        for values in (vlm_outputs.code_logits.astype(np.float64), logits.astype(np.float64))
    )
    plans = {
        "constant_velocity": baselines.constant_velocity(rows),
        "vla": plan_rows(teacher.model, arrays),
        "student": plan_rows(students["student"], arrays),
        "student_no_teacher": plan_rows(students["no_teacher"], arrays),
    }
    parameters = {
        "vla": teacher.parameters,
        "student": count_parameters(students["student"]),
        "student_no_teacher": count_parameters(students["no_teacher"]),
    }
    timed: dict[str, Planner] = {"vla": teacher, "student": _deployed(out, "onnx")}
    if config.int8:
        timed["student_int8"] = _deployed(out, "int8")
        plans["student_int8"] = timed["student_int8"].plan(rows)
        parameters["student_int8"] = parameters["student"]
    latency = {
        row["planner"]: row
        for row in measure_latency(timed, rows, calls=config.latency_calls).to_pylist()
    }
    return StudentReport(
        train_rows,
        len(rows),
        measure_planners(rows, plans, parameters, score_plans),
        code_agreement=float((logits.argmax(-1) == vlm_outputs.codes).mean()),
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
def _outputs(student: StudentNet, arrays: TrainingArrays) -> StudentOutput:
    assert arrays.images is not None and arrays.camera is not None
    return student(*map(torch.from_numpy, (arrays.images, arrays.camera, arrays.status)))
