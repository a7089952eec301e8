"""Decoding keeps pixels, times and calibration; a damaged image raises with its log and frame."""

from dataclasses import replace

import cv2
import numpy as np
import pytest

from ops.ingest.config import FrameConfig
from ops.ingest.decode import decode
from storage.errors import ConfigError, SourceError
from storage.frame_store import frame_info, read_calibration, read_frames
from storage.sources import open_source
from storage.sources.images import read_image
from tests.worlds import tiny_openscene as tiny


@pytest.fixture
def raw(tmp_path):
    tiny.write_log(tmp_path / "raw")
    return tmp_path / "raw"


def opened(raw):
    return open_source("openscene", raw).open("log_a")


def image_file(raw, index):
    return (
        raw
        / "sensor_blobs"
        / "train"
        / tiny.frame_dict("log_a", index)["cams"]["CAM_F0"]["data_path"]
    )


def test_the_store_holds_the_pixels_and_times_of_the_log(raw, tmp_path):
    summary = decode(opened(raw), tmp_path / "out", FrameConfig())
    assert (summary.frames, summary.width, summary.height, summary.mean_hz) == (24, 64, 36, 2.0)
    assert (summary.black, summary.frozen, summary.gaps, summary.cameras) == (0, 0, 0, ("CAM_F0",))
    image = cv2.cvtColor(cv2.imread(str(image_file(raw, 5))), cv2.COLOR_BGR2RGB)
    assert np.array_equal(read_frames(tmp_path / "out", np.array([5]))[0], image)
    assert (
        frame_info(tmp_path / "out").cameras[0].timestamp_us[5]
        == tiny.frame_dict("log_a", 5)["timestamp"]
    )


def test_large_images_are_shrunk_with_their_calibration(raw, tmp_path):
    decode(opened(raw), tmp_path / "out", FrameConfig(max_width=32))
    stored, original = read_calibration(tmp_path / "out")[0], opened(raw).cameras()[0]
    assert (stored.width, stored.height) == (32, 18)
    assert np.allclose((stored.intrinsics[:2, 2] + 0.5) * 2, original.intrinsics[:2, 2] + 0.5)
    assert np.allclose(stored.intrinsics[[0, 1], [0, 1]] * 2, original.intrinsics[[0, 1], [0, 1]])


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data[: len(data) // 2],
        lambda data: b"",
        lambda data: b"\xff\xd8 none",
        lambda data: data[:-2],
    ],
)
def test_a_truncated_image_is_refused_with_its_file(raw, tmp_path, damage):
    file = image_file(raw, 6)
    file.write_bytes(damage(file.read_bytes()))
    with pytest.raises(SourceError, match=r"image cannot be read[\s\S]*what to do") as caught:
        decode(opened(raw), tmp_path / "out", FrameConfig())
    assert file.name in str(caught.value)


def test_a_truncated_image_is_refused_with_its_log_and_frame(raw, tmp_path):
    file = image_file(raw, 6)
    file.write_bytes(file.read_bytes()[:-200])
    with pytest.raises(SourceError) as caught:
        decode(opened(raw), tmp_path / "out", FrameConfig())
    assert caught.value.where == f"log {opened(raw).log_id}, frame 6, file {file}"


def test_the_end_marker_of_an_embedded_thumbnail_does_not_count(raw, tmp_path):
    file = image_file(raw, 6)
    data = file.read_bytes()
    comment = b"\xff\xfe\x00\x0a thumb\xff\xd9"
    file.write_bytes(data[:2] + comment + data[2:])
    assert read_image(file).shape == (36, 64, 3)
    file.write_bytes(data[:2] + comment + data[2:-60])
    with pytest.raises(SourceError, match="without its end marker"):
        read_image(file)


def test_a_truncated_png_is_refused(tmp_path):
    tiny.write_image(tmp_path / "a.png", 0)
    assert read_image(tmp_path / "a.png").shape == (36, 64, 3)
    (tmp_path / "a.png").write_bytes((tmp_path / "a.png").read_bytes()[:-30])
    with pytest.raises(SourceError, match="without its end chunk"):
        read_image(tmp_path / "a.png")


def test_an_image_of_another_size_is_refused_with_its_frame(raw, tmp_path):
    tiny.write_image(image_file(raw, 9), 0, (36, 62))
    with pytest.raises(SourceError, match=r"another size[\s\S]*frame 9[\s\S]*64x36[\s\S]*62x36"):
        decode(opened(raw), tmp_path / "out", FrameConfig())


def test_black_frozen_images_and_gaps_are_counted_not_refused(raw, tmp_path):
    assert cv2.imwrite(str(image_file(raw, 3)), np.zeros((36, 64, 3), np.uint8))
    image_file(raw, 8).write_bytes(image_file(raw, 7).read_bytes())
    image_file(raw, 15).unlink()
    summary = decode(opened(raw), tmp_path / "out", FrameConfig())
    assert (summary.black, summary.frozen, summary.gaps, summary.frames) == (1, 1, 1, 23)


def test_a_camera_that_the_log_does_not_have_is_a_config_error(raw, tmp_path):
    with pytest.raises(ConfigError, match=r"no camera CAM_X[\s\S]*CAM_F0"):
        decode(opened(raw), tmp_path / "out", FrameConfig(cameras=("CAM_X",)))


def test_image_times_that_go_back_are_refused(raw, tmp_path):
    log = opened(raw)

    class Backwards:
        def __getattr__(self, name):
            return getattr(log, name)

        def images(self, camera):
            return [
                replace(image, timestamp_us=image.timestamp_us - 700_000 * (image.frame_index == 4))
                for image in log.images(camera)
            ]

    with pytest.raises(SourceError, match=r"image time stamps go back[\s\S]*frame 4"):
        decode(Backwards(), tmp_path / "out", FrameConfig())
