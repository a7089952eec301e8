"""Reads JPEG and PNG files into RGB arrays; damaged files raise SourceError.

The size is taken from the header and judged before anything is decoded, because a file of a few
kilobytes can decode into gigabytes.
"""

from io import BytesIO
from pathlib import Path

import numpy as np

from storage.errors import SourceError
from storage.sources.raw_files import read_regular, too_large

MAX_IMAGE_BYTES = 256 * 2**20  # of a file
MAX_PIXELS = 64 * 2**20  # of one image, for example 8192 x 8192


def image_size(file: Path) -> tuple[int, int]:
    """(width, height) in pixels from an image's header.

    Raises SourceError for other files and for more than MAX_PIXELS pixels.
    """
    return _header_size(read_regular(file, MAX_IMAGE_BYTES), file)


def read_image(
    file: Path, owner: str = "", expected_wh: tuple[int, int] | None = None
) -> np.ndarray:
    """Decode an image, (H, W, 3) uint8 RGB; its EXIF orientation is ignored.

    Raises SourceError for a file that is missing, truncated or no image, that has more than
    MAX_PIXELS pixels, or another size than `expected_wh`; its `where` starts with `owner`, for
    example "log a, frame 3".
    """
    import cv2

    where = f"{owner}, file {file}" if owner else file
    try:
        data = read_regular(file, MAX_IMAGE_BYTES)
    except SourceError as error:
        raise SourceError(
            error.what, where=where, expected=error.expected, found=error.found, do=error.do
        ) from error
    # Decoders fill the missing part of a truncated file with grey and report success, so the end is
    # checked first.
    if data[:2] == b"\xff\xd8" and b"\xff\xd9" not in data[-64:]:
        raise _broken(where, f"a JPEG that ends after {len(data)} bytes without its end marker")
    if data[:4] == b"\x89PNG" and b"IEND" not in data[-64:]:
        raise _broken(where, f"a PNG that ends after {len(data)} bytes without its end chunk")
    width, height = _header_size(data, where)
    if expected_wh is not None and (width, height) != expected_wh:
        raise SourceError(
            "an image has another size than the first of its camera",
            where=where,
            expected=f"{expected_wh[0]}x{expected_wh[1]}",
            found=f"{width}x{height}",
            do="correct or leave out this log; it is read again when its bytes change",
        )
    flags = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error as error:
        raise _broken(where, str(error).strip()) from error
    if image is None or image.shape != (height, width, 3):
        raise _broken(where, f"{len(data)} bytes that cannot be decoded")
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def _header_size(data: bytes, where: object) -> tuple[int, int]:
    from PIL import Image

    try:
        with Image.open(BytesIO(data), formats=("JPEG", "PNG")) as image:
            width, height = image.size
    except Image.DecompressionBombError as error:
        raise too_large(where, f"at most {MAX_PIXELS} pixels", str(error)) from error
    # Pillow parses headers in Python: a forged one can raise nearly anything
    except Exception as error:
        found = f"{len(data)} bytes that are no image ({type(error).__name__}: {error})"
        raise _broken(where, found) from error
    if not 0 < width * height <= MAX_PIXELS:
        raise too_large(where, f"1 to {MAX_PIXELS} pixels", f"{width}x{height}")
    return width, height


def _broken(where: object, found: str) -> SourceError:
    return SourceError(
        "an image cannot be read",
        where=where,
        expected="a whole JPEG or PNG",
        found=found,
        do="download or write the image again; the log is read again when its bytes change",
    )
