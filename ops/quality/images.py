"""What is measured of the images of one log: sharpness, exposure, hashes, and the motion they show.

Legend: T images of a camera, B bands of rows, W columns.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from storage.frame_store import CameraInfo, frame_info, read_frames

SMALL_W = 128  # pixels; images are measured at this width, so that limits hold for every camera
BLOCK_BYTES = 64 * 2**20  # of images in memory at a time, one image at least
MAX_HASHES = 64  # of a log, evenly spaced
BANDS = 4  # of rows, whose column means show how an image moves sideways
BAND_ROWS = (0.28, 0.5)  # of the height: around the horizon, where driving on moves the image least
MAX_SHIFT = 36  # pixels of SMALL_W between two images
WHITE, BLACK = 250, 5  # of 255
STILL_CHANGE = 0.6  # mean difference of two images, of 255, that noise alone can make
STILL_BITS = 0  # differing bits of two hashes of one and the same image


@dataclass(frozen=True, slots=True)
class MeasuredImages:
    """The images of one log in numbers."""

    images: pa.Table  # one row an image: what the rules of the table `images` test
    cameras: pa.Table  # one row a camera
    statistics: dict  # of the front camera, small enough for the log's record


def measure_images(folder: Path) -> MeasuredImages:
    """Measure every image of a frame store. Raises ArtifactError if there is none."""
    info = frame_info(folder)
    images, statistics = [], {}
    for number, camera in enumerate(info.cameras):
        numbers, hashes, shifts = _measure_camera(folder, camera)
        images.append(_image_rows(info.log_id, camera, numbers))
        if number == 0:
            statistics = _front_statistics(camera, hashes, shifts)
    cameras = pa.Table.from_pylist([_camera_row(info.log_id, item) for item in info.cameras])
    return MeasuredImages(pa.concat_tables(images), cameras, statistics)


def hash_of(grey_hw: np.ndarray) -> int:
    """The difference hash of a grey image (H, W) uint8: 64 bits, one for each pair of neighbours in
    a row of the image shrunk to 8 x 9 pixels. Scaling and compression hardly change it.
    """
    import cv2

    tiny = cv2.resize(grey_hw, (9, 8), interpolation=cv2.INTER_AREA)
    bits = (tiny[:, 1:] > tiny[:, :-1]).ravel()
    return int.from_bytes(np.packbits(bits).tobytes(), "big")


def sideways_shifts(bands_TBW: np.ndarray) -> np.ndarray:
    """By how many columns each image has moved to the right since the one before, (T - 1,).

    The shift whose column means differ least; a heading that turns left moves the scene right.
    """
    later, earlier = bands_TBW[1:], bands_TBW[:-1]
    shifts = np.arange(-MAX_SHIFT, MAX_SHIFT + 1)
    width = bands_TBW.shape[2]
    costs = np.empty((len(shifts), len(later)), np.float32)
    for row, shift in enumerate(shifts):
        seen = later[:, :, max(shift, 0) : width + min(shift, 0)]
        before = earlier[:, :, max(-shift, 0) : width + min(-shift, 0)]
        costs[row] = np.abs(seen - before).mean((1, 2))
    return shifts[costs.argmin(axis=0)]


def _measure_camera(folder: Path, camera: CameraInfo) -> tuple[np.ndarray, list[int], np.ndarray]:
    """Sharpness, white and black share of each image (T, 3), its hash, and the shifts (T - 1,)."""
    import cv2

    total = len(camera.frame_index)
    size = (SMALL_W, max(8, round(SMALL_W * camera.camera.height / max(camera.camera.width, 1))))
    rows = slice(int(BAND_ROWS[0] * size[1]), max(int(BAND_ROWS[1] * size[1]), 4))
    numbers, hashes = np.zeros((total, 3)), []
    bands = np.zeros((total, BANDS, SMALL_W), np.float32)
    step = max(1, BLOCK_BYTES // max(3 * camera.camera.height * camera.camera.width, 1))
    for start in range(0, total, step):
        index = camera.frame_index[start : start + step]
        block = read_frames(folder, index, camera=camera.camera.name)
        for row, image in enumerate(block, start):
            grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
            grey = cv2.resize(grey, size, interpolation=cv2.INTER_AREA)
            counts = np.bincount(grey.ravel(), minlength=256) / grey.size
            sharpness = cv2.meanStdDev(cv2.Laplacian(grey, cv2.CV_32F))[1][0, 0] ** 2
            numbers[row] = sharpness, counts[WHITE:].sum(), counts[: BLACK + 1].sum()
            hashes.append(hash_of(grey))
            bands[row] = cv2.resize(grey[rows], (SMALL_W, BANDS), interpolation=cv2.INTER_AREA)
    return numbers, hashes, sideways_shifts(bands)


def _image_rows(log_id: str, camera: CameraInfo, numbers: np.ndarray) -> pa.Table:
    total = len(camera.frame_index)
    step_s = np.diff(camera.timestamp_us) * 1e-6
    usual_s = float(np.median(step_s)) if len(step_s) else 1.0
    step_s = np.r_[usual_s, step_s][:total]
    return pa.table(
        {
            "log_id": pa.array([log_id] * total, pa.string()),
            "camera": pa.array([camera.camera.name] * total, pa.string()),
            "frame_index": camera.frame_index,
            "step_s": step_s,
            "gap_factor": np.abs(step_s) / max(abs(usual_s), 1e-6),
            "brightness": camera.brightness.astype(float),
            "frozen": camera.frozen,
            "sharpness": numbers[:, 0],
            "white_share": numbers[:, 1],
            "black_share": numbers[:, 2],
        }
    )


def _camera_row(log_id: str, info: CameraInfo) -> dict:
    """Size and calibration of one camera; a matrix of another shape counts as not finite."""
    camera = info.camera
    intrinsics, pose = np.asarray(camera.intrinsics, float), np.asarray(camera.camera_to_ego, float)
    shaped = intrinsics.shape == (3, 3) and pose.shape == (4, 4)
    rotation = pose[:3, :3] if shaped else np.full((3, 3), np.nan)
    focal_px = min(intrinsics[0, 0], intrinsics[1, 1]) if shaped else np.nan
    numbers = np.concatenate([intrinsics.ravel(), pose.ravel(), np.ravel(camera.distortion)])
    return {
        "log_id": log_id,
        "camera": camera.name,
        "width_px": float(camera.width if len(info.frame_index) else 0),
        "finite": bool(shaped and np.isfinite(numbers).all()),
        "focal_share": float(focal_px / max(camera.width, 1)),
        "rotation_error": _rotation_error(rotation),
    }


def _rotation_error(axes: np.ndarray) -> float:
    """How far a matrix (3, 3) is from a rotation; NaN for one that holds other than numbers."""
    if not np.isfinite(axes).all():
        return float("nan")
    return float(np.abs(axes @ axes.T - np.eye(3)).max() + abs(np.linalg.det(axes) - 1.0))


def _front_statistics(camera: CameraInfo, hashes: list[int], shifts: np.ndarray) -> dict:
    """Numbers for leakage, drift and the clock; one entry an image where it says so."""
    chosen = np.unique(np.linspace(0, len(hashes) - 1, min(MAX_HASHES, len(hashes))).astype(int))
    still = [
        (later ^ earlier).bit_count() <= STILL_BITS and change < STILL_CHANGE
        for earlier, later, change in zip(hashes, hashes[1:], camera.change[1:], strict=False)
    ]
    return {
        "frame_index": camera.frame_index.tolist(),
        "shifts": shifts.tolist(),  # of each image but the first
        "still": np.flatnonzero([False, *still]).tolist(),  # rows that repeat the one before
        "hashes": [f"{hashes[row]:016x}" for row in chosen],
        "brightness": _histogram(camera.brightness),
    }


def _histogram(brightness: np.ndarray) -> list[int]:
    return np.histogram(brightness, bins=np.linspace(0.0, 255.0, 13))[0].tolist()
