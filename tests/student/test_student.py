"""The student: what it imitates, what its control lacks, and the artefacts that finetune and
distill leave behind.
"""

import json
import shutil
from dataclasses import fields, replace

import numpy as np
import pytest
import torch

from assets.vla import codes_by_position
from models.planners.config import ImitatorConfig
from models.planners.planner import plan_loss
from models.planners.student import StudentOutput, StudentPlanner, imitation_loss
from ops.planners.checkpoint import load_planner, save_planner
from ops.planners.config import ImitationConfig
from ops.planners.fit_planner import without_teacher
from ops.planners.recipe import read_recipe
from ops.planners.scored_proposals import ScoredProposals
from ops.planners.training_arrays import planner_frames
from ops.student.distill import teacher_of
from ops.training.config import ComputeConfig
from ops.vla.code_accuracy import calibration_error, code_accuracy
from ops.vla.finetune import finetune
from ops.vla.planner import open_vla
from ops.vla.teacher import TeacherTargets, scored_proposals_for
from ops.vla.vlm import run_vlm_in_processes
from storage.errors import ArtifactError
from tests.worlds.tiny_vla import RECIPE, SMALL_PLANNER, VLA, made, near_the_human, tiny_frames


def small_student(seed: int = 0) -> StudentPlanner:
    torch.manual_seed(seed)
    return StudentPlanner(SMALL_PLANNER, ImitatorConfig())


def batch_of(rows: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Images, camera numbers, ego status, recorded future."""
    frames = tiny_frames(1, rows)
    return (
        torch.from_numpy(frames.images[:, ::2, ::2].copy()),
        torch.from_numpy(frames.camera),
        torch.from_numpy(frames.status),
        torch.from_numpy(frames.future),
    )


def test_the_student_says_codes_features_and_plans():
    images, camera, status, _ = batch_of(3)
    said = small_student().eval()(images, camera, status)
    assert said.code_logits_BSK.shape == (3, 12, 16) and said.memory_BMD.shape == (3, 4, 16)
    assert said.found.plans_BK83.shape == (3, 3, 8, 3)


def test_imitation_costs_nothing_when_there_is_nothing_left_to_learn():
    said = StudentOutput(None, None, torch.randn(2, 12, 16), torch.randn(2, 4, 16))  # type: ignore[arg-type]
    divergence, distance = imitation_loss(
        said, said.code_logits_BSK + 3.0, 7.0 * said.memory_BMD, temperature=2.0
    )
    assert abs(divergence) < 1e-5 and abs(distance) < 1e-5


def test_the_divergence_is_that_of_the_definition():
    said = StudentOutput(None, None, torch.randn(1, 1, 16), torch.ones(1, 1, 2))  # type: ignore[arg-type]
    teacher = torch.randn(1, 1, 16)
    p, q = (logits[0, 0].div(2.0).softmax(dim=-1) for logits in (teacher, said.code_logits_BSK))
    by_hand = 4.0 * (p * (p.log() - q.log())).sum()
    assert torch.allclose(
        imitation_loss(said, teacher, torch.ones(1, 1, 2), 2.0)[0], by_hand, atol=1e-6
    )


def test_every_trained_number_gets_a_gradient():
    images, camera, status, future = batch_of(4)
    student = small_student()
    said = student(images, camera, status)
    loss = sum(imitation_loss(said, torch.randn(4, 12, 16), torch.randn(4, 4, 16), 2.0))
    loss = loss + plan_loss(said.found, future, student.planner.scale_83)[0]
    (loss + student.planner.scorer(said.found.plans_BK83, said.scene).sum()).backward()
    assert [name for name, parameter in student.named_parameters() if parameter.grad is None] == []


def test_the_student_learns_a_teachers_codes():
    images, camera, status, _ = batch_of(8)
    student, teacher = (
        small_student(),
        3.0 * torch.randn(8, 12, 16, generator=torch.Generator().manual_seed(0)),
    )
    optimizer = torch.optim.Adam(student.parameters(), lr=1e-2)
    for _ in range(240):
        optimizer.zero_grad()
        loss = imitation_loss(student(images, camera, status), teacher, torch.zeros(8, 4, 16), 1.0)[
            0
        ]
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        agree = student.eval()(images, camera, status).code_logits_BSK.argmax(-1) == teacher.argmax(
            -1
        )
    assert agree.float().mean() > 0.9


def test_the_control_differs_in_the_weight_of_the_teacher_alone():
    with_teacher = ImitationConfig()
    control = without_teacher(with_teacher)
    assert (control.code_weight, control.memory_weight) == (0.0, 0.0)
    assert (
        replace(
            control, code_weight=with_teacher.code_weight, memory_weight=with_teacher.memory_weight
        )
        == with_teacher
    )
    parts = [
        json.loads((made().student / folder / "config.json").read_text())
        for folder in (".", "no_teacher")
    ]
    assert parts[0] == parts[1]


def test_it_saves_and_loads_the_same_bits(tmp_path):
    images, camera, status, _ = batch_of(3)
    student = small_student().eval()
    save_planner(tmp_path, student)
    plans = student.plan(images, camera, status)
    assert torch.equal(load_planner(tmp_path, "student").plan(images, camera, status), plans)


def test_code_accuracy_of_a_case_done_by_hand():
    codes = np.array([[0, 1], [1, 1], [1, 0]])
    valid = np.array([[True, True], [True, True], [True, False]])
    logits = np.full((3, 2, 2), 0.0)
    # says these, each with 3/4
    logits[np.arange(3)[:, None], np.arange(2), [[0, 1], [0, 1], [1, 1]]] = np.log(3.0)
    found = code_accuracy(logits, codes, valid, train_codes=codes, train_valid=valid)
    assert found.rows == 3 and found.accuracy == 4 / 5 and found.majority_accuracy == 4 / 5
    assert found.accuracy_by_slot == (2 / 3, 1.0) and found.majority_accuracy_by_slot == (
        2 / 3,
        1.0,
    )
    assert np.isclose(found.cross_entropy_nats, -(4 * np.log(0.75) + np.log(0.25)) / 5)
    assert np.isclose(found.calibration_error, abs(4 / 5 - 0.75))
    with pytest.raises(ArtifactError, match="without a single code"):
        code_accuracy(logits, codes, valid & [True, False], codes, valid)


def test_confidence_that_comes_true_has_no_calibration_error():
    confidence = np.repeat([0.25, 0.75], 4)
    assert calibration_error(confidence, np.array([1, 0, 0, 0, 1, 1, 1, 0])) == 0.0
    assert calibration_error(confidence, np.zeros(8)) == 0.5


def test_the_artefacts_hold_what_they_promise():
    vla, student = made().vla, made().student
    for file in (
        "vlm/model.safetensors",
        "vlm/tokenizer.json",
        "vlm/preprocessor_config.json",
        "planner/model.safetensors",
        "planner_alone/config.json",
        "ego_status_mlp/config.json",
        "teacher/teacher.npz",
        "history/vlm.jsonl",
        "teacher/scored_proposals.npz",
        "history/planner.jsonl",
        "config.json",
        "report.json",
    ):
        assert (vla / file).exists(), file
    for file in (
        "model.safetensors",
        "config.json",
        "student.onnx",
        "student_int8.onnx",
        "no_teacher/model.safetensors",
        "history/student.jsonl",
        "report.json",
    ):
        assert (student / file).exists(), file
    assert not any((vla.parent / "runs").iterdir())  # nothing of the finished runs is left


def test_the_reports_measure_the_val_split():
    report, student = made().vla_report, made().student_report
    assert (
        report.val_rows == student.val_rows == 10
        and report.scored_by == student.scored_by == "pdm_score"
    )
    assert report.vlm_rows == 48 and report.train_rows == 96  # each row and its mirror image
    assert [item.planner for item in report.planners] == [
        "human",
        "stopped",
        "constant_velocity",
        "constant_turn_rate",
        "ego_status_mlp",
        "planner_alone",
        "vla",
    ]
    human = report.planners[0]
    assert human.ade_m == 0.0 and human.pdms == 100.0
    assert json.loads((made().vla / "report.json").read_text())["codes"]["rows"] == 10
    assert [row[0] for row in student.latency_ms] == [
        "vla",
        "student",
        "student_int8",
    ] and student.speed_up > 1
    figures = {item.planner: item for item in student.planners}
    assert figures["student_int8"].ade_m == pytest.approx(figures["student"].ade_m, abs=0.5)
    assert 0 <= student.code_agreement <= 1 and student.code_kl_nats >= 0


def test_the_metadata_tell_every_position_of_the_codes():
    rows = codes_by_position(json.loads((made().vla / "report.json").read_text())["codes"])
    assert [row["position"] for row in rows] == list(range(1, 13))
    assert rows[4]["calibration error"] == made().vla_report.codes.calibration_error_by_slot[4]


def test_the_students_recipe_is_the_planners(tmp_path):
    recipe, image_hw = read_recipe(made().vla)
    assert image_hw == VLA.image_hw
    made_constants = {"offset_scale": RECIPE.planner.offset_scale, "camera": RECIPE.planner.camera}
    assert replace(recipe, planner=replace(recipe.planner, **made_constants)) == RECIPE
    assert (
        recipe.planner.offset_scale
        == load_planner(made().vla / "planner_alone", "planner").config.offset_scale
    )
    with pytest.raises(ArtifactError, match="no finished VLA"):
        read_recipe(tmp_path)


def test_the_teachers_words_are_kept_for_exactly_the_planners_rows():
    frames, flipped = planner_frames(made().train, RECIPE.rows)
    teacher = TeacherTargets.open(made().vla / "teacher")
    assert teacher.covers(frames, flipped) and teacher.code_logits.shape == (96, 12, 16)
    assert not teacher.covers(frames, ~flipped) and not teacher.covers(
        frames.take(np.arange(95)), flipped[:95]
    )


def test_other_rows_than_the_teachers_are_read_anew_and_say_the_same():
    frames, flipped = planner_frames(made().train, RECIPE.rows)
    fewer = np.arange(5, 96, 9)
    kept = TeacherTargets.open(made().vla / "teacher")
    anew = teacher_of(
        made().vla,
        open_vla(made().vla),
        frames.take(fewer),
        flipped[fewer],
        ComputeConfig(threads=1),
    )
    assert anew.covers(frames.take(fewer), flipped[fewer])
    assert np.allclose(anew.code_logits, kept.code_logits[fewer], atol=2e-3)
    assert np.allclose(anew.memory, kept.memory[fewer], atol=1e-2)


def test_a_student_of_mirrored_rows_keeps_the_teachers_words_and_asks_for_the_mirror_images_alone(
    tmp_path, monkeypatch
):
    frames, flipped = planner_frames(made().train, RECIPE.rows)
    whole, scored, own = (
        TeacherTargets.open(made().vla / "teacher"),
        ScoredProposals.open(made().vla / "teacher"),
        np.flatnonzero(~flipped),
    )
    vla = tmp_path / "vla"
    shutil.copytree(made().vla, vla)
    kept = TeacherTargets(*(getattr(whole, item.name)[own] for item in fields(TeacherTargets)))
    kept.save(vla / "teacher")
    ScoredProposals(scored.plans[own], scored.subscores[own]).save(vla / "teacher")
    asked = []
    monkeypatch.setattr(
        "ops.student.distill.run_vlm_in_processes",
        lambda folder, images, *rest: (
            asked.append(len(images)) or run_vlm_in_processes(folder, images, *rest)
        ),
    )
    said = teacher_of(vla, open_vla(vla), frames, flipped, ComputeConfig(threads=1))
    assert asked == [flipped.sum()] and said.covers(frames, flipped)
    assert np.array_equal(said.memory[own], kept.memory) and np.allclose(
        said.code_logits, whole.code_logits, atol=2e-3
    )
    plans = scored_proposals_for(
        vla, made().train, frames, flipped, None, RECIPE.proposal_scoring, 0
    )
    assert np.array_equal(plans.plans, scored.plans) and np.array_equal(
        plans.subscores, scored.subscores, equal_nan=True
    )


def test_a_split_without_codes_is_refused(tmp_path):
    frames = tiny_frames(1, 20)
    frames.codes_valid[:] = False
    with pytest.raises(ArtifactError, match="nothing for the VLM to learn"):
        finetune(
            frames,
            frames,
            tmp_path,
            VLA,
            score_plans=near_the_human,
            compute=ComputeConfig(threads=1),
            runs=tmp_path / "runs",
            name="none",
            seed=0,
        )
