"""The one decoder of image files, for ingest and `predict`: JPEG, PNG, WebP and BMP into RGB
arrays; damaged files raise SourceError.

The size is taken from the header and judged before anything is decoded, because a file of a few
kilobytes can decode into gigabytes. Images are turned as their EXIF orientation says: sizes and
calibrations are those of the image that a viewer shows.
"""

import re
import struct
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from storage.errors import SourceError
from storage.sources.jpeg_warnings import jpeg_warnings
from storage.sources.raw_files import read_regular, too_large, unreadable

MAX_IMAGE_BYTES = 256 * 2**20  # of a file
MAX_PIXELS = 64 * 2**20  # of one image, for example 8192 x 8192
FORMATS = ("JPEG", "PNG", "WEBP", "BMP")
ORIENTATION = 274  # tag of EXIF
UPRIGHT, ON_ITS_SIDE = 1, 5  # orientations from 5 on swap the sides
TWELVE_BITS = 2**12
# a marker within the coded pixels of a JPEG: neither a stuffed zero, a restart nor a fill byte
_MARKER = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")
_END_OF_IMAGE, _START_OF_SCAN, _ALONE = 0xD9, 0xDA, (0x01, *range(0xD0, 0xD9))


@dataclass(frozen=True, slots=True)
class ImageHeader:
    """What an image's header says; nothing is decoded for it."""

    width: int  # pixels, as the image is shown
    height: int
    orientation: int  # of EXIF, 1 to 8; 1: upright


def image_header(file: Path) -> ImageHeader:
    """The header of an image. Raises SourceError as image_size."""
    return _header(read_regular(file, MAX_IMAGE_BYTES), file)


def exif_orientation(file: Path) -> int:
    """The EXIF orientation of an image, 1 to 8; UPRIGHT for a file that is none, as a video.

    Raises SourceError for a damaged header.
    """
    try:
        with file.open("rb") as stream:
            begins = stream.read(12)
    except OSError as error:
        raise unreadable(error, file) from error
    webp = begins[:4] == b"RIFF" and begins[8:] == b"WEBP"
    if not webp and not begins.startswith((b"\xff\xd8", b"\x89PNG", b"BM")):
        return UPRIGHT
    return image_header(file).orientation


def image_size(file: Path) -> tuple[int, int]:
    """(width, height) in pixels from an image's header, as its EXIF orientation turns it.

    Raises SourceError for other files and for more than MAX_PIXELS pixels.
    """
    header = image_header(file)
    return header.width, header.height


def read_image(
    file: Path, owner: str = "", expected_wh: tuple[int, int] | None = None
) -> np.ndarray:
    """Decode an image, (H, W, 3) uint8 RGB, turned as its EXIF orientation says.

    Raises SourceError for a file that is missing, truncated, damaged or no image, that has more
    than MAX_PIXELS pixels, or another size than `expected_wh`, and for 16 bits of which only 12 are
    used; its `where` starts with `owner`, for example "log a, frame 3".
    """
    where = f"{owner}, file {file}" if owner else file
    try:
        data = read_regular(file, MAX_IMAGE_BYTES)
    except SourceError as error:
        raise SourceError(
            error.what, where=where, expected=error.expected, found=error.found, do=error.do
        ) from error
    _require_end(data, where)
    header = _header(data, where)
    if expected_wh is not None and (header.width, header.height) != expected_wh:
        raise SourceError(
            "an image has another size than the first of its camera",
            where=where,
            expected=f"{expected_wh[0]}x{expected_wh[1]}",
            found=f"{header.width}x{header.height}",
            do="correct or leave out this log; it is read again when its bytes change",
        )
    image = _turned(_decoded(data, where), header.orientation)
    if image.shape != (header.height, header.width, 3):
        raise _broken(where, f"{len(data)} bytes that cannot be decoded")
    return image


def _decoded(data: bytes, where: object) -> np.ndarray:
    """The pixels (H, W, 3) uint8 RGB as they are stored."""
    import cv2

    coded = np.frombuffer(data, np.uint8)
    deep = data[:4] == b"\x89PNG" and data[24:25] == b"\x10"
    flags = cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION
    if deep:
        flags |= cv2.IMREAD_ANYDEPTH
    try:
        if data[:2] == b"\xff\xd8":
            with jpeg_warnings() as warnings:
                image = cv2.imdecode(coded, flags)
            if warnings:
                raise _broken(where, f"damage inside the JPEG: {warnings[0]}")
        else:
            image = cv2.imdecode(coded, flags)
    except cv2.error as error:
        raise _broken(where, str(error).strip()) from error
    if image is None:
        raise _broken(where, f"{len(data)} bytes that cannot be decoded")
    if image.dtype == np.uint16:
        return _eight_bits(image, where)
    return image


def _eight_bits(image: np.ndarray, where: object) -> np.ndarray:
    """The upper 8 of 16 bits. Raises SourceError if only 12 are used: the image would be black."""
    largest = int(image.max())
    if 2**8 <= largest < TWELVE_BITS:
        raise SourceError(
            "an image of 16 bits holds at most 12",
            where=where,
            expected="pixels that use all 16 bits, or an image of 8 bits",
            found=f"a largest value of {largest} of 65535",
            do="write the images with 8 bits, or multiply their pixels by 16",
        )
    return (image >> 8).astype(np.uint8)


def _turned(image: np.ndarray, orientation: int) -> np.ndarray:
    """The image as its EXIF orientation, 1 to 8, shows it."""
    if orientation == UPRIGHT:
        return image
    if orientation >= ON_ITS_SIDE:
        image = image.swapaxes(0, 1)
    rows = -1 if orientation in (3, 4, 7, 8) else 1
    columns = -1 if orientation in (2, 3, 6, 7) else 1
    return np.ascontiguousarray(image[::rows, ::columns])


def _require_end(data: bytes, where: object) -> None:
    """Raises SourceError for a JPEG or PNG that ends before its image does.

    Decoders fill the missing part with grey and report success. What follows a whole image, a
    second one or a film, is no part of it.
    """
    if data[:2] == b"\xff\xd8" and not _jpeg_ends(data):
        raise _broken(where, f"a JPEG that ends after {len(data)} bytes without its end marker")
    if data[:4] == b"\x89PNG" and not _png_ends(data):
        raise _broken(where, f"a PNG that ends after {len(data)} bytes without its end chunk")


def _jpeg_ends(data: bytes) -> bool:
    """True if the end marker follows the segments and scans of a JPEG."""
    at = 2
    while at + 1 < len(data):
        if data[at] != 0xFF:
            found = data.find(b"\xff", at)
            if found < 0:
                return False
            at = found
            continue
        kind = data[at + 1]
        if kind == _END_OF_IMAGE:
            return True
        if kind == 0xFF:
            at += 1
            continue
        if kind in _ALONE or kind == 0:
            at += 2
            continue
        if at + 4 > len(data):
            return False
        at += 2 + max(struct.unpack_from(">H", data, at + 2)[0], 2)
        if kind == _START_OF_SCAN:
            marker = _MARKER.search(data, at)
            if marker is None:
                return False
            at = marker.start()
    return False


def _png_ends(data: bytes) -> bool:
    """True if the end chunk follows the chunks of a PNG."""
    at = 8
    while at + 12 <= len(data):
        size, kind = struct.unpack_from(">I4s", data, at)
        if kind == b"IEND":
            return True
        at += 12 + size
    return False


def _header(data: bytes, where: object) -> ImageHeader:
    from PIL import Image

    try:
        with Image.open(BytesIO(data), formats=FORMATS) as image:
            width, height = image.size
            exif = image.getexif() if image.format != "PNG" else _exif_of_png(image.info)
            orientation = exif.get(ORIENTATION, UPRIGHT)
    except Image.DecompressionBombError as error:
        raise too_large(where, f"at most {MAX_PIXELS} pixels", str(error)) from error
    # Pillow parses headers in Python: a forged one can raise nearly anything
    except Exception as error:
        found = f"{len(data)} bytes that are no image ({type(error).__name__}: {error})"
        raise _broken(where, found) from error
    if not 0 < width * height <= MAX_PIXELS:
        raise too_large(where, f"1 to {MAX_PIXELS} pixels", f"{width}x{height}")
    if orientation not in range(UPRIGHT, 9):
        orientation = UPRIGHT
    if orientation >= ON_ITS_SIDE:
        width, height = height, width
    return ImageHeader(width, height, orientation)


def _exif_of_png(info: dict[Any, Any]) -> Any:
    """The tags before the pixels; Pillow's getexif decodes the whole image for those behind."""
    from PIL import Image

    exif = Image.Exif()
    if "exif" in info:
        exif.load(info["exif"])
    return exif


def _broken(where: object, found: str) -> SourceError:
    return SourceError(
        "an image cannot be read",
        where=where,
        expected="a whole JPEG, PNG, WebP or BMP",
        found=found,
        do="download or write the image again; the log is read again when its bytes change",
    )
