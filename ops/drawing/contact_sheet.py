"""Contact sheets: many small images in one picture."""

import cv2
import numpy as np


def contact_sheet(
    images_THW3: np.ndarray, words: list[str], columns: int = 6, width: int = 200
) -> np.ndarray:
    """Pictures in rows with a word in the corner of each, (H, W, 3) uint8."""
    height = round(width * images_THW3.shape[1] / images_THW3.shape[2])
    rows = -(-len(images_THW3) // columns)
    sheet = np.full((rows * (height + 4), columns * (width + 4), 3), 255, np.uint8)
    way = cv2.INTER_AREA if images_THW3.shape[2] > width else cv2.INTER_CUBIC
    for place, (image, word) in enumerate(zip(images_THW3, words, strict=True)):
        small = np.ascontiguousarray(cv2.resize(image, (width, height), interpolation=way))
        cv2.rectangle(small, (0, 0), (9 + 7 * len(word), 17), (20, 26, 36), -1)
        cv2.putText(
            small, word, (5, 13), cv2.FONT_HERSHEY_SIMPLEX, 0.4, (255, 255, 255), 1, cv2.LINE_AA
        )
        top, left = (place // columns) * (height + 4), (place % columns) * (width + 4)
        sheet[top : top + height, left : left + width] = small
    return sheet
