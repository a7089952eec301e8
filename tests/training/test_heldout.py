"""Where the held-out rows of a training without val logs come from."""

import numpy as np
import pytest

from ops.latent_actions.frame_pairs import frame_pairs
from ops.training.heldout import HELD_OUT_SHARE, is_late
from storage.dataset import FrameSet
from storage.errors import ConfigError
from tests.latent_actions.test_learn_actions import drive


def filmed(images: int, rows: int, hz: float) -> FrameSet:
    """One log with `rows` poses, of which the first `images` have an image."""
    frames = drive(1, seed=1).take(np.zeros(rows, dtype=int))
    frames.timestamp_us[:] = (np.arange(rows) * 1e6 / hz).astype(np.int64)
    frames.frame_index[:] = np.arange(rows)
    frames.has_image[:] = np.arange(rows) < images
    return frames


def pairs(frames: FrameSet, what: str) -> int:
    size = frames.images.shape[1:3]
    return len(frame_pairs(frames, 0.5, (size[0], size[1]), what))


@pytest.mark.parametrize(
    ("images", "rows", "hz"),
    [(51, 447, 10.0), (20, 447, 10.0), (154, 154, 10.0), (24, 24, 2.0), (6, 24, 2.0)],
)
def test_both_parts_of_a_log_have_image_pairs(images, rows, hz):
    frames = filmed(images, rows, hz)
    late = is_late(frames, HELD_OUT_SHARE)
    assert pairs(frames.take(~late), "training") and pairs(frames.take(late), "held-out")


def test_a_log_with_all_its_images_is_split_by_its_duration():
    frames = filmed(154, 154, 10.0)
    time_us = frames.timestamp_us
    expected = time_us > time_us[-1] - HELD_OUT_SHARE * (time_us[-1] - time_us[0])
    assert np.array_equal(is_late(frames, HELD_OUT_SHARE), expected)


@pytest.mark.parametrize(
    ("frames", "found"),
    [
        (filmed(24, 24, 3.0), "24 images 0.33 s apart in 24 rows"),
        (filmed(24, 30, 1 / 0.6), "24 images 0.60 s apart in 30 rows"),
        (filmed(1, 24, 10.0), "1 images in 24 rows"),
    ],
)
def test_logs_without_pairs_are_named_with_their_images(frames, found):
    with pytest.raises(ConfigError) as error:
        pairs(frames, "held-out")
    assert f"{frames.log_id[0]}: {found}" in str(error.value)
