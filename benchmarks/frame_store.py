"""Size and speed of ways to store a log's frames: `python -m benchmarks.frame_store`.

Every candidate stores the same frames, in one run on one machine with a warm page cache: JPEG
files, a raw .npy, and Zarr v3 arrays of several codecs and shard lengths read with and without the
`zarrs` pipeline. Frames are decoded JPEGs, as in a real log: from a folder (--images) or
synthetic. `random 8` reads windows of 8 consecutive frames.
"""

import argparse
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

JPEG_QUALITY = 92


@dataclass(frozen=True, slots=True)
class Candidate:
    """One way to store frames: writes them all, and opens a reader of slices of them."""

    name: str
    write: Callable[[Path, np.ndarray], None]
    reader: Callable[[Path], Callable[[int, int], np.ndarray]]


@dataclass(frozen=True, slots=True)
class Measurement:
    """Size and speeds of one candidate."""

    name: str
    megabytes: float
    files: int
    write_fps: float
    single_fps: float
    window_fps: float
    whole_fps: float


def candidates(shards: Sequence[int]) -> list[Candidate]:
    """JPEG files, raw .npy, and the Zarr variants."""
    from zarr.codecs import BloscCodec, ZstdCodec

    codecs: dict[str, Any] = {
        "raw": None,
        "lz4": BloscCodec(cname="lz4", clevel=5, shuffle="noshuffle"),
        "zstd1": ZstdCodec(level=1),
        "zstd3": ZstdCodec(level=3),
        "blosc-zstd1": BloscCodec(cname="zstd", clevel=1, shuffle="noshuffle"),
        "blosc-zstd3": BloscCodec(cname="zstd", clevel=3, shuffle="noshuffle"),
        "blosc-zstd3-bits": BloscCodec(cname="zstd", clevel=3, shuffle="bitshuffle"),
    }
    variants = [
        Candidate("jpeg files", _write_jpeg, _read_jpeg),
        Candidate("npy memmap", _write_npy, _read_npy),
    ]
    variants += [
        _zarr_candidate(name, codec, shard, "zarrs")
        for shard in shards
        for name, codec in codecs.items()
    ]
    variants += [
        _zarr_candidate("blosc-zstd1", codecs["blosc-zstd1"], shards[0], "zarr-python"),
        _zarr_candidate("blosc-zstd1", codecs["blosc-zstd1"], None, "zarrs"),
    ]
    return variants


def measure(
    candidate: Candidate,
    frames_THWC: np.ndarray,
    folder: Path,
    reads: int,
    rng: np.random.Generator,
) -> Measurement:
    """Write and read the frames once; removes the folder afterwards."""
    total = len(frames_THWC)
    write_s = _seconds(lambda: candidate.write(folder, frames_THWC))
    files = [file for file in folder.rglob("*") if file.is_file()]
    read = candidate.reader(folder)
    assert candidate.name == "jpeg files" or np.array_equal(
        read(3, 5), frames_THWC[3:5]
    )  # lossless, and a warm-up
    single, window = rng.integers(total, size=reads), rng.integers(total - 8, size=reads)
    single_s = _seconds(lambda: [read(int(row), int(row) + 1) for row in single])
    window_s = _seconds(lambda: [read(int(row), int(row) + 8) for row in window])
    whole_s = _seconds(lambda: read(0, total))
    megabytes = sum(file.stat().st_size for file in files) / 1e6
    shutil.rmtree(folder)
    return Measurement(
        candidate.name,
        megabytes,
        len(files),
        total / write_s,
        reads / single_s,
        8 * reads / window_s,
        total / whole_s,
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--images", type=Path, help="folder of JPEG or PNG frames; default: synthetic frames"
    )
    parser.add_argument("--frames", type=int, default=240)
    parser.add_argument("--size", default="126x224", help="height x width of synthetic frames")
    parser.add_argument("--shards", type=int, nargs="+", default=[128])
    parser.add_argument("--reads", type=int, default=200)
    options = parser.parse_args(arguments)
    frames_THWC = _frames(
        options.images, options.frames, tuple(int(side) for side in options.size.split("x"))
    )
    print(
        f"{len(frames_THWC)} frames of {frames_THWC.shape[2]}x{frames_THWC.shape[1]}, "
        f"{frames_THWC.nbytes / 1e6:.0f} MB raw; frames per second, warm page cache"
    )
    print(
        f"{'store':<34}{'MB':>8}{'files':>7}{'write':>8}{'random 1':>10}{'random 8':>10}"
        f"{'whole':>8}"
    )
    with tempfile.TemporaryDirectory() as root:
        for candidate in candidates(options.shards):
            row = measure(
                candidate,
                frames_THWC,
                Path(root) / "store",
                options.reads,
                np.random.default_rng(0),
            )
            print(
                f"{row.name:<34}{row.megabytes:>8.1f}{row.files:>7}{row.write_fps:>8.0f}"
                f"{row.single_fps:>10.0f}{row.window_fps:>10.0f}{row.whole_fps:>8.0f}",
                flush=True,
            )


def _zarr_candidate(codec_name: str, codec: Any, shard: int | None, pipeline: str) -> Candidate:
    import zarr

    path = (
        "zarrs.ZarrsCodecPipeline"
        if pipeline == "zarrs"
        else "zarr.core.codec_pipeline.BatchedCodecPipeline"
    )

    def write(folder: Path, frames_THWC: np.ndarray) -> None:
        with zarr.config.set({"codec_pipeline.path": path}):
            store = zarr.create_array(
                folder / "a.zarr",
                shape=frames_THWC.shape,
                dtype="uint8",
                chunks=(1, *frames_THWC.shape[1:]),
                fill_value=0,
                compressors=codec,
                shards=(min(shard, len(frames_THWC)), *frames_THWC.shape[1:]) if shard else None,
            )
            block = shard or len(frames_THWC)
            for start in range(0, len(frames_THWC), block):
                store[start : start + block] = frames_THWC[start : start + block]

    def reader(folder: Path) -> Callable[[int, int], np.ndarray]:
        with zarr.config.set({"codec_pipeline.path": path}):
            store = zarr.open_array(folder / "a.zarr", mode="r")
        return lambda low, high: np.asarray(store[low:high])

    return Candidate(
        f"zarr {codec_name}, {f'shard {shard}' if shard else 'no shards'}, {pipeline}",
        write,
        reader,
    )


def _write_jpeg(folder: Path, frames_THWC: np.ndarray) -> None:
    folder.mkdir()
    for row, image in enumerate(frames_THWC):
        (folder / f"{row:06d}.jpg").write_bytes(_encoded(image))


def _read_jpeg(folder: Path) -> Callable[[int, int], np.ndarray]:
    return lambda low, high: np.stack(
        [_decoded((folder / f"{row:06d}.jpg").read_bytes()) for row in range(low, high)]
    )


def _write_npy(folder: Path, frames_THWC: np.ndarray) -> None:
    folder.mkdir()
    np.save(folder / "frames.npy", frames_THWC)


def _read_npy(folder: Path) -> Callable[[int, int], np.ndarray]:
    stored = np.load(folder / "frames.npy", mmap_mode="r")
    return lambda low, high: np.array(stored[low:high])


def _frames(folder: Path | None, count: int, size_hw: tuple[int, ...]) -> np.ndarray:
    if folder is not None:
        files = sorted(file for file in folder.rglob("*") if file.suffix in (".jpg", ".png"))[
            :count
        ]
        return np.stack([_decoded(file.read_bytes()) for file in files])
    return np.stack([_decoded(_encoded(_synthetic_frame(row, *size_hw))) for row in range(count)])


def _synthetic_frame(seed: int, height: int, width: int) -> np.ndarray:
    """Sky, textured ground and boxes that move with the frame number (`seed`), (H, W, 3) uint8."""
    rng = np.random.default_rng(7)
    y, x = np.mgrid[:height, :width]
    texture = rng.normal(0, 9, (height, 4 * width))[:, seed % width : seed % width + width]
    gray = np.where(
        y < height // 2, 190 - y * 40 / height, 90 + texture + 30 * np.sin((x + 4 * seed) / 15)
    )
    for left, top, side in rng.integers((0, height // 4, 8), (width, height // 2, 40), (12, 3)):
        gray[top : top + side, (left + seed) % width : (left + seed) % width + side] = (
            40 + left % 160
        )
    return np.clip(np.stack([gray, gray * 0.96 + 5, gray * 0.9 + 12], axis=-1), 0, 255).astype(
        np.uint8
    )


def _encoded(image: np.ndarray) -> bytes:
    encoded_ok, data = cv2.imencode(
        ".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]
    )
    assert encoded_ok
    return data.tobytes()


def _decoded(data: bytes) -> np.ndarray:
    return np.asarray(
        cv2.cvtColor(
            cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB
        )
    )


def _seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
