"""Training rows and held-out rows of a training asset; never from the test split."""

from collections.abc import Sequence

import numpy as np

from storage.dataset import FrameSet, read_dataset
from storage.errors import ConfigError
from storage.grouping import rows_by_log
from storage.lake import Lake

HELD_OUT_SHARE = 0.2  # of the time that each training log was filmed, if there is no val log
HELD_OUT_LEAST_S = 1.0  # of a log with few images: two pairs of them, but never more than half


def train_and_heldout(
    lake: Lake, log_ids: Sequence[str], size_hw: tuple[int, int] | None, *, relabeled: bool = False
) -> tuple[FrameSet, FrameSet]:
    """Rows of the `train` and of the `val` logs among `log_ids`, with images of `size_hw`.

    If there is no `val` log, for example with a single recorded drive, the last HELD_OUT_SHARE of
    the time from each training log's first image to its last one is held out, and what follows.
    Raises ConfigError if there is no training row.
    """
    train = read_dataset(lake, "train", size_hw=size_hw, relabeled=relabeled, log_ids=log_ids)
    heldout = read_dataset(lake, "val", size_hw=size_hw, relabeled=relabeled, log_ids=log_ids)
    if not len(train):
        raise ConfigError(
            "there are no training rows",
            where=lake.root,
            expected="logs of split 'train'",
            found=f"{len(log_ids)} logs, none of this split",
            do="add training logs to the raw folder",
        )
    if len(heldout):
        return train, heldout
    late = is_late(train, HELD_OUT_SHARE)
    return train.take(~late), train.take(late)


def is_late(rows: FrameSet, share: float) -> np.ndarray:
    """Mask (N,) of the rows in the last `share` of the time from their log's first image to its
    last one, and after it; of a log without images, of its duration. So a log that has poses for
    longer than images is split where both parts have some.
    """
    late = np.zeros(len(rows), dtype=bool)
    for log_rows in rows_by_log(rows.log_id).values():
        time_us = rows.timestamp_us[log_rows]
        seen = rows.has_image[log_rows]
        filmed_us = time_us[seen] if seen.any() else time_us
        span_us = int(filmed_us[-1] - filmed_us[0])
        held_us = max(share * span_us, min(HELD_OUT_LEAST_S * 1e6, span_us / 2))
        late[log_rows] = time_us > filmed_us[-1] - held_us
    return late
