"""The rows of many logs in memory: order, images, pairs, and the error without logs."""

import numpy as np
import pytest

from storage.dataset import read_dataset
from storage.errors import ArtifactError
from storage.frame_store import read_frames
from storage.lake import Lake
from tests.worlds.tiny_lake import write_tiny_lake


@pytest.fixture(scope="module")
def lake(tmp_path_factory) -> Lake:
    return write_tiny_lake(tmp_path_factory.mktemp("lake"))


def test_rows_are_ordered_and_carry_the_images_of_their_own_frames(lake):
    data = read_dataset(lake, size_hw=(27, 48))
    order = list(zip(data.log_id, data.frame_index, strict=True))
    assert order == sorted(order) and data.images.shape == (len(data), 27, 48, 3)
    for row in (0, len(data) - 1):
        image = read_frames(
            lake.log("frames", data.log_id[row]), data.frame_index[row : row + 1], size_hw=(27, 48)
        )[0]
        assert np.array_equal(data.images[row], image)


def test_rows_are_filtered_by_split_and_by_log(lake):
    assert set(read_dataset(lake, "train").log_id) == {"log-c"}
    assert set(read_dataset(lake, "test").log_id) == {"log-a", "log-b"}
    assert set(read_dataset(lake, log_ids=["log-b"]).log_id) == {"log-b"}
    assert len(read_dataset(lake, "val")) == 0 and read_dataset(lake, "val").status.shape == (0, 8)


def test_the_ego_status_is_motion_and_one_hot_command(lake):
    data = read_dataset(lake, log_ids=["log-a"])
    assert data.status.shape == (len(data), 8) and data.status.dtype == np.float32
    assert np.allclose(data.status[0], [8.0, 0, 0, 0, 0, 1, 0, 0])


def test_pairs_join_frames_of_one_log_at_the_given_gap_only(lake):
    data = read_dataset(lake)
    pairs = data.pairs(1.0)
    assert (data.log_id[pairs[:, 0]] == data.log_id[pairs[:, 1]]).all() and len(pairs) == 3 * 22
    assert (np.diff(data.timestamp_us[pairs], axis=1) == 1_000_000).all()
    assert len(data.pairs(0.25)) == 0 and data.take(np.array([3])).pairs(0.5).shape == (0, 2)


def test_a_frame_without_an_image_is_in_no_pair(lake):
    from dataclasses import replace

    data = read_dataset(lake, log_ids=["log-a"])
    has_image = data.has_image.copy()
    has_image[5] = False
    assert 5 not in replace(data, has_image=has_image).pairs(0.5) and 5 in data.pairs(0.5)


def test_a_lake_without_logs_is_explained(tmp_path):
    with pytest.raises(ArtifactError, match="no trajectories"):
        read_dataset(Lake(tmp_path))
