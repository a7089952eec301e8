"""The frames of one log as a Zarr v3 group: one sharded array of images for each camera.

`<folder>/frames.zarr/<CAMERA>/` holds `images` (T, H, W, 3) uint8 RGB with one chunk per frame and
many frames per shard, and `frame_index` and `timestamp_us` (T,). Calibration and statistics of each
image are in the camera's attributes. Chunks and the index of a shard have checksums, and black
images, which Zarr does not write, are listed: data that is damaged or missing is an error, never a
black image. Reading uses the `zarrs` pipeline, which holds threads: open stores in the process that
reads, never before a fork. Legend: T stored frames, n requested frames, H x W stored pixels.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from storage.artifact import reading
from storage.camera import Camera, crop_box, resized_camera
from storage.errors import ArtifactError

FORMAT_VERSION = 1
STORE = "frames.zarr"
# with zstd level 1 the best trade-off in benchmarks/frame_store.py: a third of the bytes of raw
# images, read equally fast
SHARD_FRAMES = 128
SHARD_BYTES = 192 * 2**20  # of a shard's pixels at most: 32 frames of 1920 x 1080, 8 of 4K
# `change` of a camera's first frame: the largest possible, so that it never counts as frozen
NO_PREDECESSOR = 255.0
_PIPELINE = {"codec_pipeline.path": "zarrs.ZarrsCodecPipeline"}


@dataclass(frozen=True, slots=True)
class CameraFrames:
    """Input of write_frames for one camera; `images` may be lazy and is read once, in order."""

    camera: Camera  # at the size of the images
    frame_index: np.ndarray  # (T,) int32, increasing
    timestamp_us: np.ndarray  # (T,) int64
    images: Iterable[np.ndarray]  # T times (H, W, 3) uint8 RGB
    # (T,) bool: the ego moves, so two equal images in a row mean a frozen camera
    moving: np.ndarray


@dataclass(frozen=True, slots=True)
class CameraInfo:
    """Calibration, times and image statistics of one camera of a log."""

    camera: Camera
    frame_index: np.ndarray  # (T,) int32
    timestamp_us: np.ndarray  # (T,) int64
    brightness: np.ndarray  # (T,) float32, mean of the pixels, 0..255
    change: np.ndarray  # (T,) float32, mean absolute difference from the frame before, 0..255
    frozen: np.ndarray  # (T,) bool: equal to the frame before although the ego moved


@dataclass(frozen=True, slots=True)
class FrameInfo:
    """The frame store of one log; the first camera is the front camera."""

    log_id: str
    cameras: tuple[CameraInfo, ...]
    notes: tuple[str, ...]


def write_frames(
    folder: Path,
    log_id: str,
    cameras: Sequence[CameraFrames],
    notes: Sequence[str] = (),
    *,
    shard_frames: int = SHARD_FRAMES,
) -> FrameInfo:
    """Write the frames of one log under `folder`, with one shard in memory at a time: at most
    `shard_frames` frames and SHARD_BYTES of pixels, and one frame at least.

    Raises ValueError if a camera gives fewer images than its `frame_index` has entries.
    """
    import zarr

    with zarr.config.set(_PIPELINE):
        root = zarr.create_group(
            folder / STORE,
            zarr_format=3,
            attributes={
                "format_version": FORMAT_VERSION,
                "log_id": log_id,
                "cameras": [item.camera.name for item in cameras],
                "notes": list(notes),
            },
        )
        written = tuple(_write_camera(root, item, shard_frames) for item in cameras)
    return FrameInfo(log_id, written, tuple(notes))


def read_frames(
    folder: Path,
    frame_index: np.ndarray,
    *,
    camera: str | None = None,
    size_hw: tuple[int, int] | None = None,
) -> np.ndarray:
    """Images (n, H, W, 3) uint8 RGB of the frames `frame_index` (n,), in that order.

    `camera` None is the front camera. With `size_hw` each image is cropped to that aspect ratio
    (see `crop_box`) and resized by area. Raises ArtifactError if there is no store, no such camera,
    or a frame has no image.
    """
    with reading(folder) as present:
        name, images, stored_index = _open_camera(present, camera)
        rows = _rows_of(folder, name, stored_index, np.asarray(frame_index))
        height, width = size_hw or images.shape[1:3]
        images_nHWC = np.empty((len(rows), height, width, 3), dtype=np.uint8)
        shard = (images.shards or images.chunks)[0]
        for block in np.unique(rows // shard):
            in_block = np.flatnonzero(rows // shard == block)
            file = present / STORE / name / "images" / "c" / f"{block}/0/0/0"
            is_stored = file.exists() or not _is_black(present, name, rows[in_block])
            with _damage_named(file, must_exist=is_stored):
                _resize_into(images_nHWC, in_block, _read_rows(images, rows[in_block]))
        return images_nHWC


def read_calibration(folder: Path, size_hw: tuple[int, int] | None = None) -> tuple[Camera, ...]:
    """Calibration of every stored camera, front first.

    With `size_hw`: of the images that read_frames returns for that size. Raises ArtifactError if
    there is no store, or it is damaged.
    """
    with reading(folder) as present, _damage_named(present / STORE):
        root = _open_group(present)
        stored = tuple(_camera_from(name, root[name].attrs) for name in root.attrs["cameras"])
    return (
        stored if size_hw is None else tuple(resized_camera(camera, size_hw) for camera in stored)
    )


def frame_info(folder: Path) -> FrameInfo:
    """The frame store of one log without its pixels. Raises ArtifactError if there is none or it is
    damaged.
    """
    with reading(folder) as present, _damage_named(present / STORE):
        root = _open_group(present)
        cameras = []
        for name in root.attrs["cameras"]:
            attributes = root[name].attrs
            cameras.append(
                CameraInfo(
                    _camera_from(name, attributes),
                    _read_column(present, root, name, "frame_index"),
                    _read_column(present, root, name, "timestamp_us"),
                    np.array(attributes["brightness"], np.float32),
                    np.array(attributes["change"], np.float32),
                    np.array(attributes["frozen"], bool),
                )
            )
        return FrameInfo(root.attrs["log_id"], tuple(cameras), tuple(root.attrs["notes"]))


def _write_camera(root: Any, item: CameraFrames, shard_frames: int) -> CameraInfo:
    camera, total = item.camera, len(item.frame_index)
    shape = (camera.height, camera.width, 3)
    shard = max(1, min(shard_frames, max(total, 1), SHARD_BYTES // max(int(np.prod(shape)), 1)))
    group = root.create_group(camera.name, attributes=_attributes_of(camera))
    images = group.create_array(
        "images",
        shape=(total, *shape),
        dtype="uint8",
        chunks=(1, *shape),
        shards=(shard, *shape),
        fill_value=0,
        **_checked(),
    )
    brightness, change = np.zeros(total, np.float32), np.full(total, NO_PREDECESSOR, np.float32)
    black: list[int] = []
    stream, previous = iter(item.images), None
    block_BHWC = np.empty((min(shard, total), *shape), np.uint8)
    for start in range(0, total, shard):
        count = min(shard, total - start)
        row = start - 1
        for row, image in enumerate(islice(stream, count), start):
            block_BHWC[row - start] = image
            if not image.any():
                black.append(row)
            # every fourth pixel is enough to detect black and frozen images
            sampled = image[::2, ::2].astype(np.int16)
            brightness[row] = sampled.mean()
            if previous is not None:
                change[row] = np.abs(sampled - previous).mean()
            previous = sampled
        if row - start + 1 < count:
            raise ValueError(f"camera {camera.name} announced {total} images and gave {row + 1}")
        images[start : start + count] = block_BHWC[:count]
    info = CameraInfo(
        camera,
        item.frame_index.astype(np.int32),
        item.timestamp_us.astype(np.int64),
        brightness,
        change,
        (change == 0.0) & item.moving,
    )
    # a chunk of nothing but the fill value would not be written
    one_chunk = {"chunks": (max(total, 1),), "fill_value": -1, **_checked()}
    group.create_array("frame_index", data=info.frame_index, **one_chunk)
    group.create_array("timestamp_us", data=info.timestamp_us, **one_chunk)
    group.attrs.update(
        {
            "brightness": brightness.tolist(),
            "change": change.tolist(),
            "frozen": info.frozen.tolist(),
            "black": black,
        }
    )
    return info


def _checked() -> dict[str, Any]:
    """Options of an array whose chunks have checksums."""
    from zarr.codecs import ZstdCodec

    return {"compressors": ZstdCodec(level=1, checksum=True)}


@contextmanager
def _damage_named(file: Path, must_exist: bool = False) -> Iterator[None]:
    """Turn what Zarr raises for damaged data into an ArtifactError with the file's name.

    To Zarr a missing chunk is no error but zeros: `must_exist` looks for the file before.
    """
    try:
        if must_exist and not file.exists():
            raise _damaged(file, "it is missing")
        yield
    except ArtifactError:
        raise
    except (RuntimeError, ValueError, TypeError, KeyError, OSError) as error:
        raise _damaged(file, f"{type(error).__name__}: {error}") from error


def _damaged(file: Path, why: str) -> ArtifactError:
    return ArtifactError(
        "this frame store is damaged",
        where=file,
        found=why.splitlines()[0][:200],
        do="restore the file; or remove the log's link in frames/ and run again: latentvla run",
    )


def _is_black(folder: Path, camera: str, rows: np.ndarray) -> bool:
    """True if all these images are recorded as black, so that none of them is stored."""
    recorded = _open_group(folder)[camera].attrs.get("black", [])
    return bool(np.isin(rows, recorded).all())


def _read_column(folder: Path, root: Any, camera: str, name: str) -> np.ndarray:
    """An array of a camera that is stored as one chunk."""
    array = root[f"{camera}/{name}"]
    if not array.shape[0]:
        return array[:]
    with _damage_named(folder / STORE / camera / name / "c" / "0", must_exist=True):
        return array[:]


def _attributes_of(camera: Camera) -> dict[str, Any]:
    return {
        "width": camera.width,
        "height": camera.height,
        "intrinsics": camera.intrinsics.tolist(),
        "camera_to_ego": camera.camera_to_ego.tolist(),
        "distortion": list(camera.distortion),
    }


def _camera_from(name: str, attributes: Any) -> Camera:
    return Camera(
        name,
        attributes["width"],
        attributes["height"],
        np.array(attributes["intrinsics"]),
        np.array(attributes["camera_to_ego"]),
        tuple(attributes["distortion"]),
    )


def _open_group(folder: Path) -> Any:
    import zarr

    if not (folder / STORE / "zarr.json").exists():
        raise ArtifactError(
            "there is no frame store here",
            where=folder,
            expected=folder / STORE,
            do="materialize 'frames' for this log",
        )
    with zarr.config.set(_PIPELINE), _damage_named(folder / STORE / "zarr.json"):
        root = zarr.open_group(folder / STORE, mode="r")
    if root.attrs.get("format_version") != FORMAT_VERSION:
        raise ArtifactError(
            "this frame store is of another format version",
            where=folder,
            expected=FORMAT_VERSION,
            found=root.attrs.get("format_version"),
            do="materialize 'frames' for this log again",
        )
    return root


def _open_camera(folder: Path, camera: str | None) -> tuple[str, Any, np.ndarray]:
    import zarr

    root = _open_group(folder)
    names = root.attrs["cameras"]
    name = names[0] if camera is None else camera
    if name not in names:
        raise ArtifactError(
            "this camera is not in the frame store",
            where=folder,
            expected=", ".join(names),
            found=name,
            do="name a stored camera, or add it to FrameConfig.cameras and decode again",
        )
    with zarr.config.set(_PIPELINE), _damage_named(folder / STORE / name):
        return name, root[f"{name}/images"], _read_column(folder, root, name, "frame_index")


def _rows_of(
    folder: Path, camera: str, stored_index: np.ndarray, frame_index: np.ndarray
) -> np.ndarray:
    rows = np.searchsorted(stored_index, frame_index)
    nearest = (
        stored_index[np.minimum(rows, len(stored_index) - 1)]
        if len(stored_index)
        else np.full(len(rows), -1)
    )
    missing = frame_index[nearest != frame_index]
    if len(missing):
        raise ArtifactError(
            "these frames have no image",
            where=f"{folder}, camera {camera}",
            found=missing[:8].tolist(),
            do="read only rows whose has_image is true",
        )
    return rows


def _read_rows(images: Any, rows: np.ndarray) -> np.ndarray:
    """Rows of one shard; one bulk read if they are at least a quarter of the span."""
    low, high = int(rows.min()), int(rows.max()) + 1
    if high - low <= 4 * len(rows):
        return images[low:high][rows - low]
    unique, inverse = np.unique(rows, return_inverse=True)
    return images.oindex[unique][inverse]


def _resize_into(target_nHWC: np.ndarray, rows: np.ndarray, source_mHWC: np.ndarray) -> None:
    import cv2

    if source_mHWC.shape[1:] == target_nHWC.shape[1:]:
        target_nHWC[rows] = source_mHWC
        return
    height, width = target_nHWC.shape[1:3]
    top, left, kept_h, kept_w = crop_box(
        source_mHWC.shape[1], source_mHWC.shape[2], (height, width)
    )
    for row, image in zip(rows, source_mHWC, strict=True):
        cv2.resize(
            image[top : top + kept_h, left : left + kept_w],
            (width, height),
            dst=target_nHWC[row],
            interpolation=cv2.INTER_AREA,
        )
