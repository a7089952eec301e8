"""The sweep over the ego's motions, on a plane that a camera drives over."""

import numpy as np
import pytest
import torch

from models.ground_view import MIRRORED_CAMERA, project_ground
from models.latent_action.config import SweepConfig
from models.latent_action.motion_sweep import MotionSweep
from ops.latent_actions.frame_pairs import FramePairs, frame_pairs
from tests.worlds.ground_world import drive

SIZE = (64, 96)
CONFIG = SweepConfig(near_m=2.0, side_m=2.0)  # this camera sees the road from 1 m on


@pytest.fixture(scope="module")
def pairs() -> FramePairs:
    return frame_pairs(drive(16, seed=3, image_hw=SIZE), 0.5, SIZE, "training")


@pytest.fixture(scope="module")
def tensors(pairs) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    images = torch.from_numpy(pairs.images).permute(0, 3, 1, 2).float() / 255
    return images[pairs.rows[:, 0]], images[pairs.rows[:, 1]], torch.from_numpy(pairs.camera)


@torch.no_grad()
def told(
    first: torch.Tensor, second: torch.Tensor, camera: torch.Tensor
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Distance in m, turn in rad, and the best likeness."""
    sweep = MotionSweep(CONFIG)
    distance, turn, likeness = sweep(first, second, camera).numpy().T
    return (distance + 1) * sweep.config.reach_m / 2, turn * sweep.config.turn_rad, likeness


def test_the_motion_is_read_off_the_road(pairs, tensors):
    distance, turn, likeness = told(*tensors)
    inside = (pairs.condition[:, 0] < 5.5) & (np.abs(pairs.condition[:, 2]) < 0.25)
    assert inside.sum() > 80
    assert np.median(np.abs(distance - pairs.condition[:, 0])[inside]) < 0.1
    assert np.median(np.abs(turn - pairs.condition[:, 2])[inside]) < 0.01
    assert np.median(likeness) > 0.6


def test_equal_images_are_no_motion(tensors):
    first, _, camera = tensors
    sweep = MotionSweep(CONFIG)
    likeness_BRD = sweep.likeness(first, first, camera)
    best = likeness_BRD.flatten(1).argmax(dim=1)
    assert (best == sweep.config.turns // 2 * sweep.config.distances).all()
    assert torch.allclose(likeness_BRD.flatten(1).amax(dim=1), torch.ones(len(first)), atol=1e-4)


def test_the_mirror_turns_the_other_way(tensors):
    first, second, camera = tensors
    distance, turn, _ = told(first, second, camera)
    mirrored = told(first.flip(3), second.flip(3), camera * torch.tensor(MIRRORED_CAMERA))
    assert np.allclose(mirrored[0], distance, atol=1e-3) and np.allclose(
        mirrored[1], -turn, atol=1e-4
    )


def test_brightness_and_contrast_do_not_matter(tensors):
    first, second, camera = tensors
    plain, dimmed = told(first, second, camera), told(first, 0.6 * second + 0.2, camera)
    assert (
        np.median(np.abs(plain[0] - dimmed[0])) < 0.05
        and np.median(np.abs(plain[1] - dimmed[1])) < 0.005
    )


def test_a_camera_that_shows_no_road_tells_nothing(tensors):
    first, second, camera = tensors
    distance, turn, likeness = told(first, second, torch.zeros_like(camera))
    assert (
        np.allclose(distance, 4.0, atol=1e-4)
        and np.allclose(turn, 0, atol=1e-5)
        and not likeness.any()
    )


def test_how_much_of_the_road_a_camera_shows_is_told(tensors):
    camera = tensors[2][:1]
    assert MotionSweep(CONFIG).road_seen(camera).item() == pytest.approx(1.0)
    assert MotionSweep(SweepConfig(near_m=0.2, far_m=1.0)).road_seen(camera).item() == 0.0, (
        "below the image"
    )
    most = MotionSweep(SweepConfig(near_m=2.0, far_m=4.0, side_m=4.8)).road_seen(camera).item()
    assert most == pytest.approx(11 / 12, abs=0.02), (
        "as wide as the image from 3 m on, before that two thirds to all of it"
    )


def test_a_mirrored_camera_shows_mirrored_ground_at_the_mirrored_pixel():
    rng = np.random.default_rng(0)
    camera = torch.tensor(
        [
            [
                0.1,
                -1,
                0.02,
                0.3,
                0.05,
                0.1,
                -1,
                1.5,
                1,
                0.1,
                0.03,
                -0.2,
                1.1,
                1.9,
                0.1,
                -0.2,
                -0.1,
                0.02,
                0.0,
            ]
        ]
    )
    points = torch.from_numpy(
        np.column_stack([rng.uniform(4, 30, 50), rng.uniform(-5, 5, 50)])
    ).float()
    there, seen = project_ground(camera, points)
    mirrored, also = project_ground(
        camera * torch.tensor(MIRRORED_CAMERA), points * torch.tensor([1, -1])
    )
    assert torch.equal(seen, also) and seen.any()
    assert torch.allclose(mirrored * torch.tensor([-1, 1]), there, atol=1e-5)
