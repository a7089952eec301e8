"""Read the data of one log for its page: rows, codes, plans.

Legend: T frames.
"""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ops.ingest.quarantine import BY_HAND, quarantined
from storage.dataset import read_relabeled
from storage.errors import ArtifactError, unknown_name
from storage.lake import Lake
from storage.metrics_table import PLANS
from storage.trajectory_table import CodeLayout, code_layout, read_table


@dataclass(frozen=True, slots=True)
class LogView:
    """The tables of one log."""

    lake: Lake
    log_id: str
    rows: pa.Table  # trajectories
    has_frames: bool
    codes: np.ndarray | None  # (T, S) code slots, -1 where not valid
    code_layout: CodeLayout | None  # None without codes
    plans: dict[tuple[int, str], np.ndarray]  # (frame, planner) -> (8, 3)

    def column(self, name: str) -> np.ndarray:
        """One column of the trajectories as an array."""
        return self.rows[name].to_numpy(zero_copy_only=False)

    @property
    def seconds(self) -> np.ndarray:
        """Time since the first frame, (T,)."""
        time_us = self.column("timestamp_us")
        return (time_us - time_us[0]) / 1e6

    @property
    def distance_m(self) -> float:
        """Length of the driven path."""
        return float(np.hypot(np.diff(self.column("x_m")), np.diff(self.column("y_m"))).sum())


def read_log(lake: Lake, log_id: str) -> LogView:
    """Read tables, codes and plans of a log.

    Raises ConfigError with the closest log name if the log does not exist, and ArtifactError if it
    is quarantined or the lake has no trajectories.
    """
    known = lake.log_ids("trajectories")
    if log_id not in known and (record := quarantined(lake).get(log_id)) is not None:
        raise ArtifactError(
            f"log '{log_id}' is in quarantine and cannot be drawn",
            where=lake.quarantine,
            found=record.reason,
            do=f"take it back: latentvla release {log_id}"
            if record.fingerprint == BY_HAND
            else "repair or remove the raw log; it is read again when its bytes change",
        )
    if not known:
        raise ArtifactError(
            "no log of this lake has trajectories yet",
            where=lake.root,
            expected="trajectories/<log_id>",
            do="run: latentvla run --until trajectories",
        )
    if log_id not in known:
        raise unknown_name("log", log_id, known, listed_by="latentvla logs")
    rows = read_table(lake.log("trajectories", log_id), "trajectories").sort_by("frame_index")
    of_log = pc.field("log_id") == log_id
    codes, layout = None, None
    if (lake.log("relabeled", log_id) / "relabeled.parquet").exists():
        columns = ["frame_index", "codes", "codes_valid"]
        table = read_relabeled(lake, log_id, columns).sort_by("frame_index")
        if len(table) == len(rows):
            flat, valid = (
                np.stack(table[name].to_numpy(zero_copy_only=False))
                for name in ("codes", "codes_valid")
            )
            codes, layout = np.where(valid, flat, -1).astype(int), code_layout(table)
    plans, file = {}, lake.asset("evaluation") / "plans.parquet"
    if file.exists():
        for item in pq.read_table(file, schema=PLANS, filters=of_log).to_pylist():
            plans[item["frame_index"], item["planner"]] = np.reshape(item["plan_xyyaw"], (-1, 3))
    has_frames = log_id in lake.log_ids("frames")
    return LogView(lake, log_id, rows, has_frames, codes, layout, plans)
