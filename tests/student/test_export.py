"""The exported student, and planning with it where there is no training code."""

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
from tests.worlds.tiny_vla import CAMERA, made

MOTION = np.array([[6.0, 0.1, -0.5, 0.2], [2.0, 0.0, 0.0, 0.0]])


def test_onnx_plans_what_torch_plans():
    rows = made().val
    student = load_planner(made().student, "student")
    images = fit_images(rows.images, (28, 56))
    with torch.no_grad():
        expected = student.plan(*map(torch.from_numpy, (images, rows.camera, rows.status))).numpy()
    places, seen = run_onnx(made().student / "calibration.onnx", {"camera": rows.camera})
    inputs = {"images": images, "places": places, "seen": seen, "status": rows.status}
    first = {name: values[:1] for name, values in inputs.items()}
    assert np.abs(run_onnx(made().student / "student.onnx", inputs)[0] - expected).max() < 1e-4
    assert np.abs(run_onnx(made().student / "student.onnx", first)[0] - expected[:1]).max() < 1e-4


@pytest.mark.parametrize("memory_width", [None, 8])
def test_a_folded_attention_gives_what_the_trained_one_gives(memory_width):
    torch.manual_seed(0)
    trained = Attention(16, 4, memory_width)
    folded = fold(torch.nn.Sequential(trained))[0]
    assert isinstance(folded, FoldedAttention) and isinstance(trained, Attention)
    query, memory = torch.randn(2, 5, 16), torch.randn(2, 7, memory_width or 16)
    assert torch.allclose(folded(query, memory), trained(query, memory), atol=1e-6)
    if memory_width is None:
        assert torch.allclose(folded(query, query), trained(query, query), atol=1e-6)


@pytest.mark.parametrize("runtime", ["onnx", "int8"])
def test_one_row_alone_is_planned_as_among_others(runtime):
    """A single row has a session of its own, whose shapes are fixed."""
    student, rows = (
        Student.from_pretrained(made().student, runtime=runtime),
        made().val.take(np.arange(3)),
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


def test_the_export_report_tells_parity_size_and_what_eight_bits_cost():
    report = made().student_report.export
    assert report.rows == 16 and report.parity_m <= 1e-4 and report.other_choice == 0.0
    assert report.int8_difference_m < 0.5 and report.onnx_bytes > 0 and report.int8_bytes > 0


def test_a_student_that_exports_wrongly_is_an_error(tmp_path, monkeypatch):
    student = load_planner(made().student, "student")
    rows = made().val
    true_run = run_onnx

    def wrong_plans(file, inputs):
        return (
            [np.ones((len(rows), 8, 3), np.float32)]
            if file.name == "student.onnx"
            else true_run(file, inputs)
        )

    monkeypatch.setattr("ops.student.export.run_onnx", wrong_plans)
    with pytest.raises(ArtifactError, match="plans otherwise"):
        export(student, planner_arrays(rows, student.planner.config), tmp_path, int8=False)


def test_every_runtime_plans_alike():
    images = made().val.images[:2]
    plans = {
        name: Student.from_pretrained(made().student, runtime=name).plan(
            images, MOTION, ["left", 1]
        )
        for name in ("onnx", "torch", "int8")
    }
    assert plans["onnx"].shape == (2, 8, 3)
    assert np.allclose(plans["onnx"], plans["torch"], atol=1e-4) and np.allclose(
        plans["onnx"], plans["int8"], atol=0.5
    )


def test_the_calibration_of_the_images_counts_and_is_that_of_the_training_logs_where_none_is_given():
    images, student = made().val.images[:2], Student.from_pretrained(made().student)
    commands = ["left", "right"]
    plain = student.plan(images, MOTION, commands)
    assert np.array_equal(plain, student.plan(images, MOTION, commands, CAMERA))
    assert np.array_equal(
        plain, student.plan(images, MOTION, commands, np.tile(camera_numbers(CAMERA), (2, 1)))
    )
    higher = CAMERA.camera_to_ego.copy()
    higher[2, 3] += 1.0
    assert not np.array_equal(
        plain, student.plan(images, MOTION, commands, replace(CAMERA, camera_to_ego=higher))
    )
    with pytest.raises(ConfigError, match="calibration of other images"):
        student.plan(images, MOTION, commands, replace(CAMERA, width=50))
    with pytest.raises(ConfigError, match="no calibration"):
        student.plan(images, MOTION, commands, camera_numbers(CAMERA))


def test_a_camera_image_is_cut_at_the_top_and_shrunk_by_area():
    image = np.random.default_rng(0).integers(0, 255, (1, 63, 112, 3), dtype=np.uint8)
    fitted = fit_images(image, (28, 56))
    assert crop_box(63, 112, (28, 56)) == (7, 0, 56, 112)
    assert np.array_equal(
        fitted[0], cv2.resize(image[0, 7:], (56, 28), interpolation=cv2.INTER_AREA)
    )
    student = Student.from_pretrained(made().student)
    assert np.array_equal(
        student.plan(image, MOTION[:1], ["left"]), student.plan(image[:, 7:], MOTION[:1], ["left"])
    )


@pytest.mark.parametrize(
    ("images", "motion", "command", "message"),
    [
        (np.zeros((2, 28, 56), np.uint8), MOTION, ["left", "left"], "no images"),
        (np.zeros((2, 28, 56, 3), np.float32), MOTION, ["left", "left"], "no images"),
        (np.zeros((2, 14, 28, 3), np.uint8), MOTION, ["left", "left"], "smaller"),
        (np.zeros((2, 28, 56, 3), np.uint8), MOTION[:1], ["left", "left"], "no ego status"),
        (np.zeros((2, 28, 56, 3), np.uint8), MOTION * np.nan, ["left", "left"], "no ego status"),
        (np.zeros((2, 28, 56, 3), np.uint8), MOTION, ["left"], "one command an image"),
        (np.zeros((2, 28, 56, 3), np.uint8), MOTION, ["left", "strait"], "did you mean 'straight'"),
        (np.zeros((2, 28, 56, 3), np.uint8), MOTION, [0, 7], "no command '7'"),
    ],
)
def test_wrong_input_is_refused_with_its_reason(images, motion, command, message):
    with pytest.raises(ConfigError, match=message):
        Student.from_pretrained(made().student).plan(images, motion, command)


def test_commands_go_by_name_and_by_number():
    assert [command_number(item) for item in ("left", "STRAIGHT", "right", 3)] == [0, 1, 2, 3]


def test_a_missing_student_or_runtime_is_named(tmp_path):
    with pytest.raises(ArtifactError, match="no such student"):
        Student.from_pretrained(tmp_path)
    with pytest.raises(ConfigError, match="did you mean 'onnx'"):
        Student.from_pretrained(made().student, runtime="onx")


@pytest.mark.parametrize("runtime", ["onnx", "torch"])
def test_a_student_of_another_format_version_or_another_network_is_refused_by_every_runtime(
    runtime, tmp_path
):
    folder = tmp_path / "student"
    shutil.copytree(made().student, folder)
    config = json.loads((folder / "config.json").read_text())
    for changes, message in (
        ({"format_version": 99}, r"another format version[\s\S]*99[\s\S]*train it again"),
        ({"model_type": "latentvla_planner"}, r"another kind[\s\S]*latentvla_student"),
    ):
        (folder / "config.json").write_text(json.dumps(config | changes))
        with pytest.raises(ArtifactError, match=message):
            Student.from_pretrained(folder, runtime=runtime)


def test_one_image_file_is_planned_for(tmp_path):
    file = tmp_path / "front.png"
    cv2.imwrite(str(file), made().val.images[0][:, :, ::-1])
    plan = predict_file(made().student, file, speed_mps=6.0, command="straight")
    student = Student.from_pretrained(made().student)
    expected = student.plan(made().val.images[:1], np.array([[6.0, 0, 0, 0]]), ["straight"])
    assert np.allclose(plan, expected[0])
    with pytest.raises(ConfigError, match="cannot be read"):
        predict_file(made().student, tmp_path / "none.png", speed_mps=6.0)


def test_planning_needs_neither_transformers_nor_ray_nor_torch(tmp_path):
    code = f"""
import json, sys
import numpy as np
from ops.predict import Student
student = Student.from_pretrained({str(made().student)!r})
plan = student.plan(np.zeros((1, 56, 112, 3), np.uint8), np.ones((1, 4)), ["left"])
heavy = ("transformers", "torch", "ray", "dagster", "zarr", "peft", "great_expectations")
print(json.dumps([list(plan.shape), [name for name in heavy if name in sys.modules]]))
"""
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(out.stdout) == [[1, 8, 3], []]


def test_another_camera_is_worked_out_anew_and_the_same_one_is_not(monkeypatch):
    student, rows = Student.from_pretrained(made().student), made().val.take(np.arange(1))
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
        "ops.student.predict.open_session", lambda *_: pytest.fail("the camera is the same")
    )
    student._runtime._sessions.pop(("calibration", True))
    assert np.array_equal(plan(CAMERA), first)
