"""Reads JPEG and PNG files into RGB arrays; damaged files raise SourceError."""

from pathlib import Path

import numpy as np

from storage.errors import SourceError


def image_size(file: Path) -> tuple[int, int]:
    """(width, height) in pixels from an image's header. Raises SourceError for other files."""
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(file) as image:
            return image.size
    except (OSError, UnidentifiedImageError) as error:
        raise _broken(file, str(error)) from error


def read_image(file: Path, owner: str = "") -> np.ndarray:
    """Decode an image, (H, W, 3) uint8 RGB; its EXIF orientation is ignored.

    Raises SourceError for a file that is missing, truncated or no image; its `where` starts with
    `owner`, for example "log a, frame 3".
    """
    import cv2

    where = f"{owner}, file {file}" if owner else file
    try:
        data = file.read_bytes()
    except OSError as error:
        raise _broken(where, str(error)) from error
    # Decoders fill the missing part of a truncated file with grey and report success, so the end is
    # checked first.
    if data[:2] == b"\xff\xd8" and b"\xff\xd9" not in data[-64:]:
        raise _broken(where, f"a JPEG that ends after {len(data)} bytes without its end marker")
    if data[:4] == b"\x89PNG" and b"IEND" not in data[-64:]:
        raise _broken(where, f"a PNG that ends after {len(data)} bytes without its end chunk")
    flags = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
    image = cv2.imdecode(np.frombuffer(data, np.uint8), flags) if data else None
    if image is None:
        raise _broken(where, f"{len(data)} bytes that are no image")
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def _broken(where: object, found: str) -> SourceError:
    return SourceError(
        "an image cannot be read",
        where=where,
        expected="a whole JPEG or PNG",
        found=found,
        do="download or write the image again; the log is read again when its bytes change",
    )
