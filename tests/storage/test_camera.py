"""The calibration vector of networks has one layout, and it does not depend on the resolution."""

from dataclasses import replace

import numpy as np
import torch

from models.ground_view import project_ground
from models.planners import config as planner_config
from storage.camera import (
    CAMERA_NUMBERS,
    DISTORTION,
    EXTRINSICS,
    INTRINSICS,
    Camera,
    camera_numbers,
    resized_camera,
)

# looks forward from 1.6 m above the ground, 1.5 m ahead of the rear axle
CAMERA = Camera(
    "CAM_F0",
    64,
    36,
    np.array([[60.0, 0, 31.5], [0, 50.0, 17.5], [0, 0, 1]]),
    np.array([[0.0, 0, 1, 1.5], [-1, 0, 0, 0], [0, -1, 0, 1.6], [0, 0, 0, 1]]),
    (0.01, -0.02, 0.0, 0.0, 0.003),
)


def test_storage_and_models_agree_on_the_number_of_camera_numbers():
    assert camera_numbers(CAMERA).shape == (CAMERA_NUMBERS,) == (planner_config.CAMERA_NUMBERS,)
    assert len(planner_config.PlannerConfig().camera) == CAMERA_NUMBERS


def test_the_parts_of_the_layout_follow_each_other_without_a_gap():
    parts = (EXTRINSICS, INTRINSICS, DISTORTION)
    covered = [index for part in parts for index in range(part.start, part.stop)]
    assert covered == list(range(CAMERA_NUMBERS))


def test_each_part_has_the_values_that_its_name_promises():
    numbers = camera_numbers(CAMERA)
    to_camera = numbers[EXTRINSICS].reshape(3, 4)
    # a point on the ground 11.5 m ahead: 10 m in front of the camera and 1.6 m below it
    assert np.allclose(to_camera @ [11.5, 0.0, 0.0, 1.0], [0.0, 1.6, 10.0], atol=1e-6)
    assert np.allclose(numbers[INTRINSICS], [2 * 60 / 64, 2 * 50 / 36, 0.0, 0.0], atol=1e-6)
    assert np.allclose(numbers[DISTORTION], [0.01, -0.02, 0.003])


def test_the_models_read_the_layout_that_storage_writes():
    camera = replace(CAMERA, distortion=(0.0,) * 5)
    points = torch.tensor([[11.5, 1.0]])
    at, _ = project_ground(torch.from_numpy(camera_numbers(camera))[None], points)
    u, v = 31.5 - 60 * 1.0 / 10, 17.5 + 50 * 1.6 / 10
    expected = [(2 * u + 1) / 64 - 1, (2 * v + 1) / 36 - 1]
    assert np.allclose(at.reshape(-1, 2)[0].numpy(), expected, atol=1e-5)


def test_the_numbers_do_not_depend_on_the_resolution():
    assert np.allclose(
        camera_numbers(resized_camera(CAMERA, (18, 32))), camera_numbers(CAMERA), atol=1e-6
    )
