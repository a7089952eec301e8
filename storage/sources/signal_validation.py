"""Validation of raw logs: the raw folder, the physical plausibility of signals, parse errors.

The data rules of the finished tables are in `storage/expectations/`.
"""

from collections.abc import Callable, Iterable, Mapping
from functools import wraps
from pathlib import Path
from typing import Any

import numpy as np

from storage.errors import SourceError
from storage.sources.checked import (
    require_own_direction,
    require_own_speed,
    require_us,
    with_velocities,
)
from storage.sources.contract import Signals
from storage.sources.raw_files import REPAIR, raw_data_of, too_large, unreadable

MAX_SPEED_MPS = 70.0  # 250 km/h; faster is a fault of the log
JUMP_SLACK_M = 5.0  # a step between poses may exceed the recorded speeds by this much
# after a longer gap the recorded speeds do not bound the step, MAX_SPEED_MPS does
GAP_US = 1_500_000
MAX_FRAMES = 500_000  # of one log: 14 hours at 10 Hz


def validate_signals(signals: Signals, log_id: str, file: Path) -> Signals:
    """Return `signals` if a vehicle can have driven them; a log without any velocity gets that of
    its poses, with a note.

    Raises SourceError for more than MAX_FRAMES frames, and with the log and the first bad frame for
    time stamps that are no microseconds, values that are not finite, time stamps that do not
    increase, speeds above MAX_SPEED_MPS, poses that jump, and velocities that point elsewhere than
    the poses move.
    """
    if not 0 < len(signals.frame_index) <= MAX_FRAMES:
        raise too_large(
            f"log {log_id}, file {file}",
            f"1 to {MAX_FRAMES} frames",
            str(len(signals.frame_index)),
        )
    require_us(signals.timestamp_us, f"log {log_id}, file {file}")
    signals = with_velocities(signals)

    def check(bad: np.ndarray, what: str, expected: str, values: np.ndarray) -> None:
        if bad.any():
            row = int(np.flatnonzero(bad)[0])
            raise SourceError(
                what,
                where=f"log {log_id}, frame {signals.frame_index[row]}, file {file}",
                expected=expected,
                found=f"{values[row]} ({int(bad.sum())} frames are bad)",
                do=REPAIR,
            )

    for name in ("pose_world", "velocity_ego", "acceleration_ego"):
        values = getattr(signals, name)
        finite = np.isfinite(values).all(axis=1)
        check(~finite, f"{name} is not a number", "finite values", values)
    time_us = signals.timestamp_us
    step_us = np.diff(time_us, prepend=time_us[:1] - 1)
    check(
        step_us <= 0,
        "time stamps go back or stand still",
        "strictly increasing microseconds",
        step_us,
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
    check(
        speed_mps > MAX_SPEED_MPS,
        "the ego speed is impossible",
        f"at most {MAX_SPEED_MPS} m/s",
        speed_mps,
    )
    check(
        moved_m > reach_m,
        "the pose jumps",
        "a step in metres that agrees with the speed",
        moved_m,
    )
    require_own_direction(signals, f"log {log_id}, file {file}")
    require_own_speed(signals, f"log {log_id}, file {file}")
    return signals


def require_logs(
    raw: Path, paths: Iterable[Path], layout: str, refused: Mapping[str, SourceError] | None = None
) -> list[Path]:
    """The paths of a raw folder's logs, sorted; they are asked for once the folder is known to be
    one.

    `layout` describes where the format keeps its logs. Raises SourceError if the folder does not
    exist or cannot be read, or holds no log, not even one that was `refused`.
    """
    try:
        if not raw.is_dir():
            raise SourceError(
                "the raw folder does not exist",
                where=raw,
                expected=f"a folder with {layout}",
                found="a file" if raw.exists() else "nothing",
                do="give the folder with --raw",
            )
        logs = sorted(paths)
        names = [] if logs else sorted(item.name for item in raw.iterdir())
    except OSError as error:
        raise unreadable(error, None) from error
    if not logs and not refused:
        more = f" and {len(names) - 5} more" if len(names) > 5 else ""
        raise SourceError(
            "there is no log in the raw folder",
            where=raw,
            expected=layout,
            found=", ".join(names[:5]) + more if names else "an empty folder",
            do="check the folder given with --raw, and its format with --source",
        )
    return logs


def wrap_parse_errors(method: Callable[..., Any]) -> Callable[..., Any]:
    """Decorator of a reader's method: what a log's data make it raise becomes SourceError.

    So a log with fields of another type or shape, or with files that cannot be read, is quarantined
    and the others go on.
    """

    @wraps(method)
    def wrapper(self: Any, *arguments: Any) -> Any:
        log_id = getattr(self, "log_id", arguments[0] if arguments else "")
        expected = f"the format described in {type(self).__module__}"
        with raw_data_of(str(log_id), method.__name__, expected):
            return method(self, *arguments)

    return wrapper
