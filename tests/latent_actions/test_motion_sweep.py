"""Tests of the motion sweep with a camera that drives over a flat ground."""

import numpy as np
import pytest
import torch

from models.ground_view import MIRRORED_CAMERA, project_ground
from models.latent_action.config import SweepConfig
from models.latent_action.motion_sweep import MotionSweep
from ops.latent_actions.frame_pairs import FramePairs, frame_pairs
from tests.worlds.ground_world import drive

SIZE = (64, 96)
CONFIG = SweepConfig(near_m=2.0, side_m=2.0)  # this camera shows the road from 1 m on


@pytest.fixture(scope="module")
def pairs() -> FramePairs:
    return frame_pairs(drive(16, seed=3, image_hw=SIZE), 0.5, SIZE, "training")


@pytest.fixture(scope="module")
def tensors(pairs) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    images = torch.from_numpy(pairs.images).permute(0, 3, 1, 2).float() / 255
    return images[pairs.rows[:, 0]], images[pairs.rows[:, 1]], torch.from_numpy(pairs.camera)


@torch.no_grad()
def estimated_motion(
    first: torch.Tensor, second: torch.Tensor, camera: torch.Tensor
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Distance in m, turn in rad, and the largest similarity of each pair."""
    sweep = MotionSweep(CONFIG)
    distance, turn, similarity = sweep(first, second, camera).numpy().T
    return (distance + 1) * sweep.config.reach_m / 2, turn * sweep.config.turn_rad, similarity


def test_the_motion_is_estimated_from_images_of_the_road(pairs, tensors):
    distance, turn, similarity = estimated_motion(*tensors)
    inside = (pairs.condition[:, 0] < 5.5) & (np.abs(pairs.condition[:, 2]) < 0.25)
    assert inside.sum() > 80
    assert np.median(np.abs(distance - pairs.condition[:, 0])[inside]) < 0.1
    assert np.median(np.abs(turn - pairs.condition[:, 2])[inside]) < 0.01
    assert np.median(similarity) > 0.6


def test_autocast_does_not_change_the_motion(tensors):
    exact = estimated_motion(*tensors)
    with torch.autocast("cpu", torch.bfloat16):
        narrow = estimated_motion(*tensors)
    assert all(np.array_equal(one, two) for one, two in zip(exact, narrow, strict=True))


def test_equal_images_have_no_motion(tensors):
    first, _, camera = tensors
    sweep = MotionSweep(CONFIG)
    similarity_BRD = sweep.similarity(first, first, camera)
    best = similarity_BRD.flatten(1).argmax(dim=1)
    assert (best == sweep.config.turns // 2 * sweep.config.distances).all()
    assert torch.allclose(similarity_BRD.flatten(1).amax(dim=1), torch.ones(len(first)), atol=1e-4)


def test_mirrored_images_turn_the_other_way(tensors):
    first, second, camera = tensors
    distance, turn, _ = estimated_motion(first, second, camera)
    mirrored_camera = camera * torch.tensor(MIRRORED_CAMERA)
    mirrored = estimated_motion(first.flip(3), second.flip(3), mirrored_camera)
    assert np.allclose(mirrored[0], distance, atol=1e-3)
    assert np.allclose(mirrored[1], -turn, atol=1e-4)


def test_brightness_and_contrast_do_not_change_the_motion(tensors):
    first, second, camera = tensors
    original = estimated_motion(first, second, camera)
    dimmed = estimated_motion(first, 0.6 * second + 0.2, camera)
    assert np.median(np.abs(original[0] - dimmed[0])) < 0.05
    assert np.median(np.abs(original[1] - dimmed[1])) < 0.005


def test_a_camera_that_does_not_show_the_road_gives_the_middle_motion_and_no_similarity(tensors):
    first, second, camera = tensors
    distance, turn, similarity = estimated_motion(first, second, torch.zeros_like(camera))
    assert np.allclose(distance, 4.0, atol=1e-4) and np.allclose(turn, 0, atol=1e-5)
    assert not similarity.any()


def test_road_seen_is_the_share_of_the_compared_ground_that_the_image_shows(tensors):
    camera = tensors[2][:1]
    assert MotionSweep(CONFIG).road_seen(camera).item() == pytest.approx(1.0)
    assert MotionSweep(SweepConfig(near_m=0.2, far_m=1.0)).road_seen(camera).item() == 0.0, (
        "below the image"
    )
    share = MotionSweep(SweepConfig(near_m=2.0, far_m=4.0, side_m=4.8)).road_seen(camera).item()
    assert share == pytest.approx(11 / 12, abs=0.02), (
        "the image shows the whole width from 3 m on, and two thirds of it at 2 m"
    )


def test_a_mirrored_camera_shows_mirrored_ground_at_the_mirrored_pixel():
    rng = np.random.default_rng(0)
    extrinsics = [0.1, -1, 0.02, 0.3, 0.05, 0.1, -1, 1.5, 1, 0.1, 0.03, -0.2]
    intrinsics, distortion = [1.1, 1.9, 0.1, -0.2], [-0.1, 0.02, 0.0]
    camera = torch.tensor([extrinsics + intrinsics + distortion])
    points = torch.from_numpy(
        np.column_stack([rng.uniform(4, 30, 50), rng.uniform(-5, 5, 50)])
    ).float()
    original, visible = project_ground(camera, points)
    mirrored, mirrored_visible = project_ground(
        camera * torch.tensor(MIRRORED_CAMERA), points * torch.tensor([1, -1])
    )
    assert torch.equal(visible, mirrored_visible) and visible.any()
    assert torch.allclose(mirrored * torch.tensor([-1, 1]), original, atol=1e-5)
