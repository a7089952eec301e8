"""Tests of what the VLM sees of a row: the ground from above, and the ego status."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from models.vlm_config import STATUS_WIDTH, BevImageConfig
from ops.planners.training_arrays import mirrored
from ops.vla.vlm import VlmRows, bev_images
from storage.camera import Camera, camera_numbers
from tests.worlds.tiny_vla import HEIGHT, WIDTH, tiny_frames

CONFIG = BevImageConfig(near_m=3.0, side_m=42.0, pixels=84)  # cells of 0.5 m
CELL_M = 0.5
K = np.array([[268.0, 0.0, 224.0], [0.0, 268.0, 80.0], [0.0, 0.0, 1.0]])
POSE = (
    np.array(  # camera to ego: looks ahead, 1.5 m before the rear axle and 1.6 m above the ground
        [[0.0, 0.0, 1.0, 1.5], [-1.0, 0.0, 0.0, 0.0], [0.0, -1.0, 0.0, 1.6], [0.0, 0.0, 0.0, 1.0]]
    )
)
NUMBERS = camera_numbers(Camera("CAM_F0", 448, 224, K, POSE))


def painted(x_m: float, y_m: float) -> np.ndarray:
    """An image (224, 448, 3), black but for the pixels whose ray ends within 1 m of a point on the
    ground (x ahead, y to the left).
    """
    columns, rows = np.meshgrid(np.arange(448), np.arange(224))
    pixels = np.stack([columns, rows, np.ones_like(rows)], axis=-1)
    direction = pixels @ (POSE[:3, :3] @ np.linalg.inv(K)).T
    hits = POSE[:2, 3] - direction[..., :2] * (POSE[2, 3] / direction[..., 2:].clip(max=-1e-6))
    image = np.zeros((224, 448, 3), np.uint8)
    image[np.linalg.norm(hits - (x_m, y_m), axis=-1) < 1.0] = (255, 128, 64)
    return image


def place_of(bev: np.ndarray) -> tuple[float, float]:
    """Centre of the bright cells in rows and columns."""
    weight = bev[..., 0].astype(float)
    return (
        float(np.average(np.arange(84), weights=weight.sum(axis=1))),
        float(np.average(np.arange(84), weights=weight.sum(axis=0))),
    )


def seen_from_above(images: np.ndarray, numbers: np.ndarray = NUMBERS) -> np.ndarray:
    camera = np.tile(numbers, (len(images), 1))
    return bev_images(torch.from_numpy(images), torch.from_numpy(camera), CONFIG).numpy()


@pytest.mark.parametrize("x_m, y_m", [(8.0, 0.0), (10.0, 4.0), (9.0, -3.0), (20.0, -6.0), (25, 0)])
def test_a_point_painted_in_the_image_appears_at_its_place_on_the_ground(x_m, y_m):
    bev = seen_from_above(np.stack([painted(x_m, y_m), np.zeros((224, 448, 3), np.uint8)]))
    assert bev.shape == (2, 84, 84, 3) and bev.dtype == np.uint8 and not bev[1].any()
    row, column = place_of(bev[0])
    # rows from the far border, columns from the left one; cells have their index at the centre
    assert row == pytest.approx((45.0 - x_m) / CELL_M - 0.5, abs=0.5)
    assert column == pytest.approx((21.0 - y_m) / CELL_M - 0.5, abs=0.5)
    assert bev[0][round(row), round(column)].tolist() == [255, 128, 64]
    bright = (bev[0, ..., 0] > 127).sum() * CELL_M**2
    assert bright == pytest.approx(np.pi, rel=0.35), "1 m is 1 m near and far"


def test_the_far_border_is_on_top_and_left_is_left():
    near, far, left = map(
        place_of, seen_from_above(np.stack([painted(8, 0), painted(20, 0), painted(12, 4)]))
    )
    assert far[0] < left[0] < near[0] and left[1] < near[1] - 4
    assert near[1] == pytest.approx(41.5, abs=0.5) and far[1] == pytest.approx(41.5, abs=0.5)


def test_ground_that_the_camera_does_not_show_is_black():
    white = np.full((1, 224, 448, 3), 255, np.uint8)
    bev = seen_from_above(white)[0]
    assert not bev[-1].any(), "the ground before the bonnet is below the image"
    assert (bev[30, 42] == 255).all() and (bev[0, 42] == 255).all()
    assert not bev[72, 0].any() and not bev[72, -1].any(), "far to the sides, near the car"
    visible = bev.all(axis=-1).mean()
    assert 0.4 < visible < 0.9 and set(np.unique(bev)) <= {0, *range(100, 256)}
    assert not seen_from_above(white, 0 * NUMBERS).any(), "a row without a calibration"


def test_each_row_has_the_view_of_its_own_camera_and_autocast_does_not_change_it():
    images = np.random.default_rng(0).integers(0, 255, (2, 224, 448, 3), dtype=np.uint8)
    images[1] = images[0]
    raised = POSE.copy()
    raised[2, 3] += 0.4
    camera = np.stack([NUMBERS, camera_numbers(Camera("CAM_F0", 448, 224, K, raised))])
    both = bev_images(torch.from_numpy(images), torch.from_numpy(camera), CONFIG)
    assert np.array_equal(both[0], seen_from_above(images[:1])[0])
    assert not torch.equal(both[0], both[1])
    with torch.autocast("cpu", torch.bfloat16):
        narrow = bev_images(torch.from_numpy(images), torch.from_numpy(camera), CONFIG)
    assert torch.equal(narrow, both)


def test_a_mirrored_row_has_the_mirrored_view():
    rows = [VlmRows.of(frames) for frames in (tiny_frames(1, 3), mirrored(tiny_frames(1, 3)))]
    views = [
        bev_images(
            torch.from_numpy(np.ascontiguousarray(part.images)),
            torch.from_numpy(part.camera),
            BevImageConfig(pixels=56),
        ).int()
        for part in rows
    ]
    assert (views[0].flip(2) - views[1]).abs().max() <= 1 and views[0].any()


def test_the_past_yaw_rate_comes_from_the_last_pose_before_now():
    frames = tiny_frames(1, 4)
    history = np.zeros((4, 4, 3), np.float32)
    history[:, -1, 2] = [-0.1, 0.2, 0.3, 0.0]  # heading 0.5 s ago: -0.1 rad is a left turn since
    history[:, :-1] = 7.0
    valid = np.ones((4, 4), bool)
    valid[2, -1] = False
    status = replace(frames, history=history, history_valid=valid).motion_status
    assert status.shape == (4, STATUS_WIDTH) and status.dtype == np.float32
    assert status[:, 8] == pytest.approx([0.2, -0.4, 0.0, 0.0])
    assert np.array_equal(status[:, :8], frames.status)


def test_the_ego_status_holds_nothing_of_the_present_yaw_rate_or_the_future():
    frames, noise = tiny_frames(1, 6), np.random.default_rng(0)
    frames = replace(frames, history=noise.normal(size=(6, 4, 3)).astype(np.float32))
    other = replace(
        frames,
        yaw_rate=noise.normal(size=6).astype(np.float32),
        future=noise.normal(size=(6, 8, 3)).astype(np.float32),
        future_valid=~frames.future_valid,
        codes=frames.codes + 1,
        pose_world=noise.normal(size=(6, 3)),
    )
    one, two = VlmRows.of(frames), VlmRows.of(other)
    for name in ("images", "status", "camera"):
        assert np.array_equal(getattr(one, name), getattr(two, name)), name


def test_a_mirrored_row_has_the_mirrored_ego_status():
    frames = tiny_frames(1, 4)
    history = np.random.default_rng(0).normal(size=(4, 4, 3)).astype(np.float32)
    frames = replace(frames, history=history, acceleration=history[:, 0, :2].copy())
    status, mirror = frames.motion_status, mirrored(frames).motion_status
    assert np.array_equal(mirror[:, [1, 3, 8]], -status[:, [1, 3, 8]]) and status[:, 8].all()
    assert np.array_equal(mirror[:, [0, 2]], status[:, [0, 2]])


def test_images_of_other_rows_come_with_their_cameras_and_leave_the_status():
    rows = VlmRows.of(tiny_frames(1, 5))
    rows.camera[:] = np.arange(5)[:, None]
    others = np.array([3, 0, 4, 1, 2])
    changed = rows.with_images_of(others)
    assert np.array_equal(changed.images, rows.images[others])
    assert np.array_equal(changed.camera[:, 0], others)
    assert np.array_equal(changed.status, rows.status) and len(changed) == 5
    part = changed.take(np.array([2, 0]))
    assert np.array_equal(part.images, rows.images[[4, 3]])
    assert np.array_equal(part.status, rows.status[[2, 0]])
    assert np.array_equal(part.camera[:, 0], [4, 3])


def test_images_are_brought_to_the_size_of_the_vlm():
    frames = tiny_frames(1, 2)
    assert np.array_equal(VlmRows.of(frames).images, frames.images)
    assert np.array_equal(VlmRows.of(frames, (HEIGHT, WIDTH)).images, frames.images)
    assert VlmRows.of(frames, (28, 56)).images.shape == (2, 28, 56, 3)
