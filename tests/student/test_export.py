"""The exported student, and planning with it without training code."""

import json
import shutil
import subprocess
import sys
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch

from models.planners.attention import Attention
from models.planners.deploy import FoldedAttention, fold
from ops.planners.checkpoint import load_planner
from ops.planners.recipe import planner_arrays
from ops.student.export import export, run_onnx
from ops.student.predict import Student, command_number, predict_file
from storage.camera import camera_numbers, crop_box, fit_images
from storage.errors import ArtifactError, ConfigError
from tests.worlds.tiny_vla import CAMERA, trained_artifacts

MOTION = np.array([[6.0, 0.1, -0.5, 0.2], [2.0, 0.0, 0.0, 0.0]])


def test_onnx_gives_the_plans_of_torch():
    rows = trained_artifacts().val
    student = load_planner(trained_artifacts().student, "student")
    images = fit_images(rows.images, (28, 56))
    with torch.no_grad():
        expected = student.plan(*map(torch.from_numpy, (images, rows.camera, rows.status))).numpy()
    locations, visible = run_onnx(
        trained_artifacts().student / "calibration.onnx", {"camera": rows.camera}
    )
    inputs = {"images": images, "places": locations, "seen": visible, "status": rows.status}
    first = {name: values[:1] for name, values in inputs.items()}
    assert (
        np.abs(run_onnx(trained_artifacts().student / "student.onnx", inputs)[0] - expected).max()
        < 1e-4
    )
    assert (
        np.abs(
            run_onnx(trained_artifacts().student / "student.onnx", first)[0] - expected[:1]
        ).max()
        < 1e-4
    )


@pytest.mark.parametrize("memory_width", [None, 8])
def test_folded_attention_gives_the_outputs_of_the_trained_attention(memory_width):
    torch.manual_seed(0)
    trained = Attention(16, 4, memory_width)
    folded = fold(torch.nn.Sequential(trained))[0]
    assert isinstance(folded, FoldedAttention) and isinstance(trained, Attention)
    query, memory = torch.randn(2, 5, 16), torch.randn(2, 7, memory_width or 16)
    assert torch.allclose(folded(query, memory), trained(query, memory), atol=1e-6)
    if memory_width is None:
        assert torch.allclose(folded(query, query), trained(query, query), atol=1e-6)


@pytest.mark.parametrize("runtime", ["onnx", "int8"])
def test_a_single_row_gets_the_same_plan_as_in_a_batch(runtime):
    """Single rows use a session of fixed shapes."""
    student, rows = (
        Student.from_pretrained(trained_artifacts().student, runtime=runtime),
        trained_artifacts().val.take(np.arange(3)),
    )
    motion = np.concatenate([rows.velocity, rows.acceleration], axis=1)
    together = student.plan(rows.images, motion, rows.command, rows.camera)
    alone = [
        student.plan(
            rows.images[row : row + 1],
            motion[row : row + 1],
            rows.command[row : row + 1],
            rows.camera[row : row + 1],
        )[0]
        for row in range(3)
    ]
    assert np.abs(together - np.stack(alone)).max() < 1e-4


def test_the_export_report_has_parity_sizes_and_the_8_bit_difference():
    report = trained_artifacts().student_report.export
    assert report.rows == 16 and report.parity_m <= 1e-4 and report.other_choice == 0.0
    assert report.int8_difference_m < 0.5 and report.onnx_bytes > 0 and report.int8_bytes > 0


def test_an_exported_student_with_other_plans_is_an_error(tmp_path, monkeypatch):
    student = load_planner(trained_artifacts().student, "student")
    rows = trained_artifacts().val
    real_run_onnx = run_onnx

    def wrong_plans(file, inputs):
        return (
            [np.ones((len(rows), 8, 3), np.float32)]
            if file.name == "student.onnx"
            else real_run_onnx(file, inputs)
        )

    monkeypatch.setattr("ops.student.export.run_onnx", wrong_plans)
    with pytest.raises(ArtifactError, match="plans differently"):
        export(student, planner_arrays(rows, student.planner.config), tmp_path, int8=False)


def test_all_runtimes_give_similar_plans():
    images = trained_artifacts().val.images[:2]
    plans = {
        name: Student.from_pretrained(trained_artifacts().student, runtime=name).plan(
            images, MOTION, ["left", 1]
        )
        for name in ("onnx", "torch", "int8")
    }
    assert plans["onnx"].shape == (2, 8, 3)
    assert np.allclose(plans["onnx"], plans["torch"], atol=1e-4) and np.allclose(
        plans["onnx"], plans["int8"], atol=0.5
    )


def test_plans_depend_on_the_calibration_and_its_default_is_that_of_the_training_logs():
    images, student = (
        trained_artifacts().val.images[:2],
        Student.from_pretrained(trained_artifacts().student),
    )
    commands = ["left", "right"]
    default = student.plan(images, MOTION, commands)
    assert np.array_equal(default, student.plan(images, MOTION, commands, CAMERA))
    assert np.array_equal(
        default, student.plan(images, MOTION, commands, np.tile(camera_numbers(CAMERA), (2, 1)))
    )
    higher = CAMERA.camera_to_ego.copy()
    higher[2, 3] += 1.0
    assert not np.array_equal(
        default, student.plan(images, MOTION, commands, replace(CAMERA, camera_to_ego=higher))
    )
    with pytest.raises(ConfigError, match="camera and images have different sizes"):
        student.plan(images, MOTION, commands, replace(CAMERA, width=50))
    with pytest.raises(ConfigError, match="camera has the wrong shape"):
        student.plan(images, MOTION, commands, camera_numbers(CAMERA))


def test_a_taller_image_is_cropped_at_the_top_and_resized_by_area():
    image = np.random.default_rng(0).integers(0, 255, (1, 63, 112, 3), dtype=np.uint8)
    fitted = fit_images(image, (28, 56))
    assert crop_box(63, 112, (28, 56)) == (7, 0, 56, 112)
    assert np.array_equal(
        fitted[0], cv2.resize(image[0, 7:], (56, 28), interpolation=cv2.INTER_AREA)
    )
    student = Student.from_pretrained(trained_artifacts().student)
    assert np.array_equal(
        student.plan(image, MOTION[:1], ["left"]), student.plan(image[:, 7:], MOTION[:1], ["left"])
    )


@pytest.mark.parametrize(
    ("images", "motion", "command", "message"),
    [
        (np.zeros((2, 28, 56), np.uint8), MOTION, ["left", "left"], "images have the wrong shape"),
        (
            np.zeros((2, 28, 56, 3), np.float32),
            MOTION,
            ["left", "left"],
            "images have the wrong shape",
        ),
        (np.zeros((2, 14, 28, 3), np.uint8), MOTION, ["left", "left"], "smaller"),
        (np.zeros((2, 28, 56, 3), np.uint8), MOTION[:1], ["left", "left"], "ego_status has"),
        (np.zeros((2, 28, 56, 3), np.uint8), MOTION * np.nan, ["left", "left"], "ego_status has"),
        (np.zeros((2, 28, 56, 3), np.uint8), MOTION * 20, ["left", "left"], "that no car has"),
        (np.zeros((2, 28, 56, 3), np.uint8), MOTION, ["left"], "one value per image"),
        (np.zeros((2, 28, 56, 3), np.uint8), MOTION, ["left", "strait"], "did you mean 'straight'"),
        (np.zeros((2, 28, 56, 3), np.uint8), MOTION, [0, 7], "no command '7'"),
    ],
)
def test_an_invalid_input_is_an_error_that_gives_the_reason(images, motion, command, message):
    with pytest.raises(ConfigError, match=message):
        Student.from_pretrained(trained_artifacts().student).plan(images, motion, command)


def test_commands_are_accepted_by_name_and_by_number():
    assert [command_number(item) for item in ("left", "STRAIGHT", "right", 3)] == [0, 1, 2, 3]


def test_a_missing_student_and_an_unknown_runtime_are_errors(tmp_path):
    with pytest.raises(ArtifactError, match="no student for this runtime"):
        Student.from_pretrained(tmp_path)
    with pytest.raises(ConfigError, match="did you mean 'onnx'"):
        Student.from_pretrained(trained_artifacts().student, runtime="onx")


@pytest.mark.parametrize("runtime", ["onnx", "torch"])
def test_every_runtime_rejects_another_format_version_and_another_network(runtime, tmp_path):
    folder = tmp_path / "student"
    shutil.copytree(trained_artifacts().student, folder)
    config = json.loads((folder / "config.json").read_text())
    for changes, message in (
        ({"format_version": 99}, r"another format version[\s\S]*99[\s\S]*train it again"),
        ({"model_type": "latentvla_planner"}, r"another kind[\s\S]*latentvla_student"),
    ):
        (folder / "config.json").write_text(json.dumps(config | changes))
        with pytest.raises(ArtifactError, match=message):
            Student.from_pretrained(folder, runtime=runtime)


def test_a_damaged_student_is_named(tmp_path):
    folder = tmp_path / "student"
    shutil.copytree(trained_artifacts().student, folder)
    (folder / "student.onnx").write_bytes((folder / "student.onnx").read_bytes()[:1000])
    student = Student.from_pretrained(folder)
    with pytest.raises(ArtifactError, match=r"ONNX file cannot be read[\s\S]*student.onnx"):
        student.plan(np.zeros((1, 28, 56, 3), np.uint8), MOTION[:1], ["left"])
    config = json.loads((folder / "config.json").read_text())
    for planner in ({}, {"image_hw": "x", "camera": []}, []):
        (folder / "config.json").write_text(json.dumps(config | {"planner": planner}))
        with pytest.raises(ArtifactError, match="configuration of this student is damaged"):
            Student.from_pretrained(folder)


def test_predict_file_plans_for_one_image_file(tmp_path):
    file = tmp_path / "front.png"
    cv2.imwrite(str(file), trained_artifacts().val.images[0][:, :, ::-1])
    plan = predict_file(trained_artifacts().student, file, speed_mps=6.0, command="straight")
    student = Student.from_pretrained(trained_artifacts().student)
    expected = student.plan(
        trained_artifacts().val.images[:1], np.array([[6.0, 0, 0, 0]]), ["straight"]
    )
    assert np.allclose(plan, expected[0])
    with pytest.raises(ConfigError, match="cannot be read"):
        predict_file(trained_artifacts().student, tmp_path / "none.png", speed_mps=6.0)


def test_planning_needs_neither_transformers_nor_ray_nor_torch(tmp_path):
    code = f"""
import json, sys
import numpy as np
from latentvla import Student
student = Student.from_pretrained({str(trained_artifacts().student)!r})
plan = student.plan(np.zeros((1, 56, 112, 3), np.uint8), np.ones((1, 4)), ["left"])
not_needed = ("transformers", "torch", "ray", "dagster", "zarr", "peft", "great_expectations")
print(json.dumps([list(plan.shape), [name for name in not_needed if name in sys.modules]]))
"""
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(out.stdout) == [[1, 8, 3], []]


def test_the_calibration_graph_runs_again_only_for_another_camera(monkeypatch):
    student, rows = (
        Student.from_pretrained(trained_artifacts().student),
        trained_artifacts().val.take(np.arange(1)),
    )
    higher = CAMERA.camera_to_ego.copy()
    higher[2, 3] += 1.0
    other = replace(CAMERA, camera_to_ego=higher)

    def plan(camera):
        return student.plan(rows.images, MOTION[:1], ["left"], camera)

    first, second = plan(CAMERA), plan(other)
    assert not np.array_equal(first, second)
    both = student.plan(np.repeat(rows.images, 2, axis=0), MOTION[[0, 0]], ["left", "left"], other)
    assert np.array_equal(plan(CAMERA), first) and np.allclose(second[0], both[1], atol=1e-4)
    monkeypatch.setattr(
        "ops.student.predict.open_session",
        lambda *_: pytest.fail("the calibration graph was opened for the same camera"),
    )
    student._runtime._sessions.pop(("calibration", True))
    assert np.array_equal(plan(CAMERA), first)
