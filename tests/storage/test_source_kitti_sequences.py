"""The reader of the KITTI odometry benchmark: camera poses, images by number, motion from poses."""

import numpy as np
import pytest

from storage.errors import SourceError
from storage.sources import open_source
from tests.worlds import tiny_kitti_sequences as tiny
from tests.worlds.tiny_kitti import rear_axle_pose
from tests.worlds.tiny_openscene import write_image


def opened(raw, **changes):
    tiny.write_sequence(raw, **changes)
    return open_source("kitti_odometry", raw).open(tiny.LOG)


@pytest.mark.parametrize("with_tr", [True, False])
def test_poses_are_those_of_the_rear_axle(tmp_path, with_tr):
    log = opened(tmp_path, with_tr=with_tr)
    signals = log.signals()
    truth = rear_axle_pose(signals.timestamp_us * 1e-6)
    expected = truth - [*truth[0, :2], 0]
    assert np.abs(signals.pose_world - expected).max() < 1e-3
    assert np.allclose(signals.velocity_ego, [6, 0], atol=0.02)
    assert np.allclose(signals.acceleration_ego, [0, 0.9], atol=0.06)
    assert np.allclose(log.cameras()[0].camera_to_ego[:3, 3], [1.03, 0.06, 1.65])


def test_grey_images_are_read_where_there_are_no_coloured_ones(tmp_path):
    assert opened(tmp_path, camera="image_0").capabilities.cameras == ("image_0",)
    write_image(tmp_path / "sequences/00/image_3/000000.png", 0, (33, 64))
    log = open_source("kitti_odometry", tmp_path).open(tiny.LOG)
    assert log.capabilities.cameras == ("image_3", "image_0")
    assert log.signals().has_image.tolist() == [True] + 69 * [False]


def test_missing_images_are_gaps_and_an_image_without_a_line_is_refused(tmp_path):
    log = opened(tmp_path)
    folder = tmp_path / "sequences/00/image_2"
    for number in range(10, 20):
        (folder / f"{number:06d}.png").unlink()
    (folder / "000003.png").rename(folder / "3.PNG")
    signals = log.signals()
    assert np.flatnonzero(~signals.has_image).tolist() == list(range(10, 20))
    assert "10 of 70 frames have a pose but no image" in " ".join(signals.notes)
    images = {image.frame_index: image for image in log.images("image_2")}
    assert 9 in images and 15 not in images and images[20].timestamp_us == 2_076_000
    write_image(folder / "000070.png", 0, (33, 64))
    with pytest.raises(SourceError, match=r"no line in times\.txt[\s\S]*frame 70"):
        log.signals()


def test_sequences_without_published_poses_are_refused_alone_and_archives_as_they_unpack_read(
    tmp_path,
):
    tiny.write_sequence(tmp_path / "dataset")
    tiny.write_sequence(tmp_path / "dataset", "11", frames=3)
    (tmp_path / "dataset/poses/11.txt").unlink()
    source = open_source("kitti_odometry", tmp_path)
    assert [ref.log_id for ref in source.logs()] == [tiny.LOG]
    assert "publishes no poses for 11 to 21" in str(source.refused["sequence_11"])
    assert source.open(tiny.LOG).signals().has_image.all()


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("times.txt", "0\n1\n", "2 poses"),
        ("times.txt", "0\nnoon\n", "noon"),
        ("times.txt", "", "an empty file"),
        ("calib.txt", "P0: 1 2 3\n", "12 numbers in P0"),
        ("calib.txt", "", "P2, the projection"),
        ("../../poses/00.txt", "1 0 0\n", "line 1"),
        ("../../poses/00.txt", "1 0 0 0 0 1 0 0 0 0 nan 0\n" * 70, "line 1"),
        ("../../poses/00.txt", "2 0 0 0 0 1 0 0 0 0 1 0\n" * 70, "a rotation"),
        ("../../poses/00.txt", "1 0 0 0 0 1 0 0 0 0 -1 0\n" * 70, "a rotation"),
    ],
)
def test_damaged_files_are_named(tmp_path, file, content, message):
    log = opened(tmp_path)
    (tmp_path / "sequences/00" / file).write_text(content)
    with pytest.raises(SourceError) as raised:
        (log.signals(), log.cameras())
    assert message in str(raised.value) and tiny.LOG in str(raised.value), str(raised.value)
