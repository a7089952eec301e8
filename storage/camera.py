"""A camera's calibration, its form as network input, and images cropped and resized with it."""

from dataclasses import dataclass, replace

import numpy as np

from storage.errors import ConfigError

# Layout of camera_numbers: the calibration as a vector that networks read.
EXTRINSICS = slice(0, 12)  # rotation and translation from ego to camera frame, (3, 4) row by row
INTRINSICS = slice(12, 16)  # fx, fy, cx, cy for images whose borders lie at -1 and 1
DISTORTION = slice(16, 19)  # radial coefficients k1, k2, k3 of OpenCV's model
CAMERA_NUMBERS = DISTORTION.stop


@dataclass(frozen=True, slots=True)
class Camera:
    """Calibration of one camera at the stored image size."""

    name: str
    width: int  # pixels
    height: int
    intrinsics: np.ndarray  # (3, 3) pixels
    # (4, 4) camera (x right, y down, z forward) -> ego (rear axle, on the ground)
    camera_to_ego: np.ndarray
    # k1, k2, p1, p2, k3; zeros: rectified
    distortion: tuple[float, ...] = (0.0, 0.0, 0.0, 0.0, 0.0)
    # size in pixels that the intrinsics hold for, where the format names it; None: of the images
    calibrated_wh: tuple[int, int] | None = None
    notes: tuple[str, ...] = ()  # corrections, for the log's metadata


def camera_numbers(camera: Camera) -> np.ndarray:
    """A calibration as networks read it, (CAMERA_NUMBERS,) float32: EXTRINSICS, INTRINSICS and
    DISTORTION. It does not depend on the resolution of the images.
    """
    to_camera = np.linalg.inv(camera.camera_to_ego)[:3]
    k, size = camera.intrinsics, np.array([camera.width, camera.height], dtype=np.float64)
    scale, middle = 2 * np.array([k[0, 0], k[1, 1]]) / size, (2 * k[:2, 2] + 1) / size - 1
    k1, k2, _, _, k3 = (*camera.distortion, *[0.0] * 5)[:5]
    numbers = np.empty(CAMERA_NUMBERS)
    numbers[EXTRINSICS] = to_camera.ravel()
    numbers[INTRINSICS] = [*scale, *middle]
    numbers[DISTORTION] = k1, k2, k3
    return numbers.astype(np.float32)


def crop_box(height: int, width: int, size_hw: tuple[int, int]) -> tuple[int, int, int, int]:
    """(top, left, height, width) of the largest part of an image in the aspect ratio `size_hw`.

    A wider target loses rows at the top only, where the sky is; a taller target loses equally many
    columns on both sides.
    """
    target_h, target_w = size_hw
    if target_w * height >= target_h * width:
        kept = max(1, round(width * target_h / target_w))
        return height - kept, 0, kept, width
    kept = max(1, round(height * target_w / target_h))
    return 0, (width - kept) // 2, height, kept


def resized_camera(camera: Camera, size_hw: tuple[int, int]) -> Camera:
    """Calibration of images cropped by crop_box and resized to `size_hw`.

    Pixel centres lie at integer coordinates.
    """
    top, left, height, width = crop_box(camera.height, camera.width, size_hw)
    scale_y, scale_x = size_hw[0] / height, size_hw[1] / width
    to_resized = np.array(
        [
            [scale_x, 0.0, (0.5 - left) * scale_x - 0.5],
            [0.0, scale_y, (0.5 - top) * scale_y - 0.5],
            [0.0, 0.0, 1.0],
        ]
    )
    return replace(
        camera, width=size_hw[1], height=size_hw[0], intrinsics=to_resized @ camera.intrinsics
    )


def scaled_camera(camera: Camera, scale_xy: tuple[float, float]) -> Camera:
    """The same camera with intrinsics for images scaled by `scale_xy`; its size stays."""
    (x, y), k = scale_xy, camera.intrinsics
    scale = np.array([[x, 0.0, 0.5 * x - 0.5], [0.0, y, 0.5 * y - 0.5], [0.0, 0.0, 1.0]])
    return replace(camera, intrinsics=scale @ k)


def fit_images(images: np.ndarray, size_hw: tuple[int, int]) -> np.ndarray:
    """Images (N, H, W, 3) uint8, cropped by crop_box and resized by area to `size_hw`.

    Raises ConfigError for images smaller than `size_hw`.
    """
    import cv2

    if images.shape[1:3] == tuple(size_hw):
        return np.ascontiguousarray(images)
    if images.shape[1] < size_hw[0] or images.shape[2] < size_hw[1]:
        raise ConfigError(
            "the images are smaller than the network's input",
            found=images.shape[1:3],
            expected=f"at least {tuple(size_hw)} pixels",
            do="give the images as the camera took them",
        )
    top, left, height, width = crop_box(images.shape[1], images.shape[2], size_hw)
    out = np.empty((len(images), *size_hw, 3), dtype=np.uint8)
    for source, target in zip(images[:, top : top + height, left : left + width], out, strict=True):
        cv2.resize(
            np.ascontiguousarray(source),
            (size_hw[1], size_hw[0]),
            dst=target,
            interpolation=cv2.INTER_AREA,
        )
    return out
