"""Contact sheets: many small images in one picture."""

from collections.abc import Sequence

import cv2
import numpy as np

GAP = 4  # white pixels right of and below each image


def contact_sheet(
    images_THW3: np.ndarray,
    captions: Sequence[str] | None = None,
    columns: int = 6,
    width: int = 200,
) -> np.ndarray:
    """RGB images (T, H, W, 3) uint8 in rows of `columns`, each `width` pixels wide, as one picture
    (H, W, 3) uint8; with `captions`, each has its text in the upper left corner.
    """
    height = round(width * images_THW3.shape[1] / images_THW3.shape[2])
    rows = -(-len(images_THW3) // columns)
    sheet = np.full((rows * (height + GAP), columns * (width + GAP), 3), 255, np.uint8)
    interpolation = cv2.INTER_AREA if images_THW3.shape[2] > width else cv2.INTER_CUBIC
    for place, image in enumerate(images_THW3):
        small = cv2.resize(image, (width, height), interpolation=interpolation)
        if captions is not None:
            small = _captioned(np.ascontiguousarray(small), captions[place])
        top, left = (place // columns) * (height + GAP), (place % columns) * (width + GAP)
        sheet[top : top + height, left : left + width] = small
    return sheet


def _captioned(image: np.ndarray, text: str) -> np.ndarray:
    cv2.rectangle(image, (0, 0), (9 + 7 * len(text), 17), (20, 26, 36), -1)
    cv2.putText(
        image, text, (5, 13), cv2.FONT_HERSHEY_SIMPLEX, 0.4, (255, 255, 255), 1, cv2.LINE_AA
    )
    return image
