"""The frame store returns the stored pixels in any order and size, and names what is missing."""

import multiprocessing
import weakref
from dataclasses import replace

import numpy as np
import pytest

from storage.camera import Camera, crop_box, resized_camera
from storage.errors import ArtifactError
from storage.frame_store import (
    NO_PREDECESSOR,
    SHARD_BYTES,
    STORE,
    CameraFrames,
    frame_info,
    read_calibration,
    read_frames,
    write_frames,
)

HEIGHT, WIDTH = 18, 32
CAMERA = Camera(
    "CAM_F0",
    WIDTH,
    HEIGHT,
    np.array([[30.0, 0, 15.5], [0, 30.0, 8.5], [0, 0, 1]]),
    np.eye(4),
    (0.1,) * 5,
)
REAR = Camera("CAM_B0", WIDTH, HEIGHT, np.eye(3), np.eye(4))


def noise(frames: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (frames, HEIGHT, WIDTH, 3), dtype=np.uint8)


def front(images, index=None, moving=True) -> CameraFrames:
    index = np.arange(len(images)) if index is None else np.asarray(index)
    return CameraFrames(CAMERA, index, index * 500_000, images, np.full(len(images), moving))


def test_a_shard_holds_no_more_bytes_than_its_limit_and_small_images_keep_theirs(
    tmp_path, monkeypatch
):
    import zarr

    images, shards = noise(25), {}
    for limit in (HEIGHT * WIDTH * 3 * 4, 10, SHARD_BYTES):
        monkeypatch.setattr("storage.frame_store.SHARD_BYTES", limit)
        folder = tmp_path / str(limit)
        info = write_frames(folder, "log", [front(images)]).cameras[0]
        shards[limit] = zarr.open_group(folder / STORE, mode="r")["CAM_F0/images"].shards[0]
        assert np.array_equal(read_frames(folder, np.arange(25)), images)
        sampled = images[:, ::2, ::2].astype(np.int16)
        assert np.array_equal(info.brightness, sampled.mean((1, 2, 3)).astype(np.float32))
        change = np.abs(np.diff(sampled, axis=0)).mean((1, 2, 3)).astype(np.float32)
        assert np.array_equal(info.change[1:], change) and info.change[0] == NO_PREDECESSOR
    assert list(shards.values()) == [4, 1, 25]
    assert SHARD_BYTES >= 128 * 1242 * 374 * 3  # of KITTI's images a shard stays as it was


def test_a_shard_is_written_as_its_images_come_and_they_are_not_kept(tmp_path):
    images, alive, most = noise(12), [], 0

    def one_by_one():
        nonlocal most
        for image in images:
            copy = image.copy()
            alive.append(weakref.ref(copy))
            most = max(most, sum(item() is not None for item in alive))
            yield copy
            del copy

    frames = replace(front(images), images=one_by_one())
    write_frames(tmp_path, "log", [frames])
    assert most <= 3


@pytest.fixture
def store(tmp_path):
    """25 frames whose index has holes, in shards of 10, with a second camera."""
    index = np.delete(np.arange(27), [4, 9])
    rear = CameraFrames(REAR, np.arange(3), np.arange(3), noise(3, 1), np.ones(3, bool))
    write_frames(tmp_path, "log", [front(noise(25), index), rear], ["a note"], shard_frames=10)
    return tmp_path


@pytest.mark.parametrize(
    "frames",
    [
        [0],
        [26],
        [5, 6, 7, 8],
        [8, 5, 5, 0],
        [26, 0, 13],
        [],
        list(np.delete(np.arange(27), [4, 9])),
    ],
)
def test_frames_come_back_exactly_in_the_requested_order(store, frames):
    rows = [frame - (frame > 4) - (frame > 9) for frame in frames]
    assert np.array_equal(read_frames(store, np.array(frames, dtype=int)), noise(25)[rows])


def test_the_first_camera_is_the_default_and_others_are_read_by_name(store):
    assert np.array_equal(read_frames(store, np.array([2]), camera="CAM_B0"), noise(3, 1)[2:])
    with pytest.raises(
        ArtifactError, match=r"camera is not in the frame store[\s\S]*CAM_F0, CAM_B0"
    ):
        read_frames(store, np.array([0]), camera="CAM_L0")


def test_a_frame_without_an_image_is_named(store):
    with pytest.raises(ArtifactError, match=r"no image[\s\S]*\[4, 9, 99\]"):
        read_frames(store, np.array([3, 4, 9, 99]))


def test_no_store_and_a_store_of_another_version_are_explained(store, tmp_path):
    with pytest.raises(ArtifactError, match="no frame store"):
        read_frames(tmp_path / "elsewhere", np.array([0]))
    meta = store / STORE / "zarr.json"
    meta.write_text(meta.read_text().replace('"format_version": 1', '"format_version": 99'))
    with pytest.raises(ArtifactError, match=r"another format version[\s\S]*99"):
        frame_info(store)


def test_frame_info_has_times_notes_and_calibration(store):
    info = frame_info(store)
    camera = info.cameras[0]
    assert info.log_id == "log" and info.notes == ("a note",)
    assert [item.camera.name for item in info.cameras] == ["CAM_F0", "CAM_B0"]
    assert (
        np.array_equal(camera.timestamp_us, camera.frame_index * 500_000)
        and camera.timestamp_us.dtype == np.int64
    )
    calibration = read_calibration(store)[0]
    assert (
        np.array_equal(calibration.intrinsics, CAMERA.intrinsics)
        and calibration.distortion == CAMERA.distortion
    )


def test_black_and_frozen_images_are_detected_across_shards(tmp_path):
    images = noise(12)
    images[3] = 0
    images[7] = images[6]
    images[10] = images[9]
    write_frames(tmp_path, "log", [front(images)], shard_frames=10)
    camera = frame_info(tmp_path).cameras[0]
    assert camera.brightness.argmin() == 3 and camera.brightness[3] == 0.0
    assert np.flatnonzero(camera.frozen).tolist() == [7, 10] and camera.change[0] == NO_PREDECESSOR


def test_a_standing_car_may_see_the_same_image_twice(tmp_path):
    write_frames(tmp_path, "log", [front(np.repeat(noise(1), 4, axis=0), moving=False)])
    assert not frame_info(tmp_path).cameras[0].frozen.any()


def test_images_may_be_given_lazily_and_must_be_as_many_as_announced(tmp_path):
    write_frames(tmp_path / "lazy", "log", [replace(front(noise(5)), images=iter(noise(5)))])
    assert np.array_equal(read_frames(tmp_path / "lazy", np.arange(5)), noise(5))
    with pytest.raises(ValueError, match="announced 5 images and gave 3"):
        write_frames(tmp_path / "few", "log", [replace(front(noise(5)), images=noise(3))])


def test_a_wider_target_loses_sky_and_a_taller_one_loses_both_sides_equally():
    assert crop_box(126, 224, (112, 224)) == (14, 0, 112, 224)
    assert crop_box(126, 224, (48, 80)) == (0, 7, 126, 210)
    assert crop_box(126, 224, (63, 112)) == (0, 0, 126, 224)


def test_resizing_averages_areas(tmp_path):
    images = np.repeat(np.repeat(noise(2)[:, ::2, ::2], 2, axis=1), 2, axis=2)
    write_frames(tmp_path, "log", [front(images)])
    assert np.array_equal(
        read_frames(tmp_path, np.arange(2), size_hw=(HEIGHT // 2, WIDTH // 2)), images[:, ::2, ::2]
    )
    cropped = read_frames(tmp_path, np.arange(2), size_hw=(HEIGHT - 2, WIDTH))
    assert np.array_equal(cropped, images[:, 2:])


def test_calibration_follows_the_pixels_through_crop_and_resize(tmp_path):
    image = np.zeros((1, HEIGHT, WIDTH, 3), np.uint8)
    image[0, 12:16, 20:24] = 255
    write_frames(tmp_path, "log", [front(image)])
    size_hw = (HEIGHT // 4, WIDTH // 2)
    small = read_frames(tmp_path, np.array([0]), size_hw=size_hw)[0, :, :, 0].astype(float)
    center = (
        np.array([(small * grid).sum() for grid in np.meshgrid(*map(np.arange, small.shape[::-1]))])
        / small.sum()
    )
    # the middle of the white patch
    ray = np.linalg.solve(CAMERA.intrinsics, [21.5, 13.5, 1.0])
    expected = resized_camera(CAMERA, size_hw).intrinsics @ ray
    assert np.allclose(center, expected[:2], atol=0.1)
    assert np.allclose(read_calibration(tmp_path, size_hw)[0].intrinsics @ ray, expected)


def test_any_zarr_library_reads_the_images(store):
    import zarr

    with zarr.config.set({"codec_pipeline.path": "zarr.core.codec_pipeline.BatchedCodecPipeline"}):
        images = zarr.open_array(store / STORE / "CAM_F0" / "images", mode="r")
        assert (
            np.array_equal(images[7:12], noise(25)[7:12])
            and images.chunks[0] == 1
            and images.shards[0] == 10
        )


def test_the_benchmark_of_the_layout_runs(capsys):
    from benchmarks.frame_store import main

    main(["--frames", "12", "--size", "16x32", "--reads", "2", "--shards", "8"])
    table = capsys.readouterr().out.splitlines()
    assert "12 frames of 32x16" in table[0] and {"jpeg", "npy", "zarr"} <= {
        line.split()[0] for line in table[2:]
    }


def _sum_of_frames(folder) -> int:
    return int(read_frames(folder, np.arange(4)).sum())


def test_a_store_can_be_read_in_a_fresh_process_after_this_one_read_it(store):
    expected = _sum_of_frames(store)
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.apply(_sum_of_frames, (store,)) == expected
