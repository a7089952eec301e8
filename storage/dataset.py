"""The rows of many logs as arrays in memory: the input of training and evaluation.

Rows are ordered by (log_id, frame_index). Legend: N rows, H x W pixels, 19 camera numbers, 4
history steps, 8 future steps, S code slots.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from storage.artifact import reading
from storage.camera import CAMERA_NUMBERS, camera_numbers
from storage.errors import ArtifactError
from storage.frame_store import read_calibration, read_frames
from storage.grouping import rows_by_log
from storage.lake import Lake
from storage.trajectory_table import (
    FUTURE_STEPS,
    HISTORY_STEPS,
    STEP_S,
    Command,
    code_layout,
    pairs_in_time,
    read_parquet,
    read_table,
)


@dataclass(frozen=True, slots=True)
class FrameSet:
    """Rows of the trajectories (or relabeled) table with their front-camera images."""

    log_id: np.ndarray  # (N,) object
    frame_index: np.ndarray  # (N,) int32
    timestamp_us: np.ndarray  # (N,) int64
    images: np.ndarray  # (N, H, W, 3) uint8 RGB; H = W = 0 when read without images
    has_image: np.ndarray  # (N,) bool
    # (N, 19) float32, camera_numbers of these images; zeros when read without images
    camera: np.ndarray
    pose_world: np.ndarray  # (N, 3) float64
    velocity: np.ndarray  # (N, 2) float32 ego frame m/s
    acceleration: np.ndarray  # (N, 2) float32 ego frame m/s2
    yaw_rate: np.ndarray  # (N,) float32 rad/s
    command: np.ndarray  # (N,) int64
    history: np.ndarray  # (N, 4, 3) float32 ego frame
    history_valid: np.ndarray  # (N, 4) bool
    future: np.ndarray  # (N, 8, 3) float32 ego frame
    future_valid: np.ndarray  # (N, 8) bool
    codes: np.ndarray  # (N, S) int64; S = 0 when not relabeled
    codes_valid: np.ndarray  # (N, S) bool
    tags: np.ndarray  # (N,) object, tuple of str

    def __len__(self) -> int:
        return len(self.log_id)

    @property
    def status(self) -> np.ndarray:
        """Ego status as planners read it, (N, 8) float32: vx, vy, ax, ay, one-hot command."""
        one_hot = np.eye(len(Command), dtype=np.float32)[self.command]
        return np.concatenate([self.velocity, self.acceleration, one_hot], axis=1, dtype=np.float32)

    @property
    def motion_status(self) -> np.ndarray:
        """Ego status as the VLM reads it, (N, 9) float32: `status` and the yaw rate in rad/s over
        the last 0.5 s, from poses that are known now (0 without a past).
        """
        past = np.where(self.history_valid[:, -1], -self.history[:, -1, 2] / STEP_S, 0.0)
        return np.concatenate([self.status, past[:, None]], axis=1, dtype=np.float32)

    def take(self, rows: np.ndarray) -> "FrameSet":
        """The given rows, by index or mask."""
        return FrameSet(*(getattr(self, name)[rows] for name in FrameSet.__slots__))

    @classmethod
    def concatenated(cls, parts: Sequence["FrameSet"]) -> "FrameSet":
        """The rows of all parts, one part after the other."""
        return cls(
            *(np.concatenate([getattr(part, name) for part in parts]) for name in cls.__slots__)
        )

    def without_images(self) -> "FrameSet":
        """The same rows without their images (H = W = 0): what scoring and grouping need."""
        return replace(self, images=self.images[:, :0, :0])

    def pairs(self, gap_s: float, tolerance_s: float = 0.06) -> np.ndarray:
        """Pairs of frames of one log that lie `gap_s` +- `tolerance_s` apart, both with an image:
        row indices (P, 2), earlier frame first.
        """
        pairs = []
        for rows in rows_by_log(self.log_id).values():
            early, late = rows[pairs_in_time(self.timestamp_us[rows], gap_s, tolerance_s)].T
            keep = self.has_image[early] & self.has_image[late]
            pairs.append(np.stack([early[keep], late[keep]], axis=1))
        return np.concatenate(pairs) if pairs else np.zeros((0, 2), dtype=np.int64)


def read_dataset(
    lake: Lake,
    split: str | None = None,
    *,
    size_hw: tuple[int, int] | None = None,
    relabeled: bool = False,
    log_ids: Sequence[str] | None = None,
) -> FrameSet:
    """Rows of one split (None: all) with images resized by area to `size_hw` (None: no images).

    `relabeled`: read each log's `relabeled` rows, which have the codes, instead of its
    `trajectories`. `log_ids`: read these logs only. Raises ArtifactError if the lake has no logs.
    """
    return frame_set_from_table(
        read_rows(lake, split, relabeled=relabeled, log_ids=log_ids), lake, size_hw
    )


def read_rows(
    lake: Lake,
    split: str | None = None,
    *,
    relabeled: bool = False,
    log_ids: Sequence[str] | None = None,
) -> pa.Table:
    """The rows of read_dataset as a table, ordered by (log_id, frame_index).

    Raises ArtifactError if the lake has no logs.
    """
    asset = "relabeled" if relabeled else "trajectories"
    logs = log_ids if log_ids is not None else lake.log_ids(asset)
    if not logs:
        raise ArtifactError(
            f"this lake has no {asset}",
            where=lake.root,
            expected="at least one log",
            do=f"run: latentvla run --until {asset}",
        )
    table = pa.concat_tables(
        [
            read_relabeled(lake, log) if relabeled else read_table(lake.log(asset, log), asset)
            for log in logs
        ]
    )
    if split is not None:
        table = table.filter(pc.field("split") == split)
    return table.sort_by([("log_id", "ascending"), ("frame_index", "ascending")])


def read_relabeled(lake: Lake, log_id: str, columns: Sequence[str] | None = None) -> pa.Table:
    """The rows of one log with their codes. Raises ArtifactError if it is not relabeled."""
    with reading(lake.log("relabeled", log_id)) as present:
        file = present / "relabeled.parquet"
        if not file.exists():
            raise ArtifactError(
                f"log '{log_id}' is not relabeled",
                where=file.parent,
                expected=file.name,
                do="run: latentvla run --until relabeled",
            )
        return read_parquet(file, columns=columns)


def frame_set_from_table(table: pa.Table, lake: Lake, size_hw: tuple[int, int] | None) -> FrameSet:
    """Turn a trajectories or relabeled table into arrays; read its images from the frame stores."""
    rows = len(table)

    def column(name: str, kind: type) -> np.ndarray:
        return table[name].to_numpy().astype(kind, copy=False)

    def listed(name: str, *shape: int) -> np.ndarray:
        return (
            table[name]
            .combine_chunks()
            .flatten()
            .to_numpy(zero_copy_only=False)
            .reshape(rows, *shape)
        )

    relabeled = "codes" in table.column_names
    slots = code_layout(table).slots if relabeled else 0
    log_id = table["log_id"].to_numpy()
    has_image = table["has_image"].to_numpy()
    images = np.zeros((rows, *(size_hw or (0, 0)), 3), dtype=np.uint8)
    camera = np.zeros((rows, CAMERA_NUMBERS), dtype=np.float32)
    if size_hw is not None:
        for log, rows_of_log in rows_by_log(log_id).items():
            where = rows_of_log[has_image[rows_of_log]]
            index = column("frame_index", np.int32)[where]
            with reading(lake.log("frames", log)) as present:
                images[where] = read_frames(present, index, size_hw=size_hw)
                camera[where] = camera_numbers(read_calibration(present, size_hw)[0])
    return FrameSet(
        log_id=log_id,
        frame_index=column("frame_index", np.int32),
        timestamp_us=column("timestamp_us", np.int64),
        images=images,
        has_image=has_image,
        camera=camera,
        pose_world=np.stack(
            [column(name, np.float64) for name in ("x_m", "y_m", "yaw_rad")], axis=1
        ),
        velocity=np.stack([column(name, np.float32) for name in ("vx_mps", "vy_mps")], axis=1),
        acceleration=np.stack(
            [column(name, np.float32) for name in ("ax_mps2", "ay_mps2")], axis=1
        ),
        yaw_rate=column("yaw_rate_radps", np.float32),
        command=column("command", np.int64),
        history=listed("history_xyyaw", HISTORY_STEPS, 3),
        history_valid=listed("history_valid", HISTORY_STEPS),
        future=listed("future_xyyaw", FUTURE_STEPS, 3),
        future_valid=listed("future_valid", FUTURE_STEPS),
        codes=listed("codes", slots).astype(np.int64)
        if relabeled
        else np.zeros((rows, slots), int),
        codes_valid=listed("codes_valid", slots) if relabeled else np.zeros((rows, slots), bool),
        tags=np.array([*map(tuple, table["tags"].to_pylist()), None], dtype=object)[:-1],
    )
