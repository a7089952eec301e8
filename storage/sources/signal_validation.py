"""Refuses what cannot be a log: a folder without logs, signals that no vehicle can have driven,
fields of another kind.

Not the statistical data checks.
"""

from collections.abc import Callable, Iterable
from functools import wraps
from pathlib import Path
from typing import Any

import numpy as np

from storage.errors import SourceError
from storage.sources.contract import Signals

MAX_SPEED_MPS = 70.0  # 250 km/h; faster is a fault of the log
JUMP_SLACK_M = 5.0  # a pose may lie this much farther from its predecessor than the speeds say
# after a longer gap the speeds at its ends say nothing about the way between
GAP_US = 1_500_000


def validate_signals(signals: Signals, log_id: str, file: Path) -> Signals:
    """Return `signals` if they could be real, else raise SourceError naming the log and the first
    bad frame.
    """

    def refuse(rows: np.ndarray, what: str, expected: str, found: np.ndarray, do: str) -> None:
        if rows.any():
            row = int(np.flatnonzero(rows)[0])
            raise SourceError(
                what,
                where=f"log {log_id}, frame {signals.frame_index[row]}, file {file}",
                expected=expected,
                found=f"{found[row]} ({int(rows.sum())} frames are bad)",
                do=do,
            )

    repair = "correct or leave out this log; it is read again when its bytes change"
    for name in ("pose_world", "velocity_ego", "acceleration_ego"):
        values = getattr(signals, name)
        refuse(
            ~np.isfinite(values).all(axis=1),
            f"{name} is not a number",
            "finite values",
            values,
            repair,
        )
    time_us = signals.timestamp_us
    step_us = np.diff(time_us, prepend=time_us[:1] - 1)
    refuse(
        step_us <= 0,
        "time stamps go back or stand still",
        "strictly increasing microseconds",
        step_us,
        repair,
    )
    moved_m = np.hypot(
        *np.diff(signals.pose_world[:, :2], axis=0, prepend=signals.pose_world[:1, :2]).T
    )
    speed_mps = np.hypot(*signals.velocity_ego.T)
    faster_mps = np.maximum(speed_mps, np.roll(speed_mps, 1))
    faster_mps = np.where(
        step_us <= GAP_US, np.minimum(1.5 * faster_mps, MAX_SPEED_MPS), MAX_SPEED_MPS
    )
    reach_m = faster_mps * step_us * 1e-6 + JUMP_SLACK_M
    refuse(
        speed_mps > MAX_SPEED_MPS,
        "the ego speed is impossible",
        f"at most {MAX_SPEED_MPS} m/s",
        speed_mps,
        repair,
    )
    refuse(
        moved_m > reach_m,
        "the pose jumps",
        "a step in metres that agrees with the speed",
        moved_m,
        repair,
    )
    return signals


def require_logs(raw: Path, paths: Iterable[Path], layout: str) -> list[Path]:
    """The paths at which a raw folder's logs were found, sorted. Raises SourceError for a folder
    that is missing or holds none.
    """
    if not raw.is_dir():
        raise SourceError(
            "the raw folder does not exist",
            where=raw,
            expected=f"a folder with {layout}",
            found="a file" if raw.exists() else "nothing",
            do="give the folder with --raw",
        )
    found = sorted(paths)
    if not found:
        inside = sorted(item.name for item in raw.iterdir())
        more = f" and {len(inside) - 5} more" if len(inside) > 5 else ""
        raise SourceError(
            "there is no log in the raw folder",
            where=raw,
            expected=layout,
            found=", ".join(inside[:5]) + more if inside else "an empty folder",
            do="check the folder given with --raw, and its format with --source",
        )
    return found


def wrap_parse_errors(method: Callable[..., Any]) -> Callable[..., Any]:
    """A reader's method that answers fields of another shape or kind than its format has with
    SourceError.

    Raw logs are foreign data: whatever is wrong in one must set that log aside and not stop the
    others.
    """

    @wraps(method)
    def wrapper(self: Any, *arguments: Any) -> Any:
        try:
            return method(self, *arguments)
        except (
            KeyError,
            ValueError,
            TypeError,
            IndexError,
            AttributeError,
            OverflowError,
        ) as error:
            log_id = getattr(self, "log_id", arguments[0] if arguments else "")
            raise SourceError(
                "a log holds something that its format does not have",
                where=f"log {log_id}, read for {method.__name__}",
                expected=f"what storage.sources.{type(self).__module__.rsplit('.', 1)[-1]} describes",
                found=f"{type(error).__name__}: {error}",
                do="correct or leave out this log; it is read again when its bytes change",
            ) from error

    return wrapper
