"""The frames of a video file: their number and time without decoding, and their pixels in one pass.

A frame's number is its place in the order of presentation, from 0. Files are handed to FFmpeg
(PyAV) as open streams with the format that their ending names, so that a playlist or a link inside
one leads nowhere. Legend: N frames of the file.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from storage.errors import ConfigError, SourceError
from storage.sources.contract import RawImage
from storage.sources.images import MAX_PIXELS, read_image
from storage.sources.raw_files import REPAIR, is_regular, too_large, unreadable

# ending -> FFmpeg's name of the format
VIDEO_FORMATS = {
    ".mp4": "mp4",
    ".m4v": "mp4",
    ".mov": "mov",
    ".mkv": "matroska",
    ".avi": "avi",
    ".hevc": "hevc",
    ".h265": "hevc",
    ".h264": "h264",
}
_WITHOUT_TIME = frozenset(("hevc", "h264"))  # bare streams
# formats whose stamps do not tell which frame was decoded, which is counted instead
_COUNTED = _WITHOUT_TIME | {"avi"}
MAX_VIDEO_FRAMES = 2_000_000  # of one file: 9 hours at 60 Hz
MAX_HZ = 10.0  # frames that are read of a faster video
# errors of the stream end the log instead of being painted over
_STRICT = {"err_detect": "crccheck+bitstream+buffer+explode", "max_pixels": str(MAX_PIXELS)}


@dataclass(frozen=True, slots=True)
class VideoIndex:
    """Size and times of a video's frames."""

    width: int  # pixels, after the rotation that the file asks for
    height: int
    frames: int  # N
    time_us: np.ndarray  # (N,) int64 since the first frame; empty if the file has no time stamps
    stamps: np.ndarray  # (N,) int64 in units of the file; empty if frames are counted
    streams: int  # videos in the file; the first is read


def is_video(name: str) -> bool:
    """True for the name of a video file."""
    return os.path.splitext(name)[1].lower() in VIDEO_FORMATS


def require_av() -> None:
    """Raise ConfigError that names the extra to install if PyAV is missing."""
    try:
        import av  # noqa: F401
    except ImportError as error:
        raise ConfigError(
            "videos cannot be read: the package 'av' is missing",
            expected="PyAV, which brings FFmpeg",
            found=str(error),
            do="install the extra: pip install -e '.[video]'",
        ) from error


def video_index(file: Path) -> VideoIndex:
    """Size and times of the frames of `file`; its packets are read, one frame is decoded.

    Cached until the file changes. Raises SourceError for a file that is missing, cut, damaged or
    holds no video, for more than MAX_VIDEO_FRAMES frames or MAX_PIXELS pixels; ConfigError without
    PyAV.
    """
    require_av()
    if not is_regular(file):
        raise _broken(file, "no file")
    state = file.stat()
    if not state.st_size:
        raise _broken(file, "an empty file")
    return _index_cached(file, state.st_mtime_ns, state.st_size)


@lru_cache(maxsize=4)
def _index_cached(file: Path, _mtime_ns: int, _size: int) -> VideoIndex:
    kind = VIDEO_FORMATS[file.suffix.lower()]
    with _opened(file) as (container, stream):
        first = next(container.decode(stream), None)
        if first is None:
            raise _broken(file, "no frame that can be decoded")
        width, height = first.width, first.height
        if first.rotation % 180:
            width, height = height, width
        streams = len(_videos(container))
    with _opened(file) as (container, stream):
        _require_whole(file, stream)
        stamps = _stamps(file, container, stream)
        unit_us = 1e6 * float(stream.time_base)
        announced = stream.frames if kind == "avi" else 0  # an edit list leaves out frames of MP4
    if announced > len(stamps):
        raise _broken(file, f"{len(stamps)} of the {announced} frames that its header announces")
    time_us = np.rint((stamps - stamps[0]) * unit_us).astype(np.int64)
    return VideoIndex(
        width,
        height,
        len(stamps),
        time_us[:0] if kind in _WITHOUT_TIME else time_us,
        stamps[:0] if kind in _COUNTED else stamps,
        streams,
    )


def _require_whole(file: Path, stream: Any) -> None:
    """Raise SourceError if the file's own index, or the size that Matroska announces, leads beyond
    its end.
    """
    size = file.stat().st_size
    end = max((entry.pos + entry.size for entry in stream.index_entries), default=0)
    if VIDEO_FORMATS[file.suffix.lower()] == "matroska":
        end = max(end, _matroska_end(file))
    if end > size:
        raise _broken(file, f"{size} bytes of {end} at least: the file is cut")


def _matroska_end(file: Path) -> int:
    """Where the segment of a Matroska file ends, in bytes; 0 if its header does not say (RFC 9559,
    section 4.5; RFC 8794, sections 4 and 5).
    """
    with file.open("rb") as stream:
        head, at = stream.read(1024), 0
    for identifier in (b"\x1aE\xdf\xa3", b"\x18S\x80g"):  # EBML's header, then the segment
        if head[at : at + 4] != identifier or not any(head[at + 4 : at + 5]):
            return 0
        length = 9 - head[at + 4].bit_length()  # leading zeros and one: the bytes of a size
        size = int.from_bytes(head[at + 4 : at + 4 + length], "big") & ((1 << 7 * length) - 1)
        if size == (1 << 7 * length) - 1:
            return 0  # unknown: a live recording
        at += 4 + length + size
    return at


def _stamps(file: Path, container: Any, stream: Any) -> np.ndarray:
    """Presentation times (N,) int64 of the frames in order, in units of the stream; counted where
    the format has none. Frames that belong before the first key frame cannot be decoded and are
    left out, as are those that the file's edit list leaves out.
    """
    stamps: list[int] = []
    first_key: int | None = None
    for packet in container.demux(stream):
        if not packet.size:
            continue
        stamp = len(stamps) if packet.pts is None else packet.pts
        if first_key is None and packet.is_keyframe:
            first_key = stamp
        if packet.is_discard:
            continue
        stamps.append(stamp)
        if len(stamps) > MAX_VIDEO_FRAMES:
            raise too_large(file, f"at most {MAX_VIDEO_FRAMES} frames", "more")
    found = np.unique(np.array(stamps, np.int64))
    found = found[found >= first_key] if first_key is not None else found[:0]
    if not len(found):
        raise _broken(file, "no key frame")
    return found


def evenly_thinned(time_us: np.ndarray, max_hz: float = MAX_HZ) -> np.ndarray:
    """Rows of `time_us` (N,), increasing, that are read: about `max_hz` a second, chosen by time.

    Of a steady video every n-th frame; of an uneven one never two frames closer together than the
    period less 0.4 of the usual spacing. All rows of a slower video.
    """
    if len(time_us) < 2:
        return np.arange(len(time_us))
    least_us = 1e6 / max_hz - 0.4 * float(np.median(np.diff(time_us)))
    kept, last_us = [0], int(time_us[0])
    for row, now_us in enumerate(time_us[1:].tolist(), start=1):
        if now_us - last_us >= least_us:
            kept.append(row)
            last_us = now_us
    return np.array(kept)


def read_images(
    images: Sequence[RawImage], log_id: str, expected_wh: tuple[int, int]
) -> Iterator[np.ndarray]:
    """The pixels (H, W, 3) uint8 RGB of one camera's images in their order, one at a time.

    Frames of a video are decoded in one pass through the file. Raises SourceError, with log and
    frame, for a damaged image, one of another size than `expected_wh`, and a frame that the video
    does not have; ConfigError for a video without PyAV.
    """
    if images and is_video(images[0].file.name):
        yield from _video_images(images, log_id, expected_wh)
        return
    for image in images:
        yield read_image(image.file, f"log {log_id}, frame {image.frame_index}", expected_wh)


def _video_images(
    images: Sequence[RawImage], log_id: str, expected_wh: tuple[int, int]
) -> Iterator[np.ndarray]:
    file = images[0].file
    index = video_index(file)
    wanted = [image.frame_index for image in images]
    number, at, last = -1, 0, None
    with _opened(file, lambda: f"log {log_id}, frame {number + 1}, file {file}") as (
        container,
        stream,
    ):
        for frame in container.decode(stream):
            if len(index.stamps):
                number = int(np.searchsorted(index.stamps, frame.pts or 0))
            else:
                number += 1
            where = f"log {log_id}, frame {number}, file {file}"
            if frame.is_corrupt:
                raise _broken(where, "a picture that its decoder could not complete")
            if at < len(wanted) and number > wanted[at]:
                raise _broken(f"log {log_id}, frame {wanted[at]}, file {file}", "no such frame")
            if at == len(wanted) or number != wanted[at]:
                continue
            at += 1
            pixels = _pixels(frame, where, expected_wh)
            if at < len(wanted):
                yield pixels
                continue
            last = pixels
            if len(index.stamps):
                break
        else:
            if not len(index.stamps) and number + 1 != index.frames:
                raise _broken(
                    f"log {log_id}, frame {number + 1}, file {file}",
                    f"{number + 1} of {index.frames} frames: which are missing cannot be told",
                )
    if last is None:
        raise _broken(f"log {log_id}, frame {wanted[at]}, file {file}", "the end of the video")
    yield last  # whose frames are counted, the others before it are sound as well


def _pixels(frame: Any, where: str, expected_wh: tuple[int, int]) -> np.ndarray:
    pixels = frame.to_ndarray(format="rgb24")
    # FFmpeg's rotation is counter-clockwise, in degrees
    pixels = np.ascontiguousarray(np.rot90(pixels, round(frame.rotation / 90) % 4))
    height, width = pixels.shape[:2]
    if (width, height) != expected_wh:
        raise SourceError(
            "a frame has another size than the first of its video",
            where=where,
            expected=f"{expected_wh[0]}x{expected_wh[1]}",
            found=f"{width}x{height}",
            do="cut the video where its size changes; the log is read again when its bytes change",
        )
    return pixels


@contextmanager
def _opened(file: Path, where: Callable[[], object] | None = None) -> Iterator[tuple[Any, Any]]:
    """The container and the first video of a file; whatever FFmpeg raises is a SourceError, with
    `where()` at that moment.
    """
    import av

    try:
        # a pipe without a writer must not be waited for
        handle = os.open(file, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise unreadable(error, file) from error
    kind = VIDEO_FORMATS[file.suffix.lower()]
    try:
        with open(handle, "rb") as opened, av.open(opened, format=kind) as container:
            videos = _videos(container)
            if not videos:
                raise _broken(file, "no video among its streams")
            context = videos[0].codec_context
            if not 0 < context.width * context.height <= MAX_PIXELS:
                found = f"{context.width}x{context.height}"
                raise too_large(file, f"1 to {MAX_PIXELS} pixels", found)
            context.thread_count = 1  # logs are read side by side
            context.options = _STRICT
            yield container, videos[0]
    except (av.FFmpegError, OSError, ValueError) as error:  # PyAV passes on those of the stream
        raise _broken(where() if where else file, f"{type(error).__name__}: {error}") from error


def _videos(container: Any) -> list[Any]:
    """The videos of a file, without cover pictures."""
    attached = "attached_pic"
    return [
        stream
        for stream in container.streams.video
        if attached not in str(stream.disposition.name or "").lower()
    ]


def _broken(where: object, found: str) -> SourceError:
    return SourceError(
        "a video cannot be read",
        where=where,
        expected="a whole video in " + ", ".join(sorted(VIDEO_FORMATS)),
        found=found,
        do=REPAIR,
    )
