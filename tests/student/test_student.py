"""The student: its imitation losses, its control without a teacher, and the artefacts that finetune
and distill write.
"""

import json
import shutil
from dataclasses import fields, replace

import numpy as np
import pytest
import torch

from assets.chain.metadata import codes_by_position
from models.planners.config import ImitatorConfig
from models.planners.planner import plan_loss
from models.planners.student import StudentNet, StudentOutput, imitation_loss
from ops.planners.checkpoint import load_planner, save_planner
from ops.planners.config import ImitationConfig, without_teacher
from ops.planners.recipe import read_recipe
from ops.planners.scored_proposals import ScoredProposals
from ops.planners.training_arrays import planner_frames
from ops.student.distill import teacher_targets
from ops.student.predict import Student, StudentPlanner
from ops.training.config import ComputeConfig
from ops.vla.code_accuracy import calibration_error, code_accuracy
from ops.vla.finetune import finetune
from ops.vla.planner import open_vla
from ops.vla.teacher import TeacherTargets, scored_proposals_for
from ops.vla.vlm import run_vlm_in_processes
from storage.errors import ArtifactError
from tests.worlds.tiny_vla import (
    RECIPE,
    SMALL_PLANNER,
    VLA,
    score_by_displacement,
    tiny_frames,
    trained_artifacts,
)


def covers(targets: TeacherTargets, frames, mirrored) -> bool:
    """True if the targets belong to exactly these rows."""
    return len(targets.log_id) == len(frames) and targets.match_first_rows_of(frames, mirrored)


def small_student(seed: int = 0) -> StudentNet:
    torch.manual_seed(seed)
    return StudentNet(SMALL_PLANNER, ImitatorConfig())


def batch_of(rows: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Images, camera numbers, ego status and recorded future of `rows` rows."""
    frames = tiny_frames(1, rows)
    return (
        torch.from_numpy(frames.images[:, ::2, ::2].copy()),
        torch.from_numpy(frames.camera),
        torch.from_numpy(frames.status),
        torch.from_numpy(frames.future),
    )


def test_the_student_predicts_codes_memory_tokens_and_plans():
    images, camera, status, _ = batch_of(3)
    output = small_student().eval()(images, camera, status)
    assert output.code_logits_BSK.shape == (3, 12, 16) and output.memory_BMD.shape == (3, 4, 16)
    assert output.proposals.plans_BK83.shape == (3, 3, 8, 3)


def test_the_imitation_losses_are_zero_for_equal_distributions_and_directions():
    output = StudentOutput(None, None, torch.randn(2, 12, 16), torch.randn(2, 4, 16))  # type: ignore[arg-type]
    divergence, distance = imitation_loss(
        output, output.code_logits_BSK + 3.0, 7.0 * output.memory_BMD, temperature=2.0
    )
    assert abs(divergence) < 1e-5 and abs(distance) < 1e-5


def test_the_code_loss_is_the_kl_divergence_at_the_temperature():
    output = StudentOutput(None, None, torch.randn(1, 1, 16), torch.ones(1, 1, 2))  # type: ignore[arg-type]
    teacher = torch.randn(1, 1, 16)
    p, q = (logits[0, 0].div(2.0).softmax(dim=-1) for logits in (teacher, output.code_logits_BSK))
    expected = 4.0 * (p * (p.log() - q.log())).sum()
    assert torch.allclose(
        imitation_loss(output, teacher, torch.ones(1, 1, 2), 2.0)[0], expected, atol=1e-6
    )


def test_slots_and_rows_without_a_target_do_not_count():
    output = StudentOutput(None, None, torch.randn(2, 12, 16), torch.randn(2, 4, 16))  # type: ignore[arg-type]
    logits, memory = torch.randn_like(output.code_logits_BSK), output.memory_BMD.clone()
    whole, _ = imitation_loss(output, logits, memory, 2.0)
    single = replace(
        output, code_logits_BSK=output.code_logits_BSK[:1], memory_BMD=output.memory_BMD[:1]
    )
    first, _ = imitation_loss(single, logits[:1], memory[:1], 2.0)
    logits[1], memory[1] = torch.nan, torch.nan
    divergence, distance = imitation_loss(output, logits, memory, 2.0)
    assert divergence == pytest.approx(float(first), rel=1e-5) and divergence != whole
    assert distance == pytest.approx(0, abs=1e-6)
    nothing = imitation_loss(output, logits * torch.nan, memory * torch.nan, 2.0)
    assert [float(term) for term in nothing] == [0.0, 0.0]


def test_the_gradient_reaches_every_parameter():
    images, camera, status, future = batch_of(4)
    student = small_student()
    output = student(images, camera, status)
    loss = sum(imitation_loss(output, torch.randn(4, 12, 16), torch.randn(4, 4, 16), 2.0))
    loss = loss + plan_loss(output.proposals, future, student.planner.scale_83)[0]
    (loss + student.planner.scorer(output.proposals.plans_BK83, output.scene).sum()).backward()
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


def test_the_control_differs_only_in_the_weights_of_the_imitation():
    with_teacher = ImitationConfig()
    # 0.5 gave 74.3 PDMS, 0.1 76.7: docs/log.md
    assert (with_teacher.code_weight, with_teacher.memory_weight) == (0.1, 0.1)
    control = without_teacher(with_teacher)
    assert (control.code_weight, control.memory_weight) == (0.0, 0.0)
    assert (
        replace(
            control, code_weight=with_teacher.code_weight, memory_weight=with_teacher.memory_weight
        )
        == with_teacher
    )
    parts = [
        json.loads((trained_artifacts().student / folder / "config.json").read_text())
        for folder in (".", "no_teacher")
    ]
    assert parts[0] == parts[1]


def test_a_saved_and_loaded_student_gives_the_same_plans_bit_for_bit(tmp_path):
    images, camera, status, _ = batch_of(3)
    student = small_student().eval()
    save_planner(tmp_path, student)
    plans = student.plan(images, camera, status)
    assert torch.equal(load_planner(tmp_path, "student").plan(images, camera, status), plans)


def test_code_accuracy_of_a_case_calculated_by_hand():
    codes = np.array([[0, 1], [1, 1], [1, 0]])
    valid = np.array([[True, True], [True, True], [True, False]])
    logits = np.full((3, 2, 2), 0.0)
    # predicts these codes, each with probability 3/4
    logits[np.arange(3)[:, None], np.arange(2), [[0, 1], [0, 1], [1, 1]]] = np.log(3.0)
    accuracy = code_accuracy(logits, codes, valid, train_codes=codes, train_valid=valid)
    assert accuracy.rows == 3
    assert accuracy.accuracy == 4 / 5 and accuracy.majority_accuracy == 4 / 5
    assert accuracy.accuracy_by_slot == (2 / 3, 1.0)
    assert accuracy.majority_accuracy_by_slot == (2 / 3, 1.0)
    assert np.isclose(accuracy.cross_entropy_nats, -(4 * np.log(0.75) + np.log(0.25)) / 5)
    assert np.isclose(accuracy.calibration_error, abs(4 / 5 - 0.75))
    with pytest.raises(ArtifactError, match="has no valid code"):
        code_accuracy(logits, codes, valid & [True, False], codes, valid)


def test_confidence_equal_to_the_accuracy_has_no_calibration_error():
    confidence = np.repeat([0.25, 0.75], 4)
    assert calibration_error(confidence, np.array([1, 0, 0, 0, 1, 1, 1, 0])) == 0.0
    assert calibration_error(confidence, np.zeros(8)) == 0.5


def test_the_artefacts_contain_the_documented_files():
    vla, student = trained_artifacts().vla, trained_artifacts().student
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
    assert not any((vla.parent / "runs").iterdir())  # the folders of finished runs are removed


def test_the_reports_have_the_figures_of_the_val_split():
    report, student = trained_artifacts().vla_report, trained_artifacts().student_report
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
    assert json.loads((trained_artifacts().vla / "report.json").read_text())["codes"]["rows"] == 10
    assert [row[0] for row in student.latency_ms] == [
        "vla",
        "student",
        "student_int8",
    ] and student.speed_up > 1
    figures = {item.planner: item for item in student.planners}
    assert figures["student_int8"].ade_m == pytest.approx(figures["student"].ade_m, abs=0.5)
    assert 0 <= student.code_agreement <= 1 and student.code_kl_nats >= 0


def test_the_metadata_have_a_row_for_every_code_slot():
    rows = codes_by_position(
        json.loads((trained_artifacts().vla / "report.json").read_text())["codes"]
    )
    assert [row["position"] for row in rows] == list(range(1, 13))
    assert (
        rows[4]["calibration error"]
        == trained_artifacts().vla_report.codes.calibration_error_by_slot[4]
    )


def test_the_students_recipe_is_that_of_the_planners(tmp_path):
    recipe, image_hw = read_recipe(trained_artifacts().vla)
    assert image_hw == VLA.image_hw
    constants = {"offset_scale": RECIPE.planner.offset_scale, "camera": RECIPE.planner.camera}
    assert replace(recipe, planner=replace(recipe.planner, **constants)) == RECIPE
    assert (
        recipe.planner.offset_scale
        == load_planner(trained_artifacts().vla / "planner_alone", "planner").config.offset_scale
    )
    with pytest.raises(ArtifactError, match="no finished VLA"):
        read_recipe(tmp_path)


def test_the_teachers_targets_are_stored_for_exactly_the_rows_of_the_planners():
    frames, flipped = planner_frames(trained_artifacts().train, RECIPE.rows)
    teacher = TeacherTargets.open(trained_artifacts().vla / "teacher")
    assert covers(teacher, frames, flipped) and teacher.code_logits.shape == (96, 12, 16)
    assert not covers(teacher, frames, ~flipped) and not covers(
        teacher, frames.take(np.arange(95)), flipped[:95]
    )


def test_targets_of_other_rows_are_predicted_again_with_the_same_result():
    frames, flipped = planner_frames(trained_artifacts().train, RECIPE.rows)
    fewer = np.arange(5, 96, 9)
    stored = TeacherTargets.open(trained_artifacts().vla / "teacher")
    predicted = teacher_targets(
        trained_artifacts().vla,
        open_vla(trained_artifacts().vla),
        frames.take(fewer),
        flipped[fewer],
        ComputeConfig(threads=1),
    )
    assert covers(predicted, frames.take(fewer), flipped[fewer])
    assert np.allclose(predicted.code_logits, stored.code_logits[fewer], atol=2e-3)
    assert np.allclose(predicted.memory, stored.memory[fewer], atol=1e-2)


def test_for_mirrored_rows_targets_are_predicted_only_for_the_mirror_images(tmp_path, monkeypatch):
    frames, flipped = planner_frames(trained_artifacts().train, RECIPE.rows)
    both = TeacherTargets.open(trained_artifacts().vla / "teacher")
    scored = ScoredProposals.open(trained_artifacts().vla / "teacher")
    originals = np.flatnonzero(~flipped)
    vla = tmp_path / "vla"
    shutil.copytree(trained_artifacts().vla, vla)
    stored = TeacherTargets(
        *(getattr(both, item.name)[originals] for item in fields(TeacherTargets))
    )
    stored.save(vla / "teacher")
    ScoredProposals(scored.plans[originals], scored.subscores[originals]).save(vla / "teacher")
    vlm_rows = []
    monkeypatch.setattr(
        "ops.student.distill.run_vlm_in_processes",
        lambda folder, rows, compute: (
            vlm_rows.append(len(rows)) or run_vlm_in_processes(folder, rows, compute)
        ),
    )
    targets = teacher_targets(vla, open_vla(vla), frames, flipped, ComputeConfig(threads=1))
    assert vlm_rows == [flipped.sum()] and covers(targets, frames, flipped)
    assert np.array_equal(targets.memory[originals], stored.memory)
    assert np.allclose(targets.code_logits, both.code_logits, atol=2e-3)
    proposals = scored_proposals_for(
        vla, trained_artifacts().train, frames, flipped, None, RECIPE.proposal_scoring, 0
    )
    assert np.array_equal(proposals.plans, scored.plans)
    assert np.array_equal(proposals.subscores, scored.subscores, equal_nan=True)


def tiny_finetune(train, heldout, out):
    return finetune(
        train,
        heldout,
        out,
        VLA,
        num_codes=16,
        score_plans=score_by_displacement,
        compute=ComputeConfig(threads=1),
        runs=out / "runs",
        name="none",
        seed=0,
    )


def test_a_split_without_codes_is_an_error(tmp_path):
    frames = tiny_frames(1, 20)
    frames.codes_valid[:] = False
    with pytest.raises(ArtifactError, match="no rows to train the VLM on"):
        tiny_finetune(frames, frames, tmp_path)


def test_no_held_out_row_is_an_error_before_anything_is_trained(tmp_path):
    frames = tiny_frames(1, 20)
    short = frames.take(np.arange(len(frames)))
    short.future_valid[:] = False
    with pytest.raises(ArtifactError, match="no held-out rows to measure the VLA on"):
        tiny_finetune(frames, short, tmp_path)
    assert not any(tmp_path.iterdir())


def test_the_evaluation_asks_the_student_for_a_bounded_number_of_rows_at_once():
    asked = []

    def runtime(images, camera, status):
        asked.append(len(images))
        return np.tile(status[:, :1, None], (1, 8, 3))

    frames = tiny_frames(5, 30)
    student = Student(runtime, frames.images.shape[1:3], np.zeros(19, np.float32), 1)
    plans = StudentPlanner(student, 1).plan(frames)
    assert len(frames) == 150 and asked == [64, 64, 22]
    assert np.allclose(plans[:, 0, 0], frames.velocity[:, 0])
    assert StudentPlanner(student, 1).plan(frames.take(np.zeros(0, int))).shape == (0, 8, 3)
