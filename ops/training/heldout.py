"""Which rows a training asset learns from and which it is judged by while it learns. The test split
is neither.
"""

from collections.abc import Sequence

import numpy as np

from storage.dataset import FrameSet, read_dataset
from storage.errors import ConfigError
from storage.lake import Lake

HELD_OUT_SHARE = 0.2  # last part of each log in time that is held out where no log is


def train_and_heldout(
    lake: Lake, log_ids: Sequence[str], size_hw: tuple[int, int] | None, *, relabeled: bool = False
) -> tuple[FrameSet, FrameSet]:
    """Rows of the `train` and the `val` logs among `log_ids`.

    Without any `val` log, as in a folder with one recorded drive, the last fifth of each training
    log is held out. Raises ConfigError if there is nothing to learn from.
    """
    train = read_dataset(lake, "train", size_hw=size_hw, relabeled=relabeled, log_ids=log_ids)
    heldout = read_dataset(lake, "val", size_hw=size_hw, relabeled=relabeled, log_ids=log_ids)
    if not len(train):
        raise ConfigError(
            "there is no row to learn from",
            where=lake.root,
            expected="logs of split 'train'",
            found=f"{len(log_ids)} logs, none of them",
            do="add training logs to the raw folder",
        )
    if len(heldout):
        return train, heldout
    late = is_late(train, HELD_OUT_SHARE)
    return train.take(~late), train.take(late)


def is_late(rows: FrameSet, share: float) -> np.ndarray:
    """(N,) bool: the row lies in the last `share` of its log in time."""
    late = np.zeros(len(rows), dtype=bool)
    for log in np.unique(rows.log_id):
        mine = np.flatnonzero(rows.log_id == log)
        time_us = rows.timestamp_us[mine]
        late[mine] = time_us > time_us[-1] - share * (time_us[-1] - time_us[0])
    return late
