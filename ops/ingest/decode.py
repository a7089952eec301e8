"""Decodes the images of one raw log into its frame store."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ops.ingest.config import FrameConfig
from storage.camera import Camera
from storage.errors import ConfigError, SourceError
from storage.frame_store import CameraFrames, FrameInfo, frame_info, write_frames
from storage.sources.checked import checked
from storage.sources.contract import RawImage, RawLog
from storage.sources.video_file import read_images


@dataclass(frozen=True, slots=True)
class DecodeSummary:
    """Counts of the decoded images, for the log's metadata."""

    log_id: str
    frames: int  # of the front camera
    cameras: tuple[str, ...]
    width: int  # of the front camera as stored
    height: int
    mean_hz: float  # frames of the front camera per second; 0 for a single frame
    stored_bytes: int
    black: int  # images darker than black_below, all cameras
    frozen: int  # images equal to the one before while the ego moved, all cameras
    gaps: int  # spacings of the front camera longer than max_gap_factor times the median
    notes: tuple[str, ...]  # corrections made by the reader and the decoder


def decode(log: RawLog, out: Path, config: FrameConfig) -> DecodeSummary:
    """Write the frame store of `log` under `out`.

    Raises SourceError for a damaged image, an image of another size than its camera's first, and
    time stamps that do not increase, and what storage.sources.checked refuses; ConfigError for a
    camera that the log does not have.
    """
    log = checked(log)
    signals = log.signals()
    speed_mps = dict(
        zip(signals.frame_index.tolist(), np.hypot(*signals.velocity_ego.T).tolist(), strict=True)
    )
    notes = list(signals.notes)
    cameras = {camera.name: camera for camera in log.cameras()}
    names = config.cameras or log.capabilities.cameras[:1]
    missing = [name for name in names if name not in cameras]
    if missing:
        raise ConfigError(
            f"log {log.log_id} has no camera {', '.join(missing)}",
            expected=", ".join(cameras),
            do="change FrameConfig.cameras",
        )
    notes += [note for name in names for note in cameras[name].notes]
    frames = [_camera_frames(log, cameras[name], config, speed_mps, notes) for name in names]
    write_frames(out, log.log_id, frames, notes)
    return summarize(out, config)


def summarize(folder: Path, config: FrameConfig) -> DecodeSummary:
    """The summary of a finished frame store; reads no image."""
    info = frame_info(folder)
    front = info.cameras[0]
    span_s = float(front.timestamp_us[-1] - front.timestamp_us[0]) * 1e-6
    return DecodeSummary(
        info.log_id,
        len(front.frame_index),
        tuple(item.camera.name for item in info.cameras),
        front.camera.width,
        front.camera.height,
        (len(front.frame_index) - 1) / span_s if span_s else 0.0,
        sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()),
        sum(int((item.brightness < config.black_below).sum()) for item in info.cameras),
        sum(int(item.frozen.sum()) for item in info.cameras),
        len(gaps(info, config)),
        info.notes,
    )


def gaps(info: FrameInfo, config: FrameConfig) -> np.ndarray:
    """frame_index of each front image that follows a gap in time."""
    front = info.cameras[0]
    step_us = np.diff(front.timestamp_us)
    return (
        front.frame_index[1:][step_us > config.max_gap_factor * np.median(step_us)]
        if len(step_us)
        else step_us
    )


def _camera_frames(
    log: RawLog, camera: Camera, config: FrameConfig, speed_mps: dict[int, float], notes: list[str]
) -> CameraFrames:
    images = list(log.images(camera.name))
    if not images:
        raise SourceError(
            "a camera has no image",
            where=f"log {log.log_id}, camera {camera.name}",
            expected="at least one image with a pose",
            found="none",
            do="remove it from FrameConfig.cameras or add its images",
        )
    time_us = np.array([image.timestamp_us for image in images], dtype=np.int64)
    if (np.diff(time_us) <= 0).any():
        row = int(np.flatnonzero(np.diff(time_us) <= 0)[0]) + 1
        raise SourceError(
            "image time stamps go back or stand still",
            where=f"log {log.log_id}, camera {camera.name}, frame {images[row].frame_index}",
            expected=f"above {time_us[row - 1]} us",
            found=f"{time_us[row]} us",
            do="correct or leave out this log; it is read again when its bytes change",
        )
    stored = _stored_camera(camera, config)
    if camera.width % 2 or camera.height % 2:
        notes.append(
            f"{camera.name}: odd image size {camera.width}x{camera.height} cut to "
            f"{camera.width - camera.width % 2}x{camera.height - camera.height % 2}, "
            f"the calibration with it"
        )
    return CameraFrames(
        stored,
        np.array([image.frame_index for image in images], dtype=np.int32),
        time_us,
        _decoded(log, images, camera, stored),
        np.array([speed_mps.get(image.frame_index, 0.0) > config.moving_mps for image in images]),
    )


def _stored_camera(camera: Camera, config: FrameConfig) -> Camera:
    """Calibration of the stored images: even sides (an odd image loses its top row or last column),
    at most `max_width` wide.
    """
    top, width, height = (
        camera.height % 2,
        camera.width - camera.width % 2,
        camera.height - camera.height % 2,
    )
    intrinsics = camera.intrinsics.copy()
    intrinsics[1, 2] -= top
    even = replace(camera, width=width, height=height, intrinsics=intrinsics)
    if config.max_width is None or width <= config.max_width:
        return even
    small_w, small_h = config.max_width, 2 * round(height * config.max_width / width / 2)
    scale = np.array(
        [
            [small_w / width, 0.0, 0.5 * small_w / width - 0.5],
            [0.0, small_h / height, 0.5 * small_h / height - 0.5],
            [0.0, 0.0, 1.0],
        ]
    )
    return replace(even, width=small_w, height=small_h, intrinsics=scale @ even.intrinsics)


def _decoded(
    log: RawLog, images: list[RawImage], camera: Camera, stored: Camera
) -> Iterator[np.ndarray]:
    import cv2

    for pixels in read_images(images, log.log_id, (camera.width, camera.height)):
        pixels = pixels[camera.height % 2 :, : camera.width - camera.width % 2]
        if pixels.shape[1] != stored.width:
            pixels = cv2.resize(pixels, (stored.width, stored.height), interpolation=cv2.INTER_AREA)
        yield pixels
