"""Training rows and held-out rows of a training asset; never from the test split."""

from collections.abc import Sequence

import numpy as np

from storage.dataset import FrameSet, read_dataset
from storage.errors import ConfigError
from storage.lake import Lake

HELD_OUT_SHARE = 0.2  # of each training log's duration, held out if there is no val log


def train_and_heldout(
    lake: Lake, log_ids: Sequence[str], size_hw: tuple[int, int] | None, *, relabeled: bool = False
) -> tuple[FrameSet, FrameSet]:
    """Rows of the `train` and of the `val` logs among `log_ids`, with images of `size_hw`.

    If there is no `val` log, for example with a single recorded drive, the last HELD_OUT_SHARE of
    each training log is held out. Raises ConfigError if there is no training row.
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
    """Mask (N,) of the rows in the last `share` of their log's duration."""
    late = np.zeros(len(rows), dtype=bool)
    for log_id in np.unique(rows.log_id):
        log_rows = np.flatnonzero(rows.log_id == log_id)
        time_us = rows.timestamp_us[log_rows]
        late[log_rows] = time_us > time_us[-1] - share * (time_us[-1] - time_us[0])
    return late
