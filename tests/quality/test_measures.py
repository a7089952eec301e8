"""What is measured of images and motion: blur, exposure, hashes, shifts, lag, histograms."""

import numpy as np
import pyarrow as pa
import pytest

from ops.quality.drift import drifts, psi
from ops.quality.images import hash_of, measure_images, sideways_shifts
from ops.quality.leakage import Drive, alike, bits_between, met
from ops.quality.motion import EDGES, camera_lag, histograms, repeated_images
from storage.camera import Camera
from storage.expectations import RULES, validate
from storage.expectations.rules import rules_of
from storage.frame_store import CameraFrames, write_frames

HEIGHT, WIDTH, FRAMES = 72, 128, 12
GOOD = Camera(
    "CAM_F0",
    WIDTH,
    HEIGHT,
    np.array([[90.0, 0, 63.5], [0, 90.0, 35.5], [0, 0, 1.0]]),
    np.array([[0.0, 0, 1, 1.5], [-1, 0, 0, 0], [0, -1, 0, 1.6], [0, 0, 0, 1]]),
)


def scenery(seed: int, width: int = 4 * WIDTH) -> np.ndarray:
    """A wide picture (H, width, 3) uint8 with edges, from which views are cut."""
    coarse = np.random.default_rng(seed).integers(40, 216, (9, width // 8))
    return np.repeat(np.kron(coarse, np.ones((8, 8))).astype(np.uint8)[..., None], 3, axis=2)


def views(seed: int = 0, step: int = 5, count: int = FRAMES) -> list[np.ndarray]:
    """Views of a scenery that moves to the right by `step` columns from image to image."""
    wide = scenery(seed)
    start = step * (count - 1)
    return [
        np.ascontiguousarray(wide[:, start - step * t : start - step * t + WIDTH])
        for t in range(count)
    ]


def measured(tmp_path, images, camera=GOOD, moving=True, times=None):
    write_film(tmp_path, "log", images, camera, moving, times)
    return measure_images(tmp_path)


def write_film(folder, log, images, camera=GOOD, moving=True, times=None) -> None:
    """The frame store of a log."""
    index = np.arange(len(images), dtype=np.int32)
    times = index.astype(np.int64) * 500_000 if times is None else times
    frames = CameraFrames(camera, index, times, images, np.full(len(images), moving))
    write_frames(folder, log, [frames])


def broken(name: str, table: pa.Table) -> dict[str, tuple[str, ...]]:
    results = validate(name, table.to_pandas(), rules_of(RULES, table=name)).results
    return {item.rule.name: item.failed_keys for item in results if not item.passed}


def test_sound_images_break_no_rule(tmp_path):
    found = measured(tmp_path, views())
    assert broken("images", found.images) == {} and broken("cameras", found.cameras) == {}


@pytest.mark.parametrize(
    ("spoil", "rule"),
    [
        (lambda image: np.full_like(image, int(image.mean())), "images_are_sharp"),
        (
            lambda image: np.where(image > 90, 255, image).astype(np.uint8),
            "images_are_not_overexposed",
        ),
        (
            lambda image: np.where(image < 190, 2, image).astype(np.uint8),
            "images_are_not_underexposed",
        ),
        (lambda image: image // 40, "no_black_images"),
    ],
)
def test_images_that_show_too_little_are_named_by_frame_and_camera(tmp_path, spoil, rule):
    images = [spoil(image) if row in (3, 7) else image for row, image in enumerate(views())]
    found = broken("images", measured(tmp_path, images).images)
    assert found[rule] == ("log/3 CAM_F0", "log/7 CAM_F0")


def test_a_blurred_image_is_less_sharp_than_the_limit(tmp_path):
    import cv2

    blurred = [cv2.GaussianBlur(image, (0, 0), 9) for image in views()]
    assert "images_are_sharp" in broken("images", measured(tmp_path, blurred).images)


def test_a_frozen_image_a_gap_and_time_that_goes_back_are_named(tmp_path):
    images = views()
    images[5] = images[4]
    times = np.arange(FRAMES) * 500_000
    times[8:] += 1_000_000
    found = broken("images", measured(tmp_path / "a", images, times=times).images)
    assert found == {"no_frozen_images": ("log/5 CAM_F0",), "no_gaps_in_time": ("log/8 CAM_F0",)}
    times[3] = 0
    found = broken("images", measured(tmp_path / "b", views(), times=times).images)
    assert found["time_moves_forward"] == ("log/3 CAM_F0",)


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ({"intrinsics": GOOD.intrinsics * np.nan}, "calibration_is_finite"),
        ({"intrinsics": np.diag([0.0, 0.0, 1.0])}, "focal_length_is_positive"),
        ({"camera_to_ego": GOOD.camera_to_ego * np.nan}, "calibration_is_finite"),
        ({"camera_to_ego": np.zeros((4, 4))}, "extrinsics_are_a_rotation"),
        ({"camera_to_ego": GOOD.camera_to_ego * 2}, "extrinsics_are_a_rotation"),
        ({"intrinsics": np.eye(4)}, "calibration_is_finite"),
        ({"distortion": (float("nan"), 0.0, 0.0)}, "calibration_is_finite"),
        ({"camera_to_ego": np.diag([-1.0, 1, 1, 1])}, "extrinsics_are_a_rotation"),
    ],
)
def test_nonsense_in_a_calibration_blocks(tmp_path, change, rule):
    from dataclasses import replace

    table = measured(tmp_path, views(), replace(GOOD, **change)).cameras
    assert rule in broken("cameras", table)
    assert all(
        item.rule.blocking
        for item in validate("cameras", table.to_pandas(), rules_of(RULES, table="cameras")).results
    )


def test_hashes_survive_scaling_and_compression_and_differ_between_scenes():
    import cv2

    for seed in range(6):
        image = views(seed)[0]
        _, data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 60])
        again = cv2.resize(cv2.imdecode(data, cv2.IMREAD_COLOR), (WIDTH * 3 // 4, HEIGHT * 3 // 4))
        here, copy, other = (
            hash_of(cv2.cvtColor(item, cv2.COLOR_RGB2GRAY)) for item in (image, again, views(9)[0])
        )
        assert (here ^ copy).bit_count() <= 4 < (here ^ other).bit_count()
        assert bits_between(*np.array([[here], [other]], np.uint64)) == (here ^ other).bit_count()


@pytest.mark.parametrize("step", [-9, 0, 4, 17])
def test_the_sideways_shift_of_images_is_found(step):
    bands = np.stack([image[::18, :, 0] for image in views(2, abs(step))]).astype(np.float32)
    expected = abs(step)
    if step < 0:
        bands = bands[::-1]
        expected = step
    assert (sideways_shifts(bands) == expected).all()


def winding(rows: int = 40) -> tuple[pa.Table, np.ndarray]:
    """A drive with turns both ways, and the shifts that a camera without lag would see."""
    turn = 0.12 * np.sin(np.arange(rows) * 0.9) * (np.arange(rows) % 13 > 4)
    yaw = np.cumsum(turn)
    table = pa.table(
        {
            "frame_index": np.arange(rows),
            "timestamp_us": np.arange(rows) * 500_000,
            "x_m": np.arange(rows) * 4.0,
            "y_m": np.zeros(rows),
            "yaw_rad": (yaw + np.pi) % (2 * np.pi) - np.pi,
        }
    )
    noise = np.random.default_rng(0).normal(0, 0.8, rows)
    return table, (77 * turn + noise)[1:]


@pytest.mark.parametrize("lag", [-2, -1, 0, 1, 2])
def test_the_lag_of_a_camera_is_measured_in_its_direction(lag):
    table, shifts = winding()
    images = {"frame_index": list(range(40)), "shifts": np.roll(shifts, lag).tolist()}
    assert camera_lag(table, images).seconds == pytest.approx(0.5 * lag)


def test_no_lag_is_told_where_the_motion_does_not_allow_it():
    table, shifts = winding()
    straight = table.set_column(4, "yaw_rad", pa.array(np.zeros(40)))
    images = {"frame_index": list(range(40)), "shifts": np.roll(shifts, 1).tolist()}
    assert camera_lag(straight, images).seconds == 0.0
    noise = np.random.default_rng(1).normal(0, 9, 39).tolist()
    assert camera_lag(table, {"frame_index": list(range(40)), "shifts": noise}).seconds == 0.0
    gone = {"frame_index": list(range(5, 45)), "shifts": shifts.tolist()}  # images without a row
    assert camera_lag(table, gone).seconds == 0.0
    one = {"frame_index": [3], "shifts": []}
    assert camera_lag(table, one).seconds == 0.0


def test_an_image_that_repeats_while_the_ego_drives_on_is_named():
    table, _ = winding()
    images = {"frame_index": list(range(40)), "still": [4, 9]}
    assert np.flatnonzero(repeated_images(table, images)).tolist() == [4, 9]
    standing = table.set_column(2, "x_m", pa.array(np.zeros(40)))
    assert not repeated_images(standing, images).any()
    some = {"frame_index": list(range(0, 40, 2)), "still": [4]}  # every second row has an image
    assert np.flatnonzero(repeated_images(table, some)).tolist() == [8]


def test_histograms_count_every_row_once():
    rows = pa.table(
        {
            "frame_index": np.arange(5),
            "vx_mps": [0.0, 3, 3, 50, float("nan")],
            "vy_mps": np.zeros(5),
            "ax_mps2": np.zeros(5),
            "yaw_rate_radps": np.zeros(5),
        }
    )
    counts = histograms(rows, pa.table({"frame_index": [0, 0, 1, 4, 4, 4]}))
    assert {name: len(item) for name, item in counts.items()} == {
        name: len(edges) + 1 for name, edges in EDGES.items()
    }
    assert all(sum(item) == 5 for name, item in counts.items() if name != "curvature_1pm")
    assert counts["agents"][:3] == [2, 2, 1] and counts["speed_mps"][2] == 2


def drive(name: str, split: str, seed: int, *, hashes=None, start=0, x=0.0) -> Drive:
    generator = np.random.default_rng(seed)
    own = [int(item) for item in generator.integers(0, 2**63, 30)]
    times = (start, start + 20_000_000)
    return Drive(name, split, "town", times, (x, 0.0, x + 90, 40.0), tuple(hashes or own))


def test_logs_that_share_images_are_found_also_compressed_anew_and_cut():
    original = drive("a", "train", 1)
    flipped = [value ^ (1 << (number % 60)) for number, value in enumerate(original.hashes)]
    excerpt = drive("b", "test", 2, hashes=flipped[10:25])
    others = [drive(f"c{number}", "train", 10 + number) for number in range(20)]
    (pair,) = alike([*others, original, excerpt], 0.3)
    assert (pair.log.log_id, pair.twin.log_id, pair.splits_differ) == ("a", "b", True)
    assert pair.value > 0.9
    (copy,) = alike([original, drive("z", "train", 3, hashes=original.hashes), *others], 0.3)
    assert copy.log.log_id == "z" and not copy.splits_differ and copy.value == 1.0
    few = drive("few", "test", 4, hashes=original.hashes[:5])
    assert alike([original, few, *others], 0.3) == []
    assert alike([], 0.3) == alike([original], 0.3) == []


def test_many_logs_are_compared_in_little_time():
    import time

    drives = [drive(f"log{number}", "train", number) for number in range(4000)]
    start = time.process_time()
    assert alike(drives, 0.3) == []
    assert time.process_time() - start < 3.0


def test_logs_of_two_splits_at_one_place_and_time_are_found():
    train = drive("train", "train", 1)
    near = drive("near", "test", 2, start=10_000_000, x=120.0)
    far = drive("far", "test", 3, start=10_000_000, x=500.0)
    later = drive("later", "test", 4, start=30_000_000)
    same_split = drive("same", "train", 5)
    (pair, *more) = met([later, far, near, same_split, train], 50.0)
    assert {pair.twin.log_id, *(item.twin.log_id for item in more)} == {"near"}
    assert {pair.log.log_id, *(item.log.log_id for item in more)} == {"train", "same"}
    assert pair.value == pytest.approx(30.0)
    elsewhere = Drive("x", "test", "other town", near.time_us, near.box_m)
    assert met([train, elsewhere], 50.0) == [] and met([], 50.0) == []


def test_new_logs_of_another_kind_drift_and_a_few_of_the_same_do_not():
    generator = np.random.default_rng(0)

    # logs differ from each other, as real ones do: each has a speed of its own
    def counts(logs: int, centre: float) -> np.ndarray:
        means = generator.normal(centre, 1.5, logs)
        return np.stack(
            [np.histogram(generator.normal(m, 1.0, 40), bins=12, range=(0, 12))[0] for m in means]
        )

    training = {"speed_mps": counts(100, 6.0)}
    (same,) = drifts(training, {"speed_mps": counts(5, 6.0)})
    assert not same.is_beyond(0.25)
    (other,) = drifts(training, {"speed_mps": counts(5, 10.5)})
    assert other.is_beyond(0.25) and other.psi > 1.0
    assert drifts(training, {"speed_mps": counts(2, 6.0)}) is None
    assert drifts({}, {}) is None and drifts(training, {}) is None
    assert psi(np.array([5, 5]), np.array([5, 5])) == 0.0
