"""Reads encoded images to RGB arrays and refuses damaged ones. Not the frame store."""

from pathlib import Path

import numpy as np

from storage.errors import SourceError


def image_size(file: Path) -> tuple[int, int]:
    """(width, height) of an encoded image from its header. Raises SourceError if there is none."""
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(file) as image:
            return image.size
    except (OSError, UnidentifiedImageError) as error:
        raise _broken(file, str(error)) from error


def read_image(file: Path, whose: str = "") -> np.ndarray:
    """(H, W, 3) uint8 RGB. Raises SourceError, naming log and frame if `whose` gives them, for a
    file that is missing, truncated or no image.
    """
    import cv2

    where = f"{whose}, file {file}" if whose else file
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
